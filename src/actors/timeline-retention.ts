// What a timeline keeps: moves its cutoff, and merges its sealed layers in turns between which page reads
// are served. Decisions are in core/gc.ts and core/compaction.ts, the work in store/merge-job.ts.
//
// The cutoff is in the catalog before a merge goes by it, and every read asks for the cutoff of that
// moment; so no read is permitted that a merge has made impossible.

import type { MergePlan, Tier } from "../core/compaction.ts";
import { mergeAll, mergeCanWait, planMerge } from "../core/compaction.ts";
import { lsnAtTime } from "../core/commit-times.ts";
import { nextCutoff } from "../core/gc.ts";
import { type Holds, NO_HOLDS } from "../core/holds.ts";
import {
  GC_PERIOD_MS,
  MERGES_MAX,
  MERGE_RETRY_MS,
  RETENTION_MS,
  RETENTION_WAL_BYTES,
} from "../core/limits.ts";
import { Lsn } from "../core/lsn.ts";
import { type Result, err, ok } from "../core/result.ts";
import type { Catalog } from "../store/catalog.ts";
import { PG_EPOCH_US } from "../store/commit-seconds.ts";
import { fileExists } from "../store/data-dir.ts";
import type { MergeJob } from "../store/merge-job.ts";
import {
  type LayerAbsent,
  StoreCorrupt,
  StoreFailed,
  StoreFull,
  errorText,
} from "../store/store-errors.ts";
import type { Reply } from "./runtime.ts";
import { absentLayers, fetchPaths } from "./timeline-fetch.ts";
import { timelineEntryOf } from "./timeline-load.ts";
import { cutoffOf, dropExpiredLeases, retainedFamily } from "./timeline-pins.ts";
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

/** The retention part of one life of a timeline. */
export class Retention {
  job: MergeJob | undefined;
  /** A layer is being completed; never rejects. */
  closing: Promise<void> | undefined;
  /** Steady ms. */
  gcDueMs = 0;
  mergeDueMs = 0;
  /** How fast WAL came between the last two looks, bytes a second. */
  walBytesPerSecond = 0;
  private looked: { readonly lsn: Lsn; readonly atMs: number } | undefined;
  failure: string | undefined;
  /** Layers that are to be merged and are being fetched, by path. */
  fetching: readonly string[] | undefined;
  /** Leases and snapshots, as the catalog had them in the version that it gives them. */
  holds: Holds = NO_HOLDS;
  holdsVersion = -1;
  /** Long reads, LSN to the steady ms until which it is kept. */
  readonly readers = new Map<Lsn, number>();
  /** Who asked for the merge under way; who asked meanwhile, for the next. */
  readonly waiters: Reply<Result<undefined, string>>[] = [];
  readonly asked: Reply<Result<undefined, string>>[] = [];
  /** For which layers, cutoff and version of what is held nothing was due. */
  private quiet:
    { readonly layers: unknown; readonly cutoff: Lsn; readonly holds: number } | undefined;

  /** Layers are being merged or fetched, somebody waits for that, or a backup is being read. */
  get isBusy(): boolean {
    const { job, fetching, waiters, asked, readers } = this;
    return (
      job !== undefined ||
      fetching !== undefined ||
      waiters.length + asked.length + readers.size > 0
    );
  }

  /** Notes how far WAL has been taken in. */
  look(lsn: Lsn, atMs: number): void {
    const { looked } = this;
    if (looked !== undefined && atMs <= looked.atMs) return;
    if (looked !== undefined) {
      this.walBytesPerSecond = ((lsn - looked.lsn) * 1000) / (atMs - looked.atMs);
    }
    this.looked = { lsn, atMs };
  }

  isQuiet(layers: unknown, cutoff: Lsn, holds: number): boolean {
    const { quiet } = this;
    if (quiet === undefined) return false;
    return quiet.layers === layers && quiet.cutoff === cutoff && quiet.holds === holds;
  }

  beQuiet(layers: unknown, cutoff: Lsn, holds: number): void {
    this.quiet = { layers, cutoff, holds };
  }
}

/** Timelines of the process that are being merged. */
const merging = new Set<TimelineState>();

// ---- the cutoff

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

// ---- merging

