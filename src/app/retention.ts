// What of a timeline is kept and why, as the management API shows it; the cutoff and merges on demand.

import type { TenantHandle, TimelineHandle } from "../actors/directory.ts";
import { ask } from "../actors/runtime.ts";
import type { TenantShared } from "../actors/tenant-timelines.ts";
import type { TenantMsg } from "../actors/tenant.ts";
import type { TimelineMsg } from "../actors/timeline-messages.ts";
import { cutoffOf, retainedFamily } from "../actors/timeline-pins.ts";
import { retentionPolicy } from "../actors/timeline-cutoff.ts";
import type { AdminError } from "../core/admin-error.ts";
import { Family, type Pin } from "../core/gc.ts";
import { formatBytes } from "../core/human.ts";
import { COMPACT_MS_MAX, WAIT_LSN_MS_MAX } from "../core/limits.ts";
import { Lsn } from "../core/lsn.ts";
import { type Result, err, ok } from "../core/result.ts";
import { formatTime } from "../core/time-text.ts";
import type {
  ChangeRetentionPolicy,
  GcRequest,
  GcResult,
  PinInfo,
  RetentionInfo,
  RetentionPolicyInfo,
} from "../protocol/api-retention.ts";
import type { Catalog } from "../store/catalog.ts";
import type { Management } from "../http/management.ts";
import { type JobBook, JobCancelled, type JobReporter } from "../http/jobs.ts";
import { checkpoint } from "./checkpoint.ts";
import type { Computes } from "./computes.ts";
import type { Finder } from "./finder.ts";
import { keptFor } from "./kept.ts";
import { asJob } from "./long-work.ts";
import { inUse } from "./tenants.ts";

const unavailable = (message: string): Result<never, AdminError> =>
  err({ kind: "unavailable", message });

/** The part of the management interface that is about retention. */
export function retentionManagement(
  shared: TenantShared,
  computes: Computes,
  jobs: JobBook,
  finder: Finder,
): Pick<
  Management,
  "checkpoint" | "retention" | "retentionPolicy" | "collect" | "compact" | "deleteTimeline"
> {
  return {
    checkpoint: (ref, timelineRef) =>
      finder.withTimeline(ref, timelineRef, (tenant, timeline) =>
        asJob(
          jobs,
          "checkpoint",
          timeline.entry.name,
          (job) => checkpoint(tenant, timeline, job),
          (info) => ({ timeline: info }),
        ),
      ),
    retention: (ref, timelineRef, detail) =>
      finder.withTimeline(ref, timelineRef, (tenant, timeline) =>
        detail === "brief"
          ? retentionInfo(shared, tenant, timeline)
          : retentionBytes(shared, tenant, timeline, detail === "fetch" ? "fetch" : "leave"),
      ),
    retentionPolicy: (ref, change) =>
      finder.withTenant(ref, ({ catalog }) => ok(changedPolicy(catalog, change))),
    collect: (ref, timelineRef, request) =>
      finder.withTimeline(ref, timelineRef, (tenant, timeline) =>
        collect(shared, tenant, timeline, request),
      ),
    compact: (ref, timelineRef) =>
      finder.withTimeline(ref, timelineRef, (tenant, timeline) =>
        asJob(
          jobs,
          "compact",
          timeline.entry.name,
          (job) => compact(shared, tenant, timeline, job),
          () => ({}),
        ),
      ),
    deleteTimeline: (ref, timelineRef, recursive) =>
      finder.withTimeline(ref, timelineRef, (tenant, timeline) =>
        deleteTimeline(computes, jobs, tenant, timeline, recursive),
      ),
  };
}

