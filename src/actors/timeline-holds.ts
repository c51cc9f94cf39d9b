// Leases and snapshots of a timeline: made, renewed and let go, durable before it is answered. Both are
// decided by the timeline itself, in one handler, so that neither its cutoff nor a merge moves meanwhile.
//
// A lease belongs to an owner and ends; the same owner and LSN again renews it. A snapshot has a name and
// stays. What is below the cutoff and not held already can be held no more: it may be gone.

import type { AdminError } from "../core/admin-error.ts";
import { isLive, notKept } from "../core/holds.ts";
import { LEASES_MAX, LEASE_MS, SNAPSHOTS_MAX } from "../core/limits.ts";
import { Lsn } from "../core/lsn.ts";
import { type Result, err, ok } from "../core/result.ts";
import type { LeaseEntry, SnapshotEntry } from "../store/catalog-entries.ts";
import { StoreCorrupt, StoreFailed, StoreFull } from "../store/store-errors.ts";
import type { Reply } from "./runtime.ts";
import { findBoundary } from "./timeline-boundary.ts";
import { readableNow } from "./timeline-pins.ts";
import type { TimelineState } from "./timeline-state.ts";

/** Owner of leases that nobody signed: those of the page service and of Neon's API. */
export const ANYBODY = "-";

export type HoldMsg =
  /** Keeps history readable at `lsn`, for `durationMs` or as long as computes ask for; answers the end in Unix ms. */
  | {
      readonly kind: "lease";
      readonly lsn: Lsn;
      readonly owner?: string;
      readonly durationMs?: number;
      readonly reply: Reply<Result<number, AdminError>>;
    }
  /** Ends leases before their time: those of an owner, at an LSN, or both; answers them. */
  | {
      readonly kind: "release-leases";
      readonly lsn: Lsn | undefined;
      readonly owner: string | undefined;
      readonly reply: Reply<Result<readonly LeaseEntry[], AdminError>>;
    }
  /** Keeps history readable at `lsn` under a name. */
  | {
      readonly kind: "snapshot";
      readonly name: string;
      readonly lsn: Lsn;
      readonly reply: Reply<Result<SnapshotEntry, AdminError>>;
    }
  | {
      readonly kind: "delete-snapshot";
      readonly name: string;
      readonly reply: Reply<Result<undefined, AdminError>>;
    };

/** Handles one; a disk that is full or damaged refuses it and ends nothing. */
export function hold(state: TimelineState, msg: HoldMsg): void {
  const { deps } = state;
  try {
    switch (msg.kind) {
      case "lease":
        return msg.reply.answer(lease(state, msg));
      case "release-leases":
        return msg.reply.answer(releaseLeases(state, msg));
      case "snapshot":
        return msg.reply.answer(snapshot(state, msg.name, msg.lsn));
      case "delete-snapshot":
        return msg.reply.answer(deleteSnapshot(state, msg.name));
    }
  } catch (error) {
    if (error instanceof StoreFailed) deps.onFatal(error);
    const full = error instanceof StoreFull;
    if (!full && !(error instanceof StoreCorrupt)) throw error;
    deps.log.warn({ reason: error.message }, `${msg.kind} is refused`);
    msg.reply.answer(err({ kind: full ? "unavailable" : "internal", message: error.message }));
  }
}

function lease(
  state: TimelineState,
  { lsn, owner = ANYBODY, durationMs = LEASE_MS }: Extract<HoldMsg, { kind: "lease" }>,
): Result<number, AdminError> {
  const { deps } = state;
  const { catalog, timelineId: timeline } = deps;
  const refused = refusal(state, lsn);
  if (refused !== undefined) return err(refused);
  const nowMs = deps.clock.nowMs();
  const all = catalog.leases(timeline);
  const over = all.filter((each) => !isLive(each, nowMs));
  const known = all.find((each) => each.lsn === lsn && each.owner === owner);
  if (known === undefined && all.length - over.length >= LEASES_MAX) {
    const message = `"${nameOf(state)}" has ${LEASES_MAX} leases already; release some, or renew one`;
    return err({ kind: "precondition", message });
  }
  // A lease never becomes shorter.
  const expiresAtMs = Math.max(known?.expiresAtMs ?? 0, nowMs + durationMs);
  catalog.change((change) => {
    for (const old of over) change.removeLease(old);
    change.putLease({ timeline, lsn, owner, expiresAtMs });
  });
  return ok(expiresAtMs);
}

