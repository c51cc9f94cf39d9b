// Every route, for every kind of bearer, on the own tenant and on another. A route that is added and
// is not in the table fails the first test.

import { describe, expect, test } from "vitest";
import { parseTenantId, parseTimelineId } from "../../src/core/ids.ts";
import type { Claims } from "../../src/core/permission.ts";
import { err, ok } from "../../src/core/result.ts";
import type { AuditEntry, RouteInfo } from "../../src/http/authorize.ts";
import { buildApp } from "../../src/http/server.ts";
import { TENANT, memoryManagement, timelineInfo } from "./memory-management.ts";

const ROUTES: Readonly<Record<string, "open" | "read" | "change" | "manage">> = {
  "GET /v1/status": "open",
  "GET /metrics": "manage",
  "POST /v1/shutdown": "manage",
  "POST /v1/reload_auth_validation_keys": "manage",
  "POST /v1/reload": "manage",
  "GET /openapi.json": "open",
  "PUT /v1/tenant/:tenant/location_config": "manage",
  "GET /v1/location_config": "manage",
  "GET /v1/location_config/:tenant": "read",
  "GET /v1/tenant/:tenant/config": "read",
  "PUT /v1/tenant/config": "manage",
  "PATCH /v1/tenant/config": "manage",
  "POST /v1/tenant/:tenant/wait_lsn": "read",
  "GET /v1/tenant/:tenant/timeline/:timeline/keyspace": "read",
  "GET /v1/tenant/:tenant/timeline/:timeline/getpage": "read",
  "POST /v1/job/:id/cancel": "manage",
  "GET /v1/tenant": "manage",
  "POST /v1/tenant": "manage",
  "GET /v1/tenant/:tenant": "read",
  "DELETE /v1/tenant/:tenant": "manage",
  "POST /v1/tenant/:tenant/attach": "manage",
  "POST /v1/backup/scrub": "manage",
  "POST /v1/backup/drill": "manage",
  "GET /v1/tenant/:tenant/timeline/:timeline/fullbackup": "read",
  "POST /v1/backup/rotate-keys": "manage",
  "POST /v1/tenant/:tenant/check": "read",
  "GET /v1/tenant/:tenant/retention": "read",
  "PUT /v1/tenant/:tenant/retention": "change",
  "GET /v1/tenant/:tenant/timeline": "read",
  "POST /v1/tenant/:tenant/timeline": "change",
  "GET /v1/tenant/:tenant/timeline/:timeline": "read",
  "PUT /v1/tenant/:tenant/timeline/:timeline/checkpoint": "change",
  "GET /v1/tenant/:tenant/timeline/:timeline/get_lsn_by_timestamp": "read",
  "GET /v1/tenant/:tenant/timeline/:timeline/get_timestamp_of_lsn": "read",
  "POST /v1/tenant/:tenant/timeline/:timeline/lsn_lease": "read",
  "GET /v1/tenant/:tenant/timeline/:timeline/snapshot": "read",
  "POST /v1/tenant/:tenant/timeline/:timeline/snapshot": "change",
  "DELETE /v1/tenant/:tenant/timeline/:timeline/snapshot/:name": "change",
  "GET /v1/tenant/:tenant/timeline/:timeline/lease": "read",
  "POST /v1/tenant/:tenant/timeline/:timeline/lease": "read",
  "DELETE /v1/tenant/:tenant/timeline/:timeline/lease": "change",
  "GET /v1/tenant/:tenant/timeline/:timeline/page": "read",
  "GET /v1/tenant/:tenant/timeline/:timeline/retention": "read",
  "PUT /v1/tenant/:tenant/timeline/:timeline/do_gc": "change",
  "PUT /v1/tenant/:tenant/timeline/:timeline/compact": "change",
  "DELETE /v1/tenant/:tenant/timeline/:timeline": "change",
  "POST /v1/tenant/:tenant/follow": "manage",
  "GET /v1/tenant/:tenant/compute": "read",
  "POST /v1/tenant/:tenant/compute": "manage",
  "DELETE /v1/tenant/:tenant/compute/:timeline": "manage",
  "GET /v1/job": "manage",
  "GET /v1/job/:id": "manage",
  "GET /": "open",
  "GET /ui": "open",
  "GET /ui/*": "open",
};

const MAIN = parseTimelineId("1".repeat(32));
const tenant = TENANT;
const BEARERS: Readonly<Record<string, Claims>> = {
  server: { scope: "pageserverapi" },
  tenant: { scope: "tenant", tenant, timeline: undefined },
  reader: { scope: "tenant:read", tenant, timeline: undefined },
  main: { scope: "tenant", tenant, timeline: MAIN },
  side: { scope: "tenant", tenant, timeline: parseTimelineId("2".repeat(32)) },
  other: { scope: "tenant", tenant: parseTenantId("f".repeat(32)), timeline: undefined },
};

