// Long work: follow a primary, start and stop computes, and the jobs that show its steps. Following
// opens connections and computes are processes of this machine, so a tenant's token is not enough.

import Type from "typebox";
import { parseTimelineId } from "../core/ids.ts";
import { FollowRequest, StartComputeRequest } from "../protocol/api-work.ts";
import { answer } from "./errors.ts";
import type { Management } from "./management.ts";
import { parseTenantRef, parseTimelineRef } from "./params.ts";
import type { App } from "./server.ts";

/** The longest a request waits for a job's end, ms: below what proxies and clients cut off. */
export const JOB_WAIT_MS_MAX = 30_000;

const TenantParams = Type.Object({ tenant: Type.String() });
const TimelineParams = Type.Object({ tenant: Type.String(), timeline: Type.String() });

export function workRoutes(app: App, management: Management): void {
  app.post(
    "/v1/tenant/:tenant/follow",
    { schema: { params: TenantParams, body: FollowRequest }, config: { permission: "manage" } },
    async (request, reply) => {
      const { conninfo, name, new_timeline_id: id, max_rate_bytes, slot } = request.body;
      const follow = {
        conninfo,
        name,
        timelineId: id === undefined ? undefined : parseTimelineId(id),
        maxRateBytes: max_rate_bytes,
        slot,
      };
      const tenant = parseTenantRef(request.params.tenant);
      return answer(reply, await management.follow(tenant, follow), 202);
    },
  );
  computeRoutes(app, management);
  jobRoutes(app, management);
}

function computeRoutes(app: App, management: Management): void {
  app.get(
    "/v1/tenant/:tenant/compute",
    { schema: { params: TenantParams }, config: { permission: "read" } },
    async (request, reply) =>
      answer(reply, await management.listComputes(parseTenantRef(request.params.tenant))),
  );

  app.post(
    "/v1/tenant/:tenant/compute",
    {
      schema: { params: TenantParams, body: StartComputeRequest },
      config: { permission: "manage" },
    },
    async (request, reply) => {
      const { timeline, port, dir, synchronous, diskless, settings } = request.body;
      const start = {
        timeline: parseTimelineRef(timeline),
        port,
        dir,
        synchronous: synchronous ?? true,
        diskless: diskless ?? true,
        settings: settings ?? {},
      };
      const tenant = parseTenantRef(request.params.tenant);
      return answer(reply, await management.computeStart(tenant, start), 202);
    },
  );

  app.delete(
    "/v1/tenant/:tenant/compute/:timeline",
    { schema: { params: TimelineParams }, config: { permission: "manage" } },
    async (request, reply) => {
      const tenant = parseTenantRef(request.params.tenant);
      const timeline = parseTimelineRef(request.params.timeline);
      return answer(reply, await management.computeStop(tenant, timeline), 202);
    },
  );
}

function jobRoutes(app: App, management: Management): void {
  app.get("/v1/job", { config: { permission: "manage" } }, async (_request, reply) =>
    answer(reply, await management.listJobs()),
  );

  const Wait = Type.Object({
    wait_ms: Type.Optional(Type.Integer({ minimum: 0, maximum: JOB_WAIT_MS_MAX })),
  });
  app.get(
    "/v1/job/:id",
    {
      schema: { params: Type.Object({ id: Type.String() }), querystring: Wait },
      config: { permission: "manage" },
    },
    async (request, reply) =>
      answer(reply, await management.getJob(request.params.id, request.query.wait_ms ?? 0)),
  );
}
