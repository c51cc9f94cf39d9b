// How far back a timeline is readable: its policy, and its cutoff as that lets it move. What is below may be
// let go of by the next merge. Decisions are in core/gc.ts.
//
// The cutoff is in the catalog before a merge goes by it, and every read asks for the cutoff of that
// moment; so no read is permitted that a merge has made impossible.

import { lsnAtTime } from "../core/commit-times.ts";
import { nextCutoff } from "../core/gc.ts";
import { RETENTION_MS, RETENTION_WAL_BYTES } from "../core/limits.ts";
import { Lsn } from "../core/lsn.ts";
import type { Catalog } from "../store/catalog.ts";
import { PG_EPOCH_US } from "../store/commit-seconds.ts";
import { StoreCorrupt, StoreFull } from "../store/store-errors.ts";
import { timelineEntryOf } from "./timeline-load.ts";
import { cutoffOf } from "./timeline-pins.ts";
import type { TimelineState } from "./timeline-state.ts";
import { secondsOf } from "./timeline-times.ts";

/** How long history is readable: by time, and at least so much WAL. */
export interface RetentionPolicy {
  readonly windowMs: number;
  readonly walBytes: number;
}

export const DEFAULT_RETENTION: RetentionPolicy = {
  windowMs: RETENTION_MS,
  walBytes: RETENTION_WAL_BYTES,
};

/** The tenant's policy, as its catalog has it. */
export function retentionPolicy(catalog: Catalog): RetentionPolicy {
  const setting = catalog.setting("retention");
  const read = (name: string, otherwise: number): number => {
    const given =
      typeof setting === "object" && setting !== null && !Array.isArray(setting)
        ? setting[name]
        : undefined;
    return typeof given === "number" && given >= 0 ? given : otherwise;
  };
  return {
    windowMs: read("window_ms", DEFAULT_RETENTION.windowMs),
    walBytes: read("wal_bytes", DEFAULT_RETENTION.walBytes),
  };
}

/**
 * Moves the cutoff as far as `policy` lets it; durable when this returns. Gives where it is; undefined
 * when a full or damaged disk does not let it move now.
 */
export function moveCutoff(state: TimelineState, policy: RetentionPolicy): Lsn | undefined {
  try {
    return movedCutoff(state, policy);
  } catch (error) {
    if (!(error instanceof StoreFull) && !(error instanceof StoreCorrupt)) throw error;
    state.deps.log.warn({ reason: error.message }, "the cutoff cannot be moved now");
    return undefined;
  }
}

function movedCutoff(state: TimelineState, policy: RetentionPolicy): Lsn {
  const { deps, wal } = state;
  const { catalog, directory, tenantId, timelineId, clock } = deps;
  const entry = timelineEntryOf(catalog, timelineId);
  const cutoff = cutoffOf(directory, tenantId, entry);
  if (wal === undefined) return cutoff;
  const moved = nextCutoff({
    cutoff,
    atWindowStart: windowStart(state, policy.windowMs, clock.nowMs()),
    sealed: entry.sealedLsn,
    visible: wal.intake.visible,
    walBytes: policy.walBytes,
  });
  if (moved <= cutoff) return cutoff;
  const next = { ...entry, cutoff: moved };
  catalog.change((change) => change.putTimeline(next));
  directory.publish(tenantId, timelineId, { entry: next });
  deps.log.info({ cutoff: Lsn.format(moved) }, `history below ${Lsn.format(moved)} may go`);
  return moved;
}

/** The newest LSN that is older than the window. */
function windowStart(state: TimelineState, windowMs: number, nowMs: number): Lsn | undefined {
  const { wal, deps } = state;
  if (wal === undefined) return undefined;
  const { intake } = wal;
  if (windowMs === 0) return intake.visible;
  const scan = secondsOf(deps.directory, deps.tenantId, deps.timelineId);
  if (scan === undefined) return undefined;
  const found = lsnAtTime((nowMs - windowMs) * 1000 - PG_EPOCH_US, scan);
  if (found.kind === "present") return found.lsn;
  return found.kind === "future" ? intake.visible : undefined;
}
