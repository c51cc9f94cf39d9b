// The seconds of a timeline that have commit samples, in order, for core/commit-times.ts.

import type { SecondScan } from "../core/commit-times.ts";
import { KIND } from "../core/key.ts";
import { LSN_MAX } from "../core/lsn.ts";
import type { TimelineStore } from "./timeline-store.ts";

/** Microseconds from the Unix epoch to PostgreSQL's, 2000-01-01 UTC. */
export const PG_EPOCH_US = 946_684_800_000_000;

/** `pending`: the second that is being filled, which comes from ingest. */
export function commitSeconds(
  store: TimelineStore,
  pending: { readonly second: number; readonly value: Uint8Array } | undefined,
): SecondScan {
  const group = { kind: KIND.COMMIT_TIME, a: 0, b: 0, c: 0, d: 0 };
  const seconds = new Set<number>();
  store.scan(KIND.COMMIT_TIME, 0, 0, (_group, second) => seconds.add(second));
  if (pending !== undefined) seconds.add(pending.second);
  const sorted = Uint32Array.from(seconds).sort();
  const valueAt = (second: number): Uint8Array | undefined =>
    pending?.second === second ? pending.value : store.value(group, second, LSN_MAX)?.value;
  return (second, toward) => {
    let i = lowerBound(sorted, toward === "older" ? second + 1 : second);
    // A second of an ancestor may have nothing at or below the branch point: go on past it.
    for (i = toward === "older" ? i - 1 : i; i >= 0 && i < sorted.length;) {
      const value = valueAt(sorted[i]!);
      if (value !== undefined) return { second: sorted[i]!, value };
      i += toward === "older" ? -1 : 1;
    }
    return undefined;
  };
}

/** Index of the first element that is at least `value`. */
function lowerBound(sorted: Uint32Array, value: number): number {
  let low = 0;
  let high = sorted.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (sorted[middle]! < value) low = middle + 1;
    else high = middle;
  }
  return low;
}
