// Snapshots and leases of a timeline, as the management API makes, shows and lets go of them.

import type { Directory, TenantHandle, TimelineHandle } from "../actors/directory.ts";
import { ask } from "../actors/runtime.ts";
import type { HoldMsg } from "../actors/timeline-holds.ts";
import type { AdminError } from "../core/admin-error.ts";
import { isLive } from "../core/holds.ts";
import { WAIT_LSN_MS_MAX } from "../core/limits.ts";
import { Lsn } from "../core/lsn.ts";
import { type Result, ok } from "../core/result.ts";
import { formatTime } from "../core/time-text.ts";
import type { Management } from "../http/management.ts";
import type { LeaseInfo, SnapshotInfo } from "../protocol/api-holds.ts";
import type { LeaseEntry, SnapshotEntry } from "../store/catalog-entries.ts";
import { type Answer, type Finder, refuse } from "./finder.ts";
import { momentLsn, notLoaded } from "./moments.ts";

/** The part of the management interface that is about what is held. */
export function holdsManagement(
  directory: Directory,
  finder: Finder,
  nowMs: () => number,
): Pick<
  Management,
  | "snapshots"
  | "createSnapshot"
  | "deleteSnapshot"
  | "leases"
  | "acquireLease"
  | "releaseLeases"
  | "lease"
> {
  return {
    snapshots: (ref, timelineRef) =>
      finder.withTimeline(ref, timelineRef, (tenant, { entry }) =>
        ok(tenant.catalog.snapshots(entry.id).map((each) => snapshotInfo(tenant, each))),
      ),
    createSnapshot: (ref, timelineRef, name, at) =>
      finder.withTimeline(ref, timelineRef, async (tenant, timeline) => {
        const lsn = momentLsn(directory, tenant, timeline, at);
        if (!lsn.ok) return lsn;
        const made = await askHold<SnapshotEntry>(timeline, (reply) => ({
          kind: "snapshot",
          name,
          lsn: lsn.value,
          reply,
        }));
        return made.ok ? ok(snapshotInfo(tenant, made.value)) : made;
      }),
    deleteSnapshot: (ref, timelineRef, name) =>
      finder.withTimeline(ref, timelineRef, (_tenant, timeline) =>
        askHold<undefined>(timeline, (reply) => ({ kind: "delete-snapshot", name, reply })),
      ),
    leases: (ref, timelineRef) =>
      finder.withTimeline(ref, timelineRef, (tenant, { entry }) => {
        const live = tenant.catalog.leases(entry.id).filter((each) => isLive(each, nowMs()));
        return ok(live.map((each) => leaseInfo(tenant, each)));
      }),
    acquireLease: (ref, timelineRef, request) =>
      finder.withTimeline(ref, timelineRef, async (tenant, timeline) => {
        const lsn = momentLsn(directory, tenant, timeline, request.at);
        if (!lsn.ok) return lsn;
        const { owner } = request;
        const until = await acquireLease(timeline, lsn.value, owner, request.durationMs);
        if (!until.ok) return until;
        const made = { timeline: timeline.entry.id, lsn: lsn.value, owner };
        return ok(leaseInfo(tenant, { ...made, expiresAtMs: until.value }));
      }),
    releaseLeases: (ref, timelineRef, which) =>
      finder.withTimeline(ref, timelineRef, async (tenant, timeline) => {
        const released = await releaseLeases(timeline, which.lsn, which.owner);
        return released.ok ? ok(released.value.map((each) => leaseInfo(tenant, each))) : released;
      }),
    lease: (ref, timelineRef, lsn) =>
      finder.withTimeline(ref, timelineRef, (_tenant, timeline) => acquireLease(timeline, lsn)),
  };
}

/** Answers the end in Unix ms. */
export const acquireLease = (
  timeline: TimelineHandle,
  lsn: Lsn,
  owner?: string,
  durationMs?: number,
): Answer<number> =>
  askHold<number>(timeline, (reply) => ({
    kind: "lease",
    lsn,
    ...(owner !== undefined && { owner }),
    ...(durationMs !== undefined && { durationMs }),
    reply,
  }));

/** Ends those at an LSN, of an owner, or both. */
export const releaseLeases = (
  timeline: TimelineHandle,
  lsn: Lsn | undefined,
  owner: string | undefined,
): Answer<readonly LeaseEntry[]> =>
  askHold<readonly LeaseEntry[]>(timeline, (reply) => ({
    kind: "release-leases",
    lsn,
    owner,
    reply,
  }));

async function askHold<T>(
  timeline: TimelineHandle,
  build: (reply: { answer(value: Result<T, AdminError>): void }) => HoldMsg,
): Answer<T> {
  const answer = await ask<HoldMsg, Result<T, AdminError>>(timeline.ref, build, WAIT_LSN_MS_MAX);
  return answer === "timed-out" ? refuse(notLoaded(timeline)) : answer;
}

const nameIn = (tenant: TenantHandle, id: LeaseEntry["timeline"]) => ({
  timeline_id: id,
  timeline_name: tenant.timelines.get(id)?.entry.name ?? id,
});

const snapshotInfo = (tenant: TenantHandle, entry: SnapshotEntry): SnapshotInfo => ({
  ...nameIn(tenant, entry.timeline),
  name: entry.name,
  lsn: Lsn.format(entry.lsn),
  created_at: formatTime(entry.createdAtMs * 1000),
});

const leaseInfo = (tenant: TenantHandle, entry: LeaseEntry): LeaseInfo => ({
  ...nameIn(tenant, entry.timeline),
  lsn: Lsn.format(entry.lsn),
  owner: entry.owner,
  expires_at: formatTime(entry.expiresAtMs * 1000),
});