function retentionInfo(
  shared: TenantShared,
  tenant: TenantHandle,
  timeline: TimelineHandle,
): Result<RetentionInfo, AdminError> {
  const { store, sizes, facts, residence } = timeline;
  const { name } = timeline.entry;
  if (store === undefined || sizes === undefined) {
    return unavailable(`timeline "${name}" is not loaded; retry in a moment`);
  }
  const { catalog, id } = tenant;
  const entry = catalog.timeline(timeline.entry.id) ?? timeline.entry;
  const cutoff = cutoffOf(shared.directory, id, entry);
  const { pins } = retainedFamily(shared.directory, id, catalog, shared.clock.nowMs());
  const below = pins(entry.id).filter(({ lsn }) => lsn < cutoff);
  const { tiers } = store;
  const sizeOf = (which: (lastLsn: Lsn) => boolean): number =>
    tiers.reduce((sum, { bytes, lastLsn }) => sum + (which(lastLsn) ? bytes : 0), 0);
  const { visible } = facts.positions;
  const { windowMs, walBytes } = retentionPolicy(catalog);
  const { merge } = timeline;
  const { remoteLayers = 0, remoteBytes = 0 } = residence?.() ?? {};
  return ok({
    timeline_id: entry.id,
    name,
    cutoff_lsn: Lsn.format(cutoff),
    last_record_lsn: Lsn.format(visible),
    window_ms: windowMs,
    wal_bytes: walBytes,
    pins: below.sort((x, y) => y.lsn - x.lsn).map((pin) => pinInfo(tenant, pin)),
    logical_size: sizes().logical,
    physical_size: store.sealedBytes,
    window_size: sizeOf((lastLsn) => lastLsn > cutoff),
    below_cutoff_size: sizeOf((lastLsn) => lastLsn <= cutoff),
    tiers: tiers.length,
    ...(remoteLayers > 0 && { remote_layers: remoteLayers, remote_size: remoteBytes }),
    merging: merge?.().merging ?? false,
    ...(merge?.().failure !== undefined && { failure: merge().failure! }),
  });
}

/** As retentionInfo, with what each reason costs; not when layers are away and are not to be fetched. */
async function retentionBytes(
  shared: TenantShared,
  tenant: TenantHandle,
  timeline: TimelineHandle,
  remote: "fetch" | "leave",
): Promise<Result<RetentionInfo, AdminError>> {
  const kept = await keptFor(shared, tenant, timeline, remote);
  const info = retentionInfo(shared, tenant, tenant.timelines.get(timeline.entry.id) ?? timeline);
  if (!info.ok || kept === "away") return info;
  if (kept === undefined) {
    return unavailable(`layers of "${timeline.entry.name}" are being merged; retry in a moment`);
  }
  const lsns = info.value.pins.map(({ lsn }) => lsn);
  const pins = info.value.pins.map((pin, i) => {
    const found = kept.pins.get(Lsn.parse(pin.lsn));
    const first = lsns.indexOf(pin.lsn) === i;
    const single = first && lsns.lastIndexOf(pin.lsn) === i;
    const bytes = first ? (found?.bytes ?? 0) : 0;
    return { ...pin, bytes, alone_bytes: single ? (found?.aloneBytes ?? 0) : 0 };
  });
  const { windowBytes: window, supersededBytes: superseded } = kept;
  return ok({ ...info.value, pins, kept: { window, superseded } });
}

/**
 * Changes what is given of the tenant's policy; what holds then. Throws what the catalog does. The only
 * place that writes it, whichever route asks.
 */
export function changedPolicy(
  catalog: Catalog,
  change: ChangeRetentionPolicy,
): RetentionPolicyInfo {
  const { windowMs, walBytes } = retentionPolicy(catalog);
  const policy = { window_ms: windowMs, wal_bytes: walBytes, ...change };
  if (Object.keys(change).length > 0) {
    catalog.change((edit) => edit.putSetting("retention", policy));
  }
  return policy;
}

function pinInfo(tenant: TenantHandle, { lsn, reason }: Pin): PinInfo {
  const at = { lsn: Lsn.format(lsn), reason: reason.kind };
  switch (reason.kind) {
    case "branch": {
      const name = tenant.timelines.get(reason.child)?.entry.name;
      return {
        ...at,
        timeline_id: reason.child,
        ...(name !== undefined && { timeline_name: name }),
      };
    }
    case "lease":
      return { ...at, owner: reason.owner, expires_at: formatTime(reason.expiresAtMs * 1000) };
    case "snapshot":
      return { ...at, snapshot: reason.name };
    case "reader":
      return at;
  }
}

