// Every command of the page service, for every kind of bearer, on the own tenant and on another. A
// command that is added and is not in the table does not compile.

import { afterEach, beforeEach, expect, test } from "vitest";
import { parseTenantId, parseTimelineId } from "../../src/core/ids.ts";
import type { Claims } from "../../src/core/permission.ts";
import { err, ok } from "../../src/core/result.ts";
import { type PageServiceCommand, parseCommand } from "../../src/protocol/page-service-command.ts";
import {
  TENANT,
  TIMELINE,
  type TestPageService,
  startPageService,
} from "../support/page-service.ts";
import { converse, message, query, startupPacket } from "../support/raw-link.ts";

const OTHER = "e".repeat(32);

/** A command of each kind on a tenant; "all": nobody needs a permission for it. */
const COMMANDS: Readonly<
  Record<PageServiceCommand["kind"], { readonly texts: (tenant: string) => string[]; all?: true }>
> = {
  pagestream: {
    texts: (t) => [`pagestream_v2 ${t} ${TIMELINE}`, `pagestream_v3 ${t} ${TIMELINE}`],
  },
  basebackup: {
    texts: (t) => [`basebackup ${t} ${TIMELINE}`, `BaseBackup ${t} ${TIMELINE} latest --gzip`],
  },
  fullbackup: { texts: (t) => [`fullbackup ${t} ${TIMELINE}`] },
  "lease-lsn": {
    texts: (t) => [`lease lsn ${t} ${TIMELINE} 0/10`, `lease lsn ${t}-0001 ${TIMELINE} 0/10`],
  },
  set: { texts: () => ["set x to y"], all: true },
};

const tenant = parseTenantId(TENANT);
const BEARERS: Readonly<Record<string, { claims: Claims; own: boolean; other: boolean }>> = {
  server: { claims: { scope: "pageserverapi" }, own: true, other: true },
  tenant: { claims: { scope: "tenant", tenant, timeline: undefined }, own: true, other: false },
  reader: {
    claims: { scope: "tenant:read", tenant, timeline: undefined },
    own: true,
    other: false,
  },
  main: {
    claims: { scope: "tenant", tenant, timeline: parseTimelineId(TIMELINE) },
    own: true,
    other: false,
  },
  side: {
    claims: { scope: "tenant", tenant, timeline: parseTimelineId(OTHER) },
    own: false,
    other: false,
  },
};

let service: TestPageService;
beforeEach(async () => {
  service = await startPageService({
    lease: () => 1,
    authenticate: () => ({
      kind: "ask-password",
      check: async (token) => {
        const bearer = BEARERS[token];
        return bearer === undefined ? err("JWT authentication error") : ok(bearer.claims);
      },
    }),
  });
});
afterEach(() => service.stop());

const say = async (token: string, ...then: Buffer[]): Promise<string> => {
  const login = [startupPacket(), message("p", `${token}\0`)];
  return (await converse(service.port, [...login, ...then, message("X")])).toString("latin1");
};
const DENIED = "MJWT authentication error\0";

for (const [kind, { texts, all = false }] of Object.entries(COMMANDS)) {
  test(`${kind}: by simple and by extended protocol`, async () => {
    for (const [bearer, may] of Object.entries(BEARERS)) {
      for (const [named, permitted] of [
        [TENANT, may.own],
        [OTHER, may.other],
      ] as const) {
        for (const text of texts(named)) {
          const parsed = parseCommand(text);
          expect(parsed.ok && parsed.value.kind).toBe(kind);
          const simple = await say(bearer, query(text));
          const extended = await say(
            bearer,
            message("P", `\0${text}\0\0\0`),
            message("B", Buffer.alloc(8)),
            message("E", "\0\0\0\0\0"),
            message("S"),
          );
          for (const heard of [simple, extended]) {
            const refused = heard.includes(DENIED);
            expect([bearer, text, !refused]).toEqual([bearer, text, all || permitted]);
          }
        }
      }
    }
  });
}

test("no command is heard before the token is found good", async () => {
  const lease = query(`lease lsn ${TENANT} ${TIMELINE} 0/10`);
  for (const token of ["", "nobody"]) {
    const heard = await say(token, lease);
    expect(heard).toContain(DENIED);
    expect(heard).not.toContain("valid_until");
  }
  const before = await converse(service.port, [startupPacket(), lease]);
  expect(before.toString("latin1")).not.toContain("valid_until");
});
