// Who reads a timeline: requests of the page service, and backups. A request for an LSN that is
// still to come is parked until it has come, or until its deadline; then it is answered with what
// there is, and only what really waited is refused.

import type { ReadError } from "../core/errors.ts";
import { LSN_WAITERS_MAX, WAIT_LSN_MS_MAX } from "../core/limits.ts";
import { LSN_INVALID, Lsn } from "../core/lsn.ts";
import type { PageAnswer, PageRequest } from "../core/page-batch.ts";
import { type ReadPlan, planRead } from "../core/request-lsn.ts";
import { err, ok } from "../core/result.ts";
import { meters } from "../io/meters.ts";
import { StoreCorrupt } from "../store/store-errors.ts";
import { findBoundary } from "./timeline-boundary.ts";
import { timelineEntryOf } from "./timeline-load.ts";
import { fetchAndRead } from "./timeline-fetch.ts";
import { answerBatch } from "./timeline-reads.ts";
import { heldSource, readableNow } from "./timeline-pins.ts";
import { backupSource } from "./timeline-source.ts";
import { type BackupMsg, type ReadMsg, type TimelineState, unreadable } from "./timeline-state.ts";

/** Any LSN at all: wakes whoever waits for the timeline to be loaded. */
const LOADED = Lsn.of(1);

/** Answers a batch, or parks it. `waitedMs`: it has waited so long, and must not wait again. */
export function read(state: TimelineState, msg: ReadMsg, waitedMs?: number): void {
  const { readFrom, phase } = state;
  if (readFrom === undefined || phase.kind === "stopping") return early(state, msg, waitedMs);
  const stranger = strangerTo(state, msg);
  // Also of those that have waited: the LSN that came is of another history than the one they know.
  if (stranger !== undefined) return refuse(msg, stranger);
  const mayWait = waitedMs === undefined && phase.kind !== "broken";
  const plans: (Lsn | ReadError)[] = [];
  const readable = readableNow(state);
  let until = LSN_INVALID;
  let plan: ReadPlan | undefined;
  let former: PageRequest | undefined;
  for (const request of msg.batch.requests) {
    // Requests of one batch are mostly for one moment.
    const same =
      former?.lsn === request.lsn && former.notModifiedSince === request.notModifiedSince;
    if (!same || plan === undefined) plan = planRead(seenFrom(msg.at, request), readable);
    former = request;
    if (plan.kind !== "wait") plans.push(plan.kind === "read" ? plan.at : plan.error);
    else if (mayWait) until = Math.max(until, plan.until) as Lsn;
    else plans.push(notReached(state, plan.until, waitedMs));
  }
  if (until !== LSN_INVALID) return park(state, msg, until);
  answerBatch(
    readFrom,
    msg.batch,
    plans,
    msg.reply,
    readFrom.fetch && ((paths) => fetchAndRead(state, msg, paths, refuse)),
  );
}

/** The request of a compute that shows one moment: what it thinks is later is its own, and not history. */
function seenFrom(at: Lsn | undefined, { lsn, notModifiedSince }: PageRequest) {
  if (at === undefined) return { lsn, notModifiedSince };
  return { lsn: least(lsn, at), notModifiedSince: least(notModifiedSince, at) };
}

const least = (a: Lsn, b: Lsn): Lsn => (a < b ? a : b);

/** Why the compute that asks is answered no more; undefined: it is. */
function strangerTo({ deps }: TimelineState, msg: ReadMsg): ReadError | undefined {
  const { generation, systemId } = msg;
  if (generation === undefined && systemId === undefined) return undefined;
  const entry = deps.directory.find(deps.tenantId, deps.timelineId)?.entry;
  if (systemId !== undefined && entry !== undefined && systemId !== entry.systemId) {
    return { kind: "other-cluster", systemId, ours: entry.systemId };
  }
  const current = entry?.generation ?? 0;
  if (generation === undefined || generation === current) return undefined;
  return { kind: "replaced", generation, current };
}

