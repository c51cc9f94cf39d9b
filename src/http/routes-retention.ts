// /v1/tenant/:tenant/timeline/:timeline: retention, do_gc and compact (as Neon's page server has them),
// deletion.

import Type from "typebox";
import { ok } from "../core/result.ts";
import {
  ChangeRetentionPolicy,
  DeletedTimelines,
  GcRequest,
  GcResult,
  RetentionInfo,
  RetentionPolicyInfo,
} from "../protocol/api-retention.ts";
import { route } from "./describe.ts";
import { answer } from "./errors.ts";
import type { Management } from "./management.ts";
import { parseTenantRef, parseTimelineRef } from "./params.ts";
import type { App } from "./server.ts";

const TIMELINE = "/v1/tenant/:tenant/timeline/:timeline";
const Params = Type.Object({ tenant: Type.String(), timeline: Type.String() });

/** `fetch`: with bytes, of layers that are in object storage only, too. */
const Detail = Type.Object({
  bytes: Type.Optional(Type.Boolean()),
  fetch: Type.Optional(Type.Boolean()),
});
const POLICY = "/v1/tenant/:tenant/retention";

function policyRoutes(app: App, management: Management): void {
  const params = Type.Object({ tenant: Type.String() });
  app.get(
    POLICY,
    {
      schema: { params },
      config: route("read", "how long history of a tenant is kept", RetentionPolicyInfo),
    },
    async (request, reply) =>
      answer(reply, await management.retentionPolicy(parseTenantRef(request.params.tenant), {})),
  );
  app.put(
    POLICY,
    {
      schema: { params, body: ChangeRetentionPolicy },
      config: route("change", "changes how long history of a tenant is kept", RetentionPolicyInfo),
    },
    async (request, reply) => {
      const tenant = parseTenantRef(request.params.tenant);
      return answer(reply, await management.retentionPolicy(tenant, request.body));
    },
  );
}

export function retentionRoutes(app: App, management: Management): void {
  app.get(
    `${TIMELINE}/retention`,
    {
      schema: { params: Params, querystring: Detail },
      config: route("read", "what is kept of a timeline, and why", RetentionInfo),
    },
    async (request, reply) => {
      const { tenant, timeline } = parse(request.params);
      const { bytes, fetch } = request.query;
      const detail = fetch === true ? "fetch" : bytes === true ? "bytes" : "brief";
      return answer(reply, await management.retention(tenant, timeline, detail));
    },
  );
  policyRoutes(app, management);

  app.put(
    `${TIMELINE}/do_gc`,
    {
      schema: { params: Params, body: GcRequest },
      config: route("change", "moves the cutoff of what is kept", GcResult),
    },
    async (request, reply) => {
      const { tenant, timeline } = parse(request.params);
      return answer(reply, await management.collect(tenant, timeline, request.body));
    },
  );

  app.put(
    `${TIMELINE}/compact`,
    {
      schema: { params: Params },
      config: route("change", "seals, and merges all layers", RetentionInfo),
    },
    async (request, reply) => {
      const { tenant, timeline } = parse(request.params);
      return answer(reply, await management.compact(tenant, timeline));
    },
  );

  const Query = Type.Object({ recursive: Type.Optional(Type.Boolean()) });
  app.delete(
    TIMELINE,
    {
      schema: { params: Params, querystring: Query },
      config: route(
        "change",
        "deletes a timeline and, if asked to, all that descend from it",
        DeletedTimelines,
      ),
    },
    async (request, reply) => {
      const { tenant, timeline } = parse(request.params);
      const recursive = request.query.recursive === true;
      const deleted = await management.deleteTimeline(tenant, timeline, recursive);
      return answer(reply, deleted.ok ? ok({ deleted: deleted.value }) : deleted);
    },
  );
}

function parse(params: { readonly tenant: string; readonly timeline: string }) {
  return { tenant: parseTenantRef(params.tenant), timeline: parseTimelineRef(params.timeline) };
}
