// Long work: follow a primary, start and stop computes, and the jobs that show its steps. Following
// opens connections and computes are processes of this machine, so a tenant's token is not enough.

import Type from "typebox";
import { MalformedInput } from "../core/assert.ts";
import { parseTimelineId } from "../core/ids.ts";
import { Lsn } from "../core/lsn.ts";
import { ComputeInfo, FollowRequest, Job, StartComputeRequest } from "../protocol/api-work.ts";
import { route } from "./describe.ts";
import { answer } from "./errors.ts";
import type { BranchPoint, Management } from "./management.ts";
import { parseMoment, parseTenantRef, parseTimelineRef } from "./params.ts";
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
        at: parseAt(request.body),
        settings: settings ?? {},
      };
      const tenant = parseTenantRef(request.params.tenant);
      return answer(reply, await management.computeStart(tenant, start), 202);
    },
  );

  const Which = Type.Object({ lsn: Type.Optional(Type.String()) });
  app.delete(
    "/v1/tenant/:tenant/compute/:timeline",
    {
      schema: { params: TimelineParams, querystring: Which },
      config: route(
        "manage",
        "stops the compute of a timeline, or the one that shows an LSN",
        Job,
        202,
      ),
    },
    async (request, reply) => {
      const tenant = parseTenantRef(request.params.tenant);
      const timeline = parseTimelineRef(request.params.timeline);
      const { lsn } = request.query;
      const at = lsn === undefined ? undefined : Lsn.parse(lsn);
      return answer(reply, await management.computeStop(tenant, timeline, at), 202);
    },
  );
}

/** The moment that a compute is to show; undefined: it is to write. */
function parseAt(body: StartComputeRequest): BranchPoint | undefined {
  const { read_only: readOnly, replace, lsn, timestamp, snapshot } = body;
  const at = parseMoment({ lsn, timestamp, snapshot });
  if (readOnly !== true && at.kind !== "latest") {
    throw new MalformedInput("a compute that shows a moment takes no writes: say read_only");
  }
  if (readOnly === true && replace === true) {
    throw new MalformedInput("replace is for the compute that writes, and this one does not");
  }
  return readOnly === true ? at : undefined;
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
