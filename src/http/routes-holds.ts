// /v1/tenant/:tenant/timeline/:timeline: named snapshots and leases. A reader may lease, as computes at
// a fixed LSN must; what is held longer, or let go, is a change.

import Type from "typebox";
import { MalformedInput } from "../core/assert.ts";
import { LEASE_MS_MAX } from "../core/limits.ts";
import { Lsn } from "../core/lsn.ts";
import { ok } from "../core/result.ts";
import {
  AcquireLeaseRequest,
  CreateSnapshotRequest,
  DeletedSnapshot,
  LeaseInfo,
  ReleaseLeasesQuery,
  ReleasedLeases,
  SnapshotInfo,
} from "../protocol/api-holds.ts";
import { route } from "./describe.ts";
import { answer } from "./errors.ts";
import type { Management } from "./management.ts";
import { parseMoment, parseTenantRef, parseTimelineRef } from "./params.ts";
import type { App } from "./server.ts";

const TIMELINE = "/v1/tenant/:tenant/timeline/:timeline";
const Params = Type.Object({ tenant: Type.String(), timeline: Type.String() });

export function holdsRoutes(app: App, management: Management): void {
  snapshotRoutes(app, management);
  leaseRoutes(app, management);
}

function snapshotRoutes(app: App, management: Management): void {
  const path = `${TIMELINE}/snapshot` as const;
  app.get(
    path,
    {
      schema: { params: Params },
      config: route("read", "named snapshots of a timeline", Type.Array(SnapshotInfo)),
    },
    async (request, reply) => {
      const { tenant, timeline } = parse(request.params);
      return answer(reply, await management.snapshots(tenant, timeline));
    },
  );

  app.post(
    path,
    {
      schema: { params: Params, body: CreateSnapshotRequest },
      config: route(
        "change",
        "makes a named snapshot; the same name and moment again answers the existing one",
        SnapshotInfo,
        201,
      ),
    },
    async (request, reply) => {
      const { tenant, timeline } = parse(request.params);
      const { name, lsn, timestamp } = request.body;
      const at = parseMoment({ lsn, timestamp });
      return answer(reply, await management.createSnapshot(tenant, timeline, name, at), 201);
    },
  );

  const Named = Type.Object({ ...Params.properties, name: Type.String() });
  app.delete(
    `${path}/:name`,
    {
      schema: { params: Named },
      config: route("change", "deletes a named snapshot", DeletedSnapshot),
    },
    async (request, reply) => {
      const { tenant, timeline } = parse(request.params);
      const { name } = request.params;
      const deleted = await management.deleteSnapshot(tenant, timeline, name);
      return answer(reply, deleted.ok ? ok({ deleted: name }) : deleted);
    },
  );
}

function leaseRoutes(app: App, management: Management): void {
  const path = `${TIMELINE}/lease` as const;
  app.get(
    path,
    {
      schema: { params: Params },
      config: route("read", "leases that have not ended", Type.Array(LeaseInfo)),
    },
    async (request, reply) => {
      const { tenant, timeline } = parse(request.params);
      return answer(reply, await management.leases(tenant, timeline));
    },
  );

  app.post(
    path,
    {
      schema: { params: Params, body: AcquireLeaseRequest },
      config: route("read", "takes a lease, or renews it", LeaseInfo, 201),
    },
    async (request, reply) => {
      const { tenant, timeline } = parse(request.params);
      const { owner, lsn, timestamp, duration_ms: durationMs } = request.body;
      if (durationMs !== undefined && durationMs > LEASE_MS_MAX) {
        throw new MalformedInput(
          `a lease lasts at most ${LEASE_MS_MAX} ms, and is renewed; what should stay is a snapshot`,
        );
      }
      const at = parseMoment({ lsn, timestamp });
      const lease = { owner, at, durationMs };
      return answer(reply, await management.acquireLease(tenant, timeline, lease), 201);
    },
  );

  app.delete(
    path,
    {
      schema: { params: Params, querystring: ReleaseLeasesQuery },
      config: route("change", "ends all leases that match", ReleasedLeases),
    },
    async (request, reply) => {
      const { tenant, timeline } = parse(request.params);
      const { owner, lsn } = request.query;
      if (owner === undefined && lsn === undefined) {
        throw new MalformedInput("say which leases to release: by owner, by lsn, or both");
      }
      const at = lsn === undefined ? undefined : Lsn.parse(lsn);
      const released = await management.releaseLeases(tenant, timeline, { owner, lsn: at });
      return answer(reply, released.ok ? ok({ released: released.value }) : released);
    },
  );
}

function parse(params: { readonly tenant: string; readonly timeline: string }) {
  return { tenant: parseTenantRef(params.tenant), timeline: parseTimelineRef(params.timeline) };
}