/** Once a second: what is due. */
export function retentionTick(state: TimelineState): void {
  const { deps, wal, retention, phase } = state;
  if (wal === undefined || phase.kind !== "active") return;
  const nowMs = deps.clock.steadyMs();
  if (retention.gcDueMs === 0) retention.gcDueMs = nowMs + GC_PERIOD_MS * deps.clock.chance();
  if (nowMs >= retention.gcDueMs) {
    retention.gcDueMs = nowMs + GC_PERIOD_MS;
    moveCutoff(state, retentionPolicy(deps.catalog));
    // So that what they kept is looked at.
    dropExpiredLeases(deps.catalog, [deps.timelineId], deps.clock.nowMs());
  }
  retention.look(wal.intake.visible, nowMs);
  if (retention.job === undefined && nowMs >= retention.mergeDueMs) beginDue(state);
}

function beginDue(state: TimelineState): void {
  const { deps, wal, retention } = state;
  if (wal === undefined) return;
  for (const other of merging) if (other.ended !== undefined) merging.delete(other);
  if (merging.size >= MERGES_MAX) return;
  const { layers } = wal.store.map;
  const { holdsVersion } = deps.catalog;
  // As it was published: the catalog is not read by every timeline every second.
  const entry = deps.directory.find(deps.tenantId, deps.timelineId)?.entry;
  if (entry === undefined) return;
  const cutoff = cutoffOf(deps.directory, deps.tenantId, entry);
  if (retention.isQuiet(layers, cutoff, holdsVersion)) return;
  const { tiers } = wal.store;
  if (mergeCanWait(tiers.length, retention.walBytesPerSecond)) return;
  const plan = planMerge(tiers, cutoff, pinsNow(state, tiers));
  if (plan === undefined) return retention.beQuiet(layers, cutoff, holdsVersion);
  begin(state, plan, cutoff);
}

/** The LSNs that somebody reads now; not looked for when no layer is kept for any. */
function pinsNow({ deps }: TimelineState, tiers: readonly Tier[]): ReadonlySet<Lsn> | undefined {
  const { directory, tenantId, timelineId, catalog, clock } = deps;
  if ((tiers.at(-1)?.pins ?? []).length === 0) return undefined;
  const { pins } = retainedFamily(directory, tenantId, catalog, clock.nowMs());
  return new Set(pins(timelineId).map(({ lsn }) => lsn));
}

function begin(state: TimelineState, plan: MergePlan, cutoff: Lsn): void {
  const { deps, wal, retention, readFrom, self } = state;
  if (wal === undefined || readFrom === undefined || fetchFirst(state, plan)) return;
  const { catalog, directory, tenantId, timelineId, clock } = deps;
  try {
    const { family, pins } = retainedFamily(directory, tenantId, catalog, clock.nowMs());
    const lsns = pins(timelineId).map(({ lsn }) => lsn);
    // What this merge lets go of must not be promised again, should the clock be set back.
    dropExpiredLeases(catalog, family.descendants(timelineId), clock.nowMs());
    retention.job = wal.store.beginMerge({
      plan,
      retained: { cutoff, pins: lsns },
      reader: readFrom.pages,
      nowMs: clock.nowMs(),
      steadyMs: clock.steadyMs,
    });
  } catch (error) {
    return failed(state, error);
  }
  merging.add(state);
  self.tell({ kind: "merge-turn", life: state });
}

/** True when layers that are to be merged are not here: they are fetched, then it is planned anew. */
function fetchFirst(state: TimelineState, plan: MergePlan): boolean {
  const { deps, wal, retention, self } = state;
  if (retention.fetching !== undefined) return true;
  if (deps.backup === undefined) return false;
  const absent = absentLayers(wal!.store, plan.from, plan.to, fileExists);
  if (absent.length === 0) return false;
  retention.fetching = absent;
  retention.asked.unshift(...retention.waiters.splice(0));
  fetchPaths(deps, absent, "background").then(
    () => self.tell({ kind: "merge-fetched", life: state, error: undefined }),
    (error: unknown) => self.tell({ kind: "merge-fetched", life: state, error }),
  );
  return true;
}

