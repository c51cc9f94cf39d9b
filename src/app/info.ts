// Timelines and tenants as the management API shows them.

import {
  type Directory,
  type TenantHandle,
  type TimelineHandle,
  sealedOf,
} from "../actors/directory.ts";
import type { TimelineId } from "../core/ids.ts";
import { drillRecord } from "../actors/drill-records.ts";
import { cutoffIn } from "../actors/timeline-pins.ts";
import { LSN_INVALID, Lsn } from "../core/lsn.ts";
import type { TimelinePhase } from "../core/timeline.ts";
import { formatTime } from "../core/time-text.ts";
import { systemClock } from "../io/clock.ts";
import { timelineReads } from "../io/meters.ts";
import type {
  BackupInfo,
  SourceInfo,
  TenantInfo,
  TimelineInfo,
  TimelineState,
} from "../protocol/api.ts";
import { formatConninfo, parseConninfo } from "../protocol/conninfo.ts";
import { drillFacts } from "./drill.ts";

export function timelineInfo(tenant: TenantHandle, timeline: TimelineHandle): TimelineInfo {
  const { entry, facts } = timeline;
  const { positions } = facts;
  const above = entry.ancestor;
  const ancestor = above && tenant.timelines.get(above.id)?.entry;
  const shown = {
    received: Lsn.format(positions.received),
    visible: Lsn.format(positions.visible),
    durable: Lsn.format(positions.durable),
    uploaded: Lsn.format(positions.uploaded),
  };
  const backup = backupInfo(tenant, timeline);
  return {
    tenant_id: tenant.id,
    timeline_id: entry.id,
    name: entry.name,
    state: stateOf(facts.phase),
    pg_version: entry.pgVersion,
    system_id: entry.systemId,
    created_at: formatTime(entry.createdAtMs * 1000),
    ...(above !== undefined && {
      ancestor_timeline_id: above.id,
      ancestor_lsn: Lsn.format(above.lsn),
    }),
    ...(ancestor !== undefined && { ancestor_name: ancestor.name }),
    positions: shown,
    ...(backup !== undefined && { backup }),
    last_record_lsn: shown.visible,
    ...(facts.prev !== LSN_INVALID && { prev_record_lsn: Lsn.format(facts.prev) }),
    disk_consistent_lsn: shown.durable,
    remote_consistent_lsn: shown.uploaded,
    initdb_lsn: Lsn.format(entry.baseLsn),
    min_readable_lsn: Lsn.format(cutoffIn(tenant.timelines, entry)),
    current_physical_size: localBytes(timeline),
    source: sourceInfo(timeline),
    layers: sealedOf(timeline).layers,
    ...damagedOf(timeline),
    ...readsOf(entry.id),
  };
}

function damagedOf({ store }: TimelineHandle): Pick<TimelineInfo, "damaged_layers"> {
  const damaged = store?.map.damaged ?? [];
  return damaged.length === 0 ? {} : { damaged_layers: [...damaged] };
}

function readsOf(id: TimelineId): Pick<TimelineInfo, "reads"> {
  const counts = timelineReads.get(id);
  if (counts === undefined) return {};
  const { pages, batches, ns } = counts;
  return { reads: { pages, batches, seconds: ns / 1e9 } };
}

function backupInfo(
  tenant: TenantHandle,
  { backup, residence, entry }: TimelineHandle,
): BackupInfo | undefined {
  const found = backup?.();
  const where = residence?.();
  if (found === undefined || where === undefined) return undefined;
  const drill = drillRecord(tenant, entry.id);
  const { state, reason, lagBytes, layersWaiting, writtenAtMs } = found;
  return {
    state,
    ...(reason !== undefined && { reason }),
    lag_bytes: lagBytes,
    layers_waiting: layersWaiting,
    ...(writtenAtMs !== undefined && { written_at: formatTime(writtenAtMs * 1000) }),
    ...{ local_layers: where.localLayers, local_bytes: where.localBytes },
    ...{ remote_layers: where.remoteLayers, remote_bytes: where.remoteBytes },
    ...{ evicted_layers: where.evictedLayers, fetched_layers: where.fetchedLayers },
    ...(drill !== undefined && { drill: drillFacts(drill, systemClock.nowMs()) }),
  };
}

/** Of sealed layers on the local disk. */
export const localBytes = (timeline: TimelineHandle): number =>
  timeline.residence?.()?.localBytes ?? sealedOf(timeline).bytes;

export function stateOf(phase: TimelinePhase): TimelineState {
  switch (phase.kind) {
    case "loading":
      return "Loading";
    case "active":
      return "Active";
    case "stopping":
      return "Stopping";
    case "broken":
      return { Broken: { reason: phase.reason, backtrace: "" } };
  }
}

export function sourceInfo({ entry, facts }: TimelineHandle): SourceInfo {
  const { source } = entry;
  if (source === undefined) return { kind: "none", connection: "none" };
  const { receiver, stalled, phase } = facts;
  const broken = phase.kind === "broken" ? phase.reason : undefined;
  const reason = broken ?? stalled ?? receiver?.reason;
  return {
    kind: source.kind === "compute" ? "compute" : "follow",
    connection: broken === undefined ? (receiver?.connection ?? "connecting") : "refused",
    conninfo: receiver?.conninfo ?? formatConninfo(parseConninfo(source.conninfo)),
    ...(receiver?.lagBytes !== undefined && { lag_bytes: receiver.lagBytes }),
    ...(receiver !== undefined && { reconnects: receiver.reconnects }),
    ...(reason !== undefined && { reason }),
  };
}

/** Tenants that exist and could not even be opened. */
export function unusableTenants({ tenants, unusable }: Directory): readonly TenantInfo[] {
  return [...unusable]
    .filter(([id]) => !tenants.has(id))
    .map(([id, reason]) => ({
      id,
      state: { slug: "Broken", data: { reason } },
      is_default: false,
      current_physical_size: 0,
      timelines: [],
    }));
}

export function tenantInfo(tenant: TenantHandle, isDefault: boolean): TenantInfo {
  let size = 0;
  for (const timeline of tenant.timelines.values()) size += localBytes(timeline);
  const { broken } = tenant;
  return {
    id: tenant.id,
    state: broken === undefined ? { slug: "Active" } : { slug: "Broken", data: { reason: broken } },
    is_default: isDefault,
    current_physical_size: size,
    timelines: [...tenant.timelines.keys()],
  };
}
