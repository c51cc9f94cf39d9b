// Long work: follow a primary, start and stop computes, and the jobs that show its steps. Following
// opens connections and computes are processes of this machine, so a tenant's token is not enough.

import Type from "typebox";
import { parseTimelineId } from "../core/ids.ts";
import { ComputeInfo, FollowRequest, Job, StartComputeRequest } from "../protocol/api-work.ts";
import { route } from "./describe.ts";
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
    {
      schema: { params: TenantParams, body: FollowRequest },
      config: route("manage", "follows a PostgreSQL: base backup, then its WAL", Job, 202),
    },
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
    {
      schema: { params: TenantParams },
      config: route("read", "computes of a tenant", Type.Array(ComputeInfo)),
    },
    async (request, reply) =>
      answer(reply, await management.listComputes(parseTenantRef(request.params.tenant))),
  );

  app.post(
    "/v1/tenant/:tenant/compute",
    {
      schema: { params: TenantParams, body: StartComputeRequest },
      config: route("manage", "starts a compute on a timeline", Job, 202),
    },
    async (request, reply) => {
      const { timeline, port, dir, synchronous, diskless, replace, settings } = request.body;
      const start = {
        timeline: parseTimelineRef(timeline),
        port,
        dir,
        synchronous: synchronous ?? true,
        diskless: diskless ?? true,
        replace: replace ?? false,
        settings: settings ?? {},
      };
      const tenant = parseTenantRef(request.params.tenant);
      return answer(reply, await management.computeStart(tenant, start), 202);
    },
  );

  app.delete(
    "/v1/tenant/:tenant/compute/:timeline",
    {
      schema: { params: TimelineParams },
      config: route("manage", "stops the compute of a timeline", Job, 202),
    },
    async (request, reply) => {
      const tenant = parseTenantRef(request.params.tenant);
      const timeline = parseTimelineRef(request.params.timeline);
      return answer(reply, await management.computeStop(tenant, timeline), 202);
    },
  );
}

function jobRoutes(app: App, management: Management): void {
  app.get(
    "/v1/job",
    { config: route("manage", "long work, under way and ended", Type.Array(Job)) },
    async (_request, reply) => answer(reply, await management.listJobs()),
  );

  const Wait = Type.Object({
    wait_ms: Type.Optional(Type.Integer({ minimum: 0, maximum: JOB_WAIT_MS_MAX })),
  });
  app.get(
    "/v1/job/:id",
    {
      schema: { params: Type.Object({ id: Type.String() }), querystring: Wait },
      config: route("manage", "long work; waits for its end if asked to", Job),
    },
    async (request, reply) =>
      answer(reply, await management.getJob(request.params.id, request.query.wait_ms ?? 0)),
  );

  app.post(
    "/v1/job/:id/cancel",
    {
      schema: { params: Type.Object({ id: Type.String() }) },
      config: route("manage", "tells long work to give up; watch it to see that it has", Job, 202),
    },
    async (request, reply) => answer(reply, await management.cancelJob(request.params.id), 202),
  );
}