/** A layer below those that are merged, and of it no more than a page needs that gets an image. */
function fetchOlder(state: TimelineState, absent: LayerAbsent, next: () => void): void {
  const { deps, self } = state;
  if (deps.backup === undefined) return failed(state, absent);
  fetchPaths(deps, [absent.path], "background").then(next, (error: unknown) =>
    self.tell({ kind: "merge-failed", life: state, error }),
  );
}

/** What a merge needs is here, or cannot be had. */
export function mergeFetched(state: TimelineState, error: unknown): void {
  state.retention.fetching = undefined;
  if (error !== undefined) return failed(state, error);
  if (state.retention.asked.length > 0) beginAsked(state);
  else beginDue(state);
}

/** One bounded turn. The next is told behind whatever has queued meanwhile. */
export function mergeTurn(state: TimelineState): void {
  const { retention, deps, self } = state;
  const { job } = retention;
  if (job === undefined || state.ended !== undefined) return;
  const next = (): void => self.tell({ kind: "merge-turn", life: state });
  try {
    const turn = job.step();
    switch (turn.kind) {
      case "more":
        return next();
      case "redo":
        deps.redo.tell({
          kind: "redo",
          requests: turn.requests,
          reply: {
            answer: (results) => {
              job.give(results);
              next();
            },
          },
        });
        return;
      case "close":
        retention.closing = job
          .closeLayer()
          .then(next, (error: unknown) => self.tell({ kind: "merge-failed", life: state, error }));
        return;
      case "absent":
        return fetchOlder(state, turn.error, next);
      case "written":
        return entered(state, job);
    }
  } catch (error) {
    failed(state, error);
  }
}

function entered(state: TimelineState, job: MergeJob): void {
  const { deps, wal, retention } = state;
  // Branches read these layers directly: they must look at this store, not at one of a life before.
  for (const handle of deps.directory.tenants.get(deps.tenantId)?.timelines.values() ?? []) {
    if (handle.entry.ancestor?.id === deps.timelineId && wal !== undefined) {
      handle.store?.rebase(wal.store);
    }
  }
  job.enter();
  retention.job = undefined;
  retention.failure = undefined;
  merging.delete(state);
  deps.log.info({ ...job.counts }, "layers merged");
  for (const reply of retention.waiters.splice(0)) reply.answer(ok(undefined));
  if (retention.asked.length > 0) beginAsked(state);
  else beginDue(state);
}

/** The tiers stay as they were; it is tried again later. */
export function failed(state: TimelineState, error: unknown): void {
  const { deps, retention } = state;
  if (error instanceof StoreFailed) throw error;
  const { job } = retention;
  retention.job = undefined;
  merging.delete(state);
  retention.failure = `layers cannot be merged: ${errorText(error)}`;
  retention.mergeDueMs = deps.clock.steadyMs() + MERGE_RETRY_MS;
  deps.log.error({ err: error }, "layers could not be merged; it is tried again");
  void job?.abandon();
  refuseWaiters(retention, retention.failure);
}

function refuseWaiters({ waiters, asked }: Retention, why: string): void {
  for (const reply of [...waiters.splice(0), ...asked.splice(0)]) reply.answer(err(why));
}

/** Merges everything now; answered when that has happened. */
export function compactNow(state: TimelineState, reply: Reply<Result<undefined, string>>): void {
  const { wal, retention } = state;
  if (wal === undefined || state.phase.kind !== "active") {
    return reply.answer(err("the timeline is not loaded"));
  }
  retention.asked.push(reply);
  if (retention.job === undefined) beginAsked(state);
}

function beginAsked(state: TimelineState): void {
  const { wal, retention, deps } = state;
  if (wal === undefined) return;
  const waiting = retention.asked.splice(0);
  const plan = mergeAll(wal.store.tiers);
  if (plan === undefined) {
    for (const reply of waiting) reply.answer(ok(undefined));
    return;
  }
  retention.waiters.push(...waiting);
  const entry = timelineEntryOf(deps.catalog, deps.timelineId);
  begin(state, plan, cutoffOf(deps.directory, deps.tenantId, entry));
}

/** The life ends: nothing half-merged stays. */
export async function endRetention(state: TimelineState): Promise<void> {
  const { retention } = state;
  merging.delete(state);
  refuseWaiters(retention, "the timeline stops");
  const { job } = retention;
  retention.job = undefined;
  await retention.closing;
  await job?.abandon();
}
