// When sealed layers are merged, and which. Layers of one sequence number are a *tier*: their key ranges
// do not overlap, and a newer tier holds newer versions. Merging neighbours makes one tier of them.
//
// What it costs: a byte is written once when it is sealed, once for each time its tier is merged into
// a much larger one, and when what the cutoff has passed is folded into the oldest tier, which waits
// until that is at least a part (COLLECT_PART) of it. Measured: 6.7 times in all, with a window that
// moves on; docs/decisions/005-compaction.md has the curve.

import {
  COLLECT_PART,
  IMAGE_RECORDS_MAX,
  MERGE_BACK_OFF_BYTES_PER_S,
  MERGE_FAN_IN,
  MERGE_SMALL_BYTES,
  MERGE_STEP_RATIO,
  READ_RECORDS_MAX,
  TIERS_MAX,
} from "./limits.ts";
import type { Lsn } from "./lsn.ts";

export interface Tier {
  readonly bytes: number;
  readonly lastLsn: Lsn;
  /** Superseded versions at or below this LSN were dropped when it was written. */
  readonly reducedTo: Lsn;
  readonly keys: number;
  readonly versions: number;
  /** Of a tier that was not merged yet: the most records of it that a page is read through. */
  readonly chainRecords: number;
  /** LSNs below reducedTo that somebody read when it was written: what they need is in it. */
  readonly pins?: readonly Lsn[];
}

export interface MergePlan {
  /** Indexes of tiers, newest is 0; both inclusive. */
  readonly from: number;
  readonly to: number;
  readonly reason: "fan-in" | "too-many" | "chains" | "collect" | "asked";
}

/**
 * What to merge next; `tiers` newest first. `pins`: the LSNs that somebody reads now, where they are
 * known. Undefined: nothing is due.
 */
export function planMerge(
  tiers: readonly Tier[],
  cutoff: Lsn,
  pins?: ReadonlySet<Lsn>,
): MergePlan | undefined {
  return (
    fanIn(tiers) ??
    tooMany(tiers) ??
    longChains(tiers) ??
    collect(tiers, cutoff) ??
    letGo(tiers, cutoff, pins)
  );
}

/** True when merging had better wait: WAL comes fast, and reads do not look into too many tiers yet. */
export const mergeCanWait = (tiers: number, walBytesPerSecond: number): boolean =>
  tiers < TIERS_MAX && walBytesPerSecond > MERGE_BACK_OFF_BYTES_PER_S;

/** Everything into one tier, whatever it costs. */
export const mergeAll = (tiers: readonly Tier[]): MergePlan | undefined =>
  tiers.length === 0 ? undefined : { from: 0, to: tiers.length - 1, reason: "asked" };

/** Newest tiers of similar size: enough of them make one of the next size. */
function fanIn(tiers: readonly Tier[]): MergePlan | undefined {
  for (let from = 0; from < tiers.length; from++) {
    let sum = tiers[from]!.bytes;
    let to = from;
    while (to + 1 < tiers.length) {
      const next = tiers[to + 1]!.bytes;
      if (next > MERGE_SMALL_BYTES && next > sum * MERGE_STEP_RATIO) break;
      sum += next;
      to++;
    }
    if (to - from + 1 >= MERGE_FAN_IN) return { from, to, reason: "fan-in" };
  }
  return undefined;
}

/** A read would touch too many: the neighbours that are cheapest to merge. */
function tooMany(tiers: readonly Tier[]): MergePlan | undefined {
  const count = tiers.length - TIERS_MAX + 1;
  if (count < 2) return undefined;
  let best: MergePlan | undefined;
  let bestBytes = Infinity;
  for (let from = 0; from + count <= tiers.length; from++) {
    const bytes = tiers.slice(from, from + count).reduce((sum, tier) => sum + tier.bytes, 0);
    if (bytes >= bestBytes) continue;
    bestBytes = bytes;
    best = { from, to: from + count - 1, reason: "too-many" };
  }
  return best;
}

/**
 * Merging leaves no page with more than IMAGE_RECORDS_MAX records behind it, whatever lies below. What
 * tiers that were not merged yet put on top of that must not be too much.
 */
function longChains(tiers: readonly Tier[]): MergePlan | undefined {
  const sum = tiers.reduce((records, tier) => records + tier.chainRecords, 0);
  if (sum <= READ_RECORDS_MAX - IMAGE_RECORDS_MAX) return undefined;
  const from = tiers.findIndex(({ chainRecords }) => chainRecords > 0);
  let to = from;
  while (to + 1 < tiers.length && tiers[to + 1]!.chainRecords > 0) to++;
  return { from, to, reason: "chains" };
}

/** Tiers that the cutoff has passed: what they supersede in the oldest is of no more use. */
function collect(tiers: readonly Tier[], cutoff: Lsn): MergePlan | undefined {
  const from = tiers.findIndex(({ lastLsn }) => lastLsn <= cutoff);
  if (from < 0) return undefined;
  const to = tiers.length - 1;
  const oldest = tiers[to]!;
  let newer = 0;
  for (const tier of tiers.slice(from, to)) newer += tier.bytes;
  if (from < to && newer >= oldest.bytes * COLLECT_PART) return { from, to, reason: "collect" };
  // Wholly below the cutoff, with history of which most is superseded: rewritten alone, once.
  const due = from === to && oldest.reducedTo < oldest.lastLsn;
  return due && hasHistory(oldest) ? { from, to, reason: "collect" } : undefined;
}

/** The oldest tier holds what a branch, snapshot or lease needed that is gone. */
function letGo(
  tiers: readonly Tier[],
  cutoff: Lsn,
  pins: ReadonlySet<Lsn> | undefined,
): MergePlan | undefined {
  const to = tiers.length - 1;
  const oldest = tiers[to];
  if (pins === undefined || oldest?.pins === undefined || !hasHistory(oldest)) return undefined;
  if (oldest.pins.every((lsn) => pins.has(lsn))) return undefined;
  const passed = tiers.findIndex(({ lastLsn }) => lastLsn <= cutoff);
  return { from: passed < 0 ? to : passed, to, reason: "collect" };
}

/** Enough besides one version of each key that rewriting it may be worth it. */
const hasHistory = ({ versions, keys }: Tier): boolean => versions > keys * (1 + COLLECT_PART);
