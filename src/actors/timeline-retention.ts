// What is due of a timeline's retention: its cutoff moves (timeline-cutoff.ts), and its sealed layers are
// merged by the merger's thread. What to merge is decided in core/compaction.ts; the work is in
// store/merge-job.ts.

import type { MergePlan, Tier } from "../core/compaction.ts";
import { mergeAll, mergeCanWait, planMerge } from "../core/compaction.ts";
import { type Holds, NO_HOLDS } from "../core/holds.ts";
import { GC_PERIOD_MS, MERGES_MAX, MERGE_RETRY_MS } from "../core/limits.ts";
import type { Lsn } from "../core/lsn.ts";
import { type RedoResult, redoOf } from "../core/redo-request.ts";
import { type Result, err, ok } from "../core/result.ts";
import { fileExists } from "../store/data-dir.ts";
import { traced } from "../io/traces.ts";
import type { BegunMerge, Merged } from "../store/merge-order.ts";
import { StoreCorrupt, StoreFailed, errorText, plainFailure } from "../store/store-errors.ts";
import type { TimelineStore } from "../store/timeline-store.ts";
import type { MergeGiver } from "./merger.ts";
import type { Reply } from "./runtime.ts";
import { moveCutoff, retentionPolicy } from "./timeline-cutoff.ts";
import { absentLayers, fetchPaths, findLayer } from "./timeline-fetch.ts";
import { timelineEntryOf } from "./timeline-load.ts";
import { cutoffOf, dropExpiredLeases, retainedFamily } from "./timeline-pins.ts";
import type { Msg, TimelineState } from "./timeline-state.ts";

/** The retention part of one life of a timeline. */
export class Retention {
  job: BegunMerge | undefined;
  /** Until somebody is done with files of the job; never rejects. */
  closing: Promise<void> | undefined;
  /** Steady ms. */
  gcDueMs = 0;
  mergeDueMs = 0;
  /** How fast WAL came between the last two looks, bytes a second. */
  walBytesPerSecond = 0;
  private looked: { readonly lsn: Lsn; readonly atMs: number } | undefined;
  failure: string | undefined;
  /** The merge under way was given up on request. */
  stopped = false;
  /** What is to be merged is being made ready: layers of these paths are fetched, or an ancestor seals its own. */
  preparing: readonly string[] | undefined;
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