/** Moves the cutoff now. What lies below goes when layers are merged. */
async function collect(
  shared: TenantShared,
  tenant: TenantHandle,
  timeline: TimelineHandle,
  request: GcRequest,
): Promise<Result<GcResult, AdminError>> {
  const startedMs = performance.now();
  // A horizon in bytes alone means: whatever its age.
  const windowMs = request.window_ms ?? (request.gc_horizon === undefined ? undefined : 0);
  const moved = await ask<TimelineMsg, Lsn | undefined>(
    timeline.ref,
    (reply) => ({ kind: "collect", windowMs, walBytes: request.gc_horizon, reply }),
    WAIT_LSN_MS_MAX,
  );
  if (moved === "timed-out" || moved === undefined) {
    return unavailable(`timeline "${timeline.entry.name}" cannot move its cutoff now; retry`);
  }
  const info = retentionInfo(shared, tenant, timeline);
  if (!info.ok) return info;
  const layers = timeline.store?.map.layers ?? [];
  return ok({
    ...info.value,
    layers_total: layers.length,
    layers_needed_by_cutoff: layers.filter(({ entry }) => entry.lastLsn > moved).length,
    layers_removed: 0,
    elapsed: Math.round(performance.now() - startedMs),
  });
}

/** Seals what is in memory and merges all sealed layers into one tier. */
async function compact(
  shared: TenantShared,
  tenant: TenantHandle,
  timeline: TimelineHandle,
  job: JobReporter,
): Promise<Result<RetentionInfo, AdminError>> {
  const sealed = await checkpoint(tenant, timeline, job);
  if (!sealed.ok) return sealed;
  const { store } = tenant.timelines.get(timeline.entry.id) ?? timeline;
  job.step("merge", `${store?.tiers.length ?? 0} tiers, ${formatBytes(store?.sealedBytes ?? 0)}`);
  const stop = (): void => timeline.ref.tell({ kind: "compact-stop" });
  job.signal.addEventListener("abort", stop, { once: true });
  if (job.signal.aborted) throw new JobCancelled();
  const merged = await ask<TimelineMsg, Result<undefined, string>>(
    timeline.ref,
    (reply) => ({ kind: "compact", reply }),
    COMPACT_MS_MAX,
  );
  const { name } = timeline.entry;
  if (merged === "timed-out") return unavailable(`"${name}" is still being merged; it goes on`);
  if (job.signal.aborted) throw new JobCancelled();
  if (!merged.ok) return unavailable(`"${name}": ${merged.error}`);
  return retentionInfo(shared, tenant, timeline);
}

/** Deletes a timeline and, if asked to, all that descend from it. */
async function deleteTimeline(
  computes: Computes,
  jobs: JobBook,
  tenant: TenantHandle,
  timeline: TimelineHandle,
  recursive: boolean,
): Promise<Result<readonly string[], AdminError>> {
  const { id } = timeline.entry;
  const family = new Family(tenant.catalog.timelines());
  // With branches it is refused anyway, and that is the first thing to know.
  if (recursive || family.childrenOf(id).length === 0) {
    const busy = await inUse(computes, tenant, new Set(family.descendants(id)));
    if (busy !== undefined) return err(busy);
  }
  const { name } = timeline.entry;
  const work = async (job: JobReporter): Promise<Result<readonly string[], AdminError>> => {
    // Half of it deleted would be worse.
    job.pastCancelling();
    job.step("delete");
    const removed = await ask<TenantMsg, Result<readonly string[], AdminError>>(
      tenant.ref,
      (reply) => ({ kind: "remove", timeline: id, recursive, reply }),
      COMPACT_MS_MAX,
    );
    return removed === "timed-out" ? unavailable(`"${name}" is still being deleted`) : removed;
  };
  return asJob(jobs, "delete", name, work, (deleted) => ({ deleted }));
}