function releaseLeases(
  state: TimelineState,
  { lsn, owner }: Extract<HoldMsg, { kind: "release-leases" }>,
): Result<readonly LeaseEntry[], AdminError> {
  const { catalog, timelineId } = state.deps;
  const released = catalog
    .leases(timelineId)
    .filter((each) => lsn === undefined || each.lsn === lsn)
    .filter((each) => owner === undefined || each.owner === owner);
  if (released.length === 0) {
    const of = owner === undefined ? "" : ` of ${owner}`;
    const at = lsn === undefined ? "" : ` at ${Lsn.format(lsn)}`;
    const remedy = `see: pageserver lease list ${nameOf(state)}`;
    return err({ kind: "not-found", what: `a lease${of}${at} on "${nameOf(state)}"`, remedy });
  }
  catalog.change((change) => released.forEach((each) => change.removeLease(each)));
  return ok(released);
}

/** At the newest record boundary at or below `lsn`. The same name and LSN again is the same snapshot. */
function snapshot(state: TimelineState, name: string, lsn: Lsn): Result<SnapshotEntry, AdminError> {
  const { deps, wal } = state;
  const { catalog, directory, tenantId, timelineId: timeline, clock } = deps;
  const refused = refusal(state, lsn);
  if (refused !== undefined) return err(refused);
  const durable = Lsn.normalize(wal?.positions.durable ?? Lsn.of(0));
  if (lsn > durable) {
    const message =
      `${Lsn.format(lsn)} is above the last durable record of "${nameOf(state)}", ` +
      `${Lsn.format(durable)}; take the snapshot there or wait`;
    return err({ kind: "precondition", message });
  }
  const boundary = findBoundary(directory, tenantId, timeline, lsn);
  const { cutoff, pinned = [] } = readableNow(state);
  if (boundary === undefined || notKept(boundary.start, cutoff, pinned, "") !== undefined) {
    const message = `no record boundary is kept at or below ${Lsn.format(lsn)}`;
    return err({ kind: "precondition", message });
  }
  const all = catalog.snapshots(timeline);
  const known = all.find((each) => each.name === name);
  if (known?.lsn === boundary.start) return ok(known);
  if (known !== undefined) {
    const message =
      `"${nameOf(state)}" has a snapshot "${name}" already, at ${Lsn.format(known.lsn)}; ` +
      `delete it first, or take another name`;
    return err({ kind: "conflict", message });
  }
  if (all.length >= SNAPSHOTS_MAX) {
    const message = `"${nameOf(state)}" has ${SNAPSHOTS_MAX} snapshots already; delete some`;
    return err({ kind: "precondition", message });
  }
  const entry = { timeline, name, lsn: boundary.start, createdAtMs: clock.nowMs() };
  catalog.change((change) => change.putSnapshot(entry));
  return ok(entry);
}

function deleteSnapshot(state: TimelineState, name: string): Result<undefined, AdminError> {
  const { catalog, timelineId: timeline } = state.deps;
  if (!catalog.snapshots(timeline).some((each) => each.name === name)) {
    const remedy = `see: pageserver snapshot list ${nameOf(state)}`;
    return err({ kind: "not-found", what: `snapshot "${name}" of "${nameOf(state)}"`, remedy });
  }
  catalog.change((change) => change.removeSnapshot({ timeline, name }));
  return ok(undefined);
}

/** Why an LSN cannot be held; undefined: it can. */
function refusal(state: TimelineState, lsn: Lsn): AdminError | undefined {
  const name = nameOf(state);
  if (state.readFrom === undefined) {
    return { kind: "unavailable", message: `timeline "${name}" is not loaded; retry in a moment` };
  }
  const { cutoff, pinned = [] } = readableNow(state);
  const message = notKept(lsn, cutoff, pinned, name);
  return message === undefined ? undefined : { kind: "precondition", message };
}

const nameOf = ({ deps }: TimelineState): string =>
  deps.directory.find(deps.tenantId, deps.timelineId)?.entry.name ?? deps.timelineId;
