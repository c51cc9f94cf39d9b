// Routes that only tools written for Neon's page server ask for: locations, configuration, key ranges, a
// bare page, waiting. A tenant is on one node and in one piece here; what would say otherwise is refused.

import Type from "typebox";
import { MalformedInput } from "../core/assert.ts";
import { parseTenantId, parseTimelineId } from "../core/ids.ts";
import { WAIT_LSN_MS_MAX } from "../core/limits.ts";
import { Lsn } from "../core/lsn.ts";
import { err, ok } from "../core/result.ts";
import {
  Keyspace,
  type LocationConfig,
  LocationConfig as LocationConfigRequest,
  LocationConfigAnswer,
  Locations,
  TenantConfig,
  TenantConfigInfo,
  TenantConfigRequest,
  WaitLsnRequest,
} from "../protocol/api-compat.ts";
import { Bytes, Nothing, route } from "./describe.ts";
import { answer } from "./errors.ts";
import type { Management } from "./management.ts";
import { parseDumpTarget, parseTenantRef, parseTimelineRef } from "./params.ts";
import type { App } from "./server.ts";

const TIMELINE = "/v1/tenant/:tenant/timeline/:timeline";
const TenantParams = Type.Object({ tenant: Type.String() });
const Params = Type.Object({ tenant: Type.String(), timeline: Type.String() });

export function compatRoutes(app: App, management: Management): void {
  locationRoutes(app, management);
  configRoutes(app, management);
  readRoutes(app, management);
}

/** All of an attached tenant: there is no other node and no shard. */
const attached = (tenant_conf: TenantConfig): LocationConfig => ({
  mode: "AttachedSingle",
  shard_number: 0,
  shard_count: 0,
  shard_stripe_size: 0,
  tenant_conf,
});

function locationRoutes(app: App, management: Management): void {
  const locate = route(
    "manage",
    "attaches a tenant: makes it if it is not there",
    LocationConfigAnswer,
  );
  app.put(
    "/v1/tenant/:tenant/location_config",
    { schema: { params: TenantParams, body: LocationConfigRequest }, config: locate },
    async (request, reply) => {
      const id = parseTenantId(request.params.tenant);
      const ref = { kind: "id", id } as const;
      const { mode, shard_count: shards = 0, tenant_conf } = request.body;
      if (shards > 1) throw new MalformedInput("tenants have no shards here");
      if (mode === "Secondary") throw new MalformedInput("there are no secondary locations here");
      if (mode === "Detached") {
        const found = await management.getTenant(ref);
        if (!found.ok && found.error.kind === "not-found") return reply.code(200).send(null);
        const message =
          "this server has the only copy of a tenant, so it is not detached; if it is meant to go: DELETE";
        return answer(reply, err({ kind: "precondition", message }));
      }
      const made = await management.createTenant(id);
      if (!made.ok) return answer(reply, made);
      const set = await management.setTenantConfig(ref, tenant_conf, "replace");
      if (!set.ok) return answer(reply, set);
      const status = await management.status();
      if (!status.ok) return answer(reply, status);
      const shard = { shard_id: id, node_id: status.value.id };
      return answer(reply, ok({ shards: [shard], stripe_size: null }));
    },
  );

  const all = route("manage", "where tenants are: all are attached here", Locations);
  app.get("/v1/location_config", { config: all }, async (_request, reply) => {
    const tenants = await management.listTenants();
    if (!tenants.ok) return answer(reply, tenants);
    const found: [string, LocationConfig][] = [];
    for (const { id } of tenants.value) {
      const config = await management.tenantConfig(parseTenantRef(id));
      found.push([id, attached(config.ok ? config.value.tenant_specific_overrides : {})]);
    }
    return answer(reply, ok({ tenant_shards: found }));
  });

  const one = route("read", "where a tenant is: attached here", LocationConfigRequest);
  app.get(
    "/v1/location_config/:tenant",
    { schema: { params: TenantParams }, config: one },
    async (request, reply) => {
      const config = await management.tenantConfig(parseTenantRef(request.params.tenant));
      if (!config.ok) return answer(reply, config);
      return answer(reply, ok(attached(config.value.tenant_specific_overrides)));
    },
  );
}