/** Who may, on the tenant of the bearers: written out, so that it does not follow the code. */
function mayUse(bearer: string, permission: string, path: string): boolean {
  if (bearer === "server") return true;
  if (permission === "manage" || bearer === "other" || bearer === "side") return false;
  if (bearer === "tenant") return true;
  if (bearer === "reader") return permission === "read";
  return path.includes(":timeline");
}

function open(withTokens = true) {
  const routes: RouteInfo[] = [];
  const audited: AuditEntry[] = [];
  const memory = memoryManagement();
  memory.timelines.set("main", timelineInfo(MAIN, "main"));
  const app = buildApp(memory, {
    host: "127.0.0.1",
    onUnexpected: () => undefined,
    onRoute: (route) => routes.push(route),
    audit: (entry) => audited.push(entry),
    ...(withTokens && {
      checkToken: async (token: string) => {
        const claims = BEARERS[token];
        return claims === undefined ? err("this is not a signed token") : ok(claims);
      },
    }),
  });
  const call = (route: string, authorization?: string, named = tenant as string) => {
    const [method, path] = route.split(" ") as ["GET", string];
    const url = path.replace(":tenant", named).replace(":timeline", "main").replace(":id", "j");
    const headers = { host: "127.0.0.1", ...(authorization !== undefined && { authorization }) };
    return app.inject({ method, url, headers });
  };
  return { app, call, routes, audited, memory };
}

test("each route says what it needs, and stands in the table", async () => {
  const { app, routes } = open();
  await app.ready();
  const found = routes.filter(({ method }) => method !== "HEAD");
  const table = Object.fromEntries(found.map((r) => [`${r.method} ${r.path}`, r.permission]));
  expect(table).toEqual(ROUTES);
  const heads = routes.filter(({ method }) => method === "HEAD");
  for (const { path, permission } of heads) expect(permission).toBe(ROUTES[`GET ${path}`]);
});

describe("routes, bearers and tenants", () => {
  for (const [route, permission] of Object.entries(ROUTES)) {
    if (permission === "open") continue;
    test(route, async () => {
      const { call } = open();
      for (const bearer of Object.keys(BEARERS)) {
        for (const named of [tenant, "default"]) {
          const { statusCode } = await call(route, `Bearer ${bearer}`, named);
          const may = mayUse(bearer, permission, route);
          expect([bearer, named, statusCode !== 403]).toEqual([bearer, named, may]);
          expect(statusCode).not.toBe(401);
        }
        // The same bearers, for a tenant that is not theirs.
        const foreign = await call(route, `Bearer ${bearer}`, "e".repeat(32));
        expect([bearer, foreign.statusCode !== 403]).toEqual([bearer, bearer === "server"]);
      }
      for (const bad of [undefined, "", "Bearer", "Bearer nobody", "Basic server", "server"]) {
        const answer = await call(route, bad);
        expect([bad, answer.statusCode]).toEqual([bad, 401]);
        expect(answer.headers["www-authenticate"]).toBe("Bearer");
        expect(answer.json<{ msg: string }>().msg).toContain("JWT authentication error");
      }
    });
  }
});

test("refused requests change nothing", async () => {
  const { call, memory } = open();
  await call("POST /v1/shutdown");
  await call("POST /v1/shutdown", "Bearer tenant");
  await call("PUT /v1/tenant/:tenant/timeline/:timeline/checkpoint", "Bearer reader");
  expect(memory.asked).toMatchObject({ shutdowns: 0, checkpoints: 0 });
  await call("POST /v1/shutdown", "Bearer server");
  expect(memory.asked.shutdowns).toBe(1);
});

test("anybody sees that the server is there, and no more than that", async () => {
  const { call } = open();
  for (const authorization of [undefined, "Bearer nonsense", "Bearer tenant"]) {
    expect((await call("GET /v1/status", authorization)).json()).toEqual({ id: 1 });
  }
  expect((await call("GET /v1/status", "Bearer server")).json()).toHaveProperty("timelines");
});

test("without tokens everything is open, as it is on loopback", async () => {
  const { call } = open(false);
  expect((await call("GET /v1/tenant")).statusCode).toBe(200);
  expect((await call("GET /v1/status")).json()).toHaveProperty("timelines");
});

test("what changes something or is refused is in the audit log, without queries", async () => {
  const { call, audited, app } = open();
  await call("GET /v1/tenant/:tenant", "Bearer tenant");
  await call("GET /v1/tenant/:tenant?password=x", "Bearer other");
  await call("POST /v1/shutdown", "Bearer server");
  await call("GET /v1/tenant", "Bearer nobody");
  await app.close();
  expect(audited.map(({ method, path, status, scope }) => [method, path, status, scope])).toEqual([
    ["GET", `/v1/tenant/${tenant}`, 403, "tenant"],
    ["POST", "/v1/shutdown", 202, "pageserverapi"],
    ["GET", "/v1/tenant", 401, "nobody"],
  ]);
});