  /** Layers are being merged or made ready for it, somebody waits for that, or a backup is being read. */
  get isBusy(): boolean {
    const { job, preparing, waiters, asked, readers } = this;
    return (
      job !== undefined ||
      preparing !== undefined ||
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
  const sealed = sealedCutoff(wal.store, cutoff);
  const plan = planMerge(tiers, sealed, pinsNow(state, tiers));
  if (plan === undefined) return retention.beQuiet(layers, cutoff, holdsVersion);
  begin(state, plan, sealed);
}

/** A merge looks at sealed layers only: it keeps what could be read at the end of them. */
const sealedCutoff = (store: TimelineStore, cutoff: Lsn): Lsn =>
  Math.min(cutoff, store.sealedUpTo) as Lsn;

/** The LSNs that somebody reads now; not looked for when no layer is kept for any. */
function pinsNow({ deps }: TimelineState, tiers: readonly Tier[]): ReadonlySet<Lsn> | undefined {
  const { directory, tenantId, timelineId, catalog, clock } = deps;
  if ((tiers.at(-1)?.pins ?? []).length === 0) return undefined;
  const { pins } = retainedFamily(directory, tenantId, catalog, clock.nowMs());
  return new Set(pins(timelineId).map(({ lsn }) => lsn));
}

function begin(state: TimelineState, plan: MergePlan, cutoff: Lsn): void {
  const { deps, wal, retention } = state;
  if (wal === undefined || prepareFirst(state, plan)) return;
  const { catalog, directory, tenantId, timelineId, clock } = deps;
  try {
    const { family, pins } = retainedFamily(directory, tenantId, catalog, clock.nowMs());
    const lsns = pins(timelineId).map(({ lsn }) => lsn);
    // What this merge lets go of must not be promised again, should the clock be set back.
    dropExpiredLeases(catalog, family.descendants(timelineId), clock.nowMs());
    const retained = { cutoff, pins: lsns };
    retention.job = wal.store.beginMerge({ plan, retained, nowMs: clock.nowMs() });
  } catch (error) {
    return failed(state, error);
  }
  merging.add(state);
  carryOut(state, retention.job);
}

/** True when layers that are to be looked at are not here, or not sealed yet: that comes first, then it is planned anew. */
function prepareFirst(state: TimelineState, plan: MergePlan): boolean {
  const { deps, wal, retention, self } = state;
  if (retention.preparing !== undefined) return true;
  const { store } = wal!;
  const ready = (error: unknown): void => self.tell({ kind: "merge-ready", life: state, error });
  const ancestor = store.unsealedAncestor;
  const absent =
    deps.backup === undefined ? [] : absentLayers(store, plan.from, plan.to, fileExists);
  if (ancestor === undefined && absent.length === 0) return false;
  retention.preparing = absent;
  retention.asked.unshift(...retention.waiters.splice(0));
  if (ancestor !== undefined) sealAncestor(state, ancestor, ready);
  else fetchPaths(deps, absent, "background").then(() => ready(undefined), ready);
  return true;
}

/** Its versions at the branch point and below it are in memory still. */
function sealAncestor(
  { deps }: TimelineState,
  { id }: TimelineStore,
  ready: (error: unknown) => void,
): void {
  const handle = deps.directory.find(deps.tenantId, id);
  if (handle === undefined) return ready(new Error(`the ancestor ${id} is not there`));
  const answer = (sealed: Result<undefined, string>): void =>
    ready(sealed.ok ? undefined : new Error(`the ancestor ${id}: ${sealed.error}`));
  handle.ref.tell({ kind: "seal-now", reply: { answer } });
}

/** What a merge needs is here, or cannot be had. */
function mergeReady(state: TimelineState, error: unknown): void {
  state.retention.preparing = undefined;
  if (error !== undefined) return failed(state, error);
  beginNext(state);
}

function beginNext(state: TimelineState): void {
  if (state.retention.asked.length > 0) beginAsked(state);
  else beginDue(state);
}

/** Layers that a merge would have read have been merged themselves, by an ancestor: it is planned anew. */
class MergeStale extends Error {}

/** Has the merger do it. */
function carryOut(state: TimelineState, { order }: BegunMerge): void {
  const { deps, retention, self } = state;
  const { merger, redo, directory, tenantId } = deps;
  let stale: MergeStale | undefined;
  const giver: MergeGiver = (wanted, give) => {
    if (wanted.kind === "redo") {
      const requests = wanted.requests.map(redoOf);
      const reply = {
        answer: (results: readonly RedoResult[]) => give({ kind: "redone", results }),
      };
      return redo.tell({ kind: "redo", requests, reply });
    }
    if (findLayer(directory, tenantId, wanted.path) === undefined) {
      stale = new MergeStale("an ancestor's layers were merged meanwhile");
      return merger.withdraw(order);
    }
    fetchPaths(deps, [wanted.path], "background").then(
      () => give({ kind: "layer", failure: undefined }),
      (error: unknown) => give({ kind: "layer", failure: plainFailure(error) }),
    );
  };
  const about = () => ({ tenant: tenantId, timeline: deps.timelineId });
  retention.closing = traced("merge", about, () => merger.run(order, giver)).then(
    (merged) => self.tell({ kind: "merged", life: state, merged }),
    (error: unknown) => self.tell({ kind: "merge-failed", life: state, error: stale ?? error }),
  );
}

/** What the merge under way, or the one that is made ready, has come to. */
export function mergeTold(
  state: TimelineState,
  told: Extract<Msg, { kind: "merged" | "merge-over" | "merge-failed" | "merge-ready" }>,
): void {
  switch (told.kind) {
    case "merged":
      return merged(state, told.merged);
    case "merge-over":
      return mergeOver(state, told.merged);
    case "merge-failed":
      return failed(state, told.error);
    case "merge-ready":
      return mergeReady(state, told.error);
  }
}

/** The merger has written the new layers: they take the old ones' place. */
function merged(state: TimelineState, result: Merged): void {
  const { deps, wal, retention, self } = state;
  const { job } = retention;
  if (job === undefined || state.ended !== undefined) return;
  // Branches read these layers directly: they must look at this store, not at one of a life before.
  for (const handle of deps.directory.tenants.get(deps.tenantId)?.timelines.values() ?? []) {
    if (handle.entry.ancestor?.id === deps.timelineId && wal !== undefined) {
      handle.store?.rebase(wal.store);
    }
  }
  retention.closing = job.enter(result).then(
    () => self.tell({ kind: "merge-over", life: state, merged: result }),
    (error: unknown) => self.tell({ kind: "merge-failed", life: state, error }),
  );
}

function mergeOver(state: TimelineState, { counts }: Merged): void {
  const { deps, retention } = state;
  retention.job = undefined;
  retention.failure = undefined;
  retention.stopped = false;
  merging.delete(state);
  deps.log.info({ ...counts }, "layers merged");
  for (const reply of retention.waiters.splice(0)) reply.answer(ok(undefined));
  beginNext(state);
}

/** The tiers stay as they were; it is tried again later. */
function failed(state: TimelineState, error: unknown): void {
  const { deps, retention } = state;
  if (error instanceof StoreFailed) throw error;
  retention.job?.giveUp();
  retention.job = undefined;
  merging.delete(state);
  if (state.ended !== undefined) return;
  if (retention.stopped) {
    retention.stopped = false;
    retention.mergeDueMs = deps.clock.steadyMs() + MERGE_RETRY_MS;
    deps.log.info("layers are not merged: cancelled on request");
    if (retention.asked.length > 0) beginAsked(state);
    return;
  }
  if (error instanceof MergeStale) {
    retention.asked.unshift(...retention.waiters.splice(0));
    return beginNext(state);
  }
  retention.failure = `layers cannot be merged: ${errorText(error)}`;
  retention.mergeDueMs = deps.clock.steadyMs() + MERGE_RETRY_MS;
  deps.log.error({ err: error }, "layers could not be merged; it is tried again");
  if (error instanceof StoreCorrupt) {
    findLayer(deps.directory, deps.tenantId, error.what)?.layer.distrust(error.reason);
  }
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

/** Gives up the merge that was asked for: the tiers stay as they were. One that was due goes on. */
export function compactStop({ retention, deps }: TimelineState): void {
  const { job, waiters } = retention;
  if (job !== undefined && waiters.length > 0) {
    retention.stopped = true;
    deps.merger.withdraw(job.order);
  }
  refuseWaiters(retention, "cancelled on request");
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
  const cutoff = cutoffOf(deps.directory, deps.tenantId, entry);
  begin(state, plan, sealedCutoff(wal.store, cutoff));
}

/** The life ends: nothing half-merged stays. */
export async function endRetention(state: TimelineState): Promise<void> {
  const { retention, deps } = state;
  merging.delete(state);
  refuseWaiters(retention, "the timeline stops");
  const { job } = retention;
  retention.job = undefined;
  if (job !== undefined) deps.merger.withdraw(job.order);
  await retention.closing;
  job?.giveUp();
}