function configRoutes(app: App, management: Management): void {
  app.get(
    "/v1/tenant/:tenant/config",
    {
      schema: { params: TenantParams },
      config: route("read", "how long history of a tenant is kept", TenantConfigInfo),
    },
    async (request, reply) =>
      answer(reply, await management.tenantConfig(parseTenantRef(request.params.tenant))),
  );

  for (const [method, how] of [
    ["PUT", "replace"],
    ["PATCH", "patch"],
  ] as const) {
    // The tenant stands in the body, which is read after permissions are looked at.
    const config = route("manage", `${how}s how long history of a tenant is kept`, Nothing);
    app.route({
      method,
      url: "/v1/tenant/config",
      schema: { body: TenantConfigRequest },
      config,
      handler: async (request, reply) => {
        const { tenant_id: tenant, ...given } = request.body;
        const ref = { kind: "id", id: parseTenantId(tenant) } as const;
        return answer(reply, await management.setTenantConfig(ref, given, how));
      },
    });
  }
}

function readRoutes(app: App, management: Management): void {
  const AtLsn = Type.Object({ at_lsn: Type.Optional(Type.String()) });
  app.get(
    `${TIMELINE}/keyspace`,
    {
      schema: { params: Params, querystring: AtLsn },
      config: route("read", "all pages that exist at an LSN, as ranges of keys", Keyspace),
    },
    async (request, reply) => {
      const { tenant, timeline } = parse(request.params);
      const { at_lsn: lsn } = request.query;
      const at = lsn === undefined ? undefined : Lsn.parse(lsn);
      return answer(reply, await management.keyspace(tenant, timeline, at));
    },
  );

  const Page = Type.Object({ key: Type.String(), lsn: Type.Optional(Type.String()) });
  app.get(
    `${TIMELINE}/getpage`,
    {
      schema: { params: Params, querystring: Page },
      config: route("read", "the bytes of one page", Bytes),
    },
    async (request, reply) => {
      const { tenant, timeline } = parse(request.params);
      const { key, lsn } = request.query;
      const target = parseDumpTarget(undefined, undefined, key);
      const at = lsn === undefined ? undefined : Lsn.parse(lsn);
      const dumped = await management.dumpPage(tenant, timeline, target, at);
      if (!dumped.ok) return answer(reply, dumped);
      if (dumped.value.page === undefined) throw new MalformedInput("this key is not a page");
      return reply.type("application/octet-stream").send(Buffer.from(dumped.value.page));
    },
  );

  app.post(
    "/v1/tenant/:tenant/wait_lsn",
    {
      schema: { params: TenantParams, body: WaitLsnRequest },
      config: route(
        "read",
        "waits until timelines have come so far; 202 if they have not",
        Nothing,
      ),
    },
    async (request, reply) => {
      const { timeout, ...lsns } = request.body;
      const asked = timeout === undefined ? Infinity : timeout.secs * 1e3 + timeout.nanos / 1e6;
      const wanted = Object.entries(lsns).map(([timeline, lsn]) => ({
        timeline: parseTimelineId(timeline),
        lsn: Lsn.parse(String(lsn)),
      }));
      const tenant = parseTenantRef(request.params.tenant);
      const come = await management.waitLsn(tenant, wanted, Math.min(asked, WAIT_LSN_MS_MAX));
      if (!come.ok) return answer(reply, come);
      return answer(reply, ok(null), come.value ? 200 : 202);
    },
  );
}

function parse(params: { readonly tenant: string; readonly timeline: string }) {
  return { tenant: parseTenantRef(params.tenant), timeline: parseTimelineRef(params.timeline) };
}