/** Answers with a source for a backup, or parks it. */
export function backup(state: TimelineState, msg: BackupMsg, waitedMs?: number): void {
  const { deps, readFrom, phase } = state;
  if (readFrom === undefined || phase.kind === "stopping") return early(state, msg, waitedMs);
  const lsn = msg.lsn ?? state.readable.last;
  const plan = planRead({ lsn, notModifiedSince: lsn }, readableNow(state));
  if (plan.kind === "refused") return msg.reply.answer(err(plan.error));
  if (plan.kind === "wait") {
    if (waitedMs === undefined && phase.kind !== "broken") return park(state, msg, plan.until);
    return refuse(msg, notReached(state, plan.until, waitedMs));
  }
  try {
    const boundary = findBoundary(deps.directory, deps.tenantId, deps.timelineId, plan.at);
    if (boundary === undefined) {
      const message = `no record boundary is known at or below ${Lsn.format(plan.at)}`;
      return refuse(msg, { kind: "bad-request", message });
    }
    const entry = timelineEntryOf(deps.catalog, deps.timelineId);
    const source = backupSource(readFrom, boundary, entry);
    msg.reply.answer(ok(heldSource(state, source)));
  } catch (error) {
    if (!(error instanceof StoreCorrupt)) throw error;
    refuse(msg, { kind: "corrupt", what: error.what, reason: error.reason });
  }
}

/** Answers those whose LSN has come. */
export function wake(state: TimelineState): void {
  const ready = state.waiters.ready(state.readable.last);
  if (ready.length === 0) return;
  const nowMs = state.deps.clock.steadyMs();
  for (const { who, parkedMs } of ready) {
    meters.lsnWaitNs.record((nowMs - parkedMs) * 1e6);
    again(state, who);
  }
}

/** Answers those whose deadline has passed. */
export function expire(state: TimelineState): void {
  const nowMs = state.deps.clock.steadyMs();
  for (const { who, parkedMs } of state.waiters.expired(nowMs)) {
    meters.lsnWaitNs.record((nowMs - parkedMs) * 1e6);
    again(state, who, nowMs - parkedMs);
  }
}

/** Refuses all who wait. */
export function dismiss(state: TimelineState, error: ReadError): void {
  for (const { who } of state.waiters.drain()) refuse(who, error);
}

/** Answers every request of the message with one error. */
export function refuse(who: ReadMsg | BackupMsg, error: ReadError): void {
  if (who.kind === "backup-source") return who.reply.answer(err(error));
  const answer: PageAnswer = { kind: "error", error };
  who.reply.answer(who.batch.requests.map(() => answer));
}

function again(state: TimelineState, who: ReadMsg | BackupMsg, waitedMs?: number): void {
  if (who.kind === "read") read(state, who, waitedMs);
  else backup(state, who, waitedMs);
}

/** Asked of a timeline that cannot be read: one that is being loaded is waited for. */
function early(state: TimelineState, who: ReadMsg | BackupMsg, waitedMs: number | undefined): void {
  if (state.phase.kind === "loading" && waitedMs === undefined) return park(state, who, LOADED);
  refuse(who, unreadable(state));
}

function park(state: TimelineState, who: ReadMsg | BackupMsg, until: Lsn): void {
  const parkedMs = state.deps.clock.steadyMs();
  const deadlineMs = parkedMs + WAIT_LSN_MS_MAX;
  if (state.waiters.park({ until, parkedMs, deadlineMs, who })) return;
  refuse(who, { kind: "too-many-waiters", limit: LSN_WAITERS_MAX });
}

function notReached(state: TimelineState, asked: Lsn, waitedMs = 0): ReadError {
  if (state.phase.kind !== "active") return unreadable(state);
  return { kind: "lsn-timeout", asked, last: state.readable.last, waitedMs };
}
