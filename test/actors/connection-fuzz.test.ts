// The short form of what `npm run verify:security` does with 100,000 conversations: a tenth of them, from a
// seed, against the page service in this process. Nobody gets in without a token, or what is another's.

import { expect, test } from "vitest";
import { parseTenantId } from "../../src/core/ids.ts";
import { err, ok } from "../../src/core/result.ts";
import type { Claims } from "../../src/core/permission.ts";
import { PageClient } from "../support/page-client.ts";
import { TENANT, TIMELINE, pageServiceOfTest } from "../support/page-service.ts";
import { Random } from "../verify/random.ts";
import { fuzz } from "../verify/security-fuzz.ts";

const CASES = 10_000;
const SEED = 20_260_101;
const TOKEN = "header.claims.signature";
const OWN: Claims = { scope: "tenant", tenant: parseTenantId(TENANT), timeline: undefined };

const { start, service } = pageServiceOfTest();

test("mangled conversations end, and get nothing that the token is not for", async () => {
  await start({
    authenticate: () => ({
      kind: "ask-password",
      check: async (password) => (password === TOKEN ? ok(OWN) : err("wrong")),
    }),
  });
  const other = { other: "b".repeat(32), otherTimeline: "c".repeat(32) };
  const target = { port: service().port, token: TOKEN, tenant: TENANT, timeline: TIMELINE };
  expect(await fuzz(new Random(SEED), CASES, { ...target, ...other })).toEqual([]);
  await expect.poll(() => service().count(), { timeout: 10_000 }).toBe(0);
  expect(service().lines.filter(({ msg }) => /crash|internal error/.test(msg))).toEqual([]);
  const client = await PageClient.connect({ port: service().port, password: TOKEN });
  const stream = await client.pagestream(TENANT, TIMELINE, 3);
  const page = await stream.getPage({ spc: 1663, db: 5, rel: 16384, fork: 0 }, 0);
  expect(page).toHaveLength(8192);
  await client.close();
}, 180_000);
