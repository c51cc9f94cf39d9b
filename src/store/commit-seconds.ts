// The seconds of a timeline that have commit samples, in order, for core/commit-times.ts. Of a branch,
// those of its ancestors up to the branch point too: a second in which the branch was made has samples
// of both.

import { type CommitSample, type SecondScan, decodeSecond } from "../core/commit-times.ts";
import { KIND } from "../core/key.ts";
import { LSN_INVALID, LSN_MAX, type Lsn } from "../core/lsn.ts";
import { VERSION } from "../core/version.ts";
import type { TimelineStore } from "./timeline-store.ts";

/** Microseconds from the Unix epoch to PostgreSQL's, 2000-01-01 UTC. */
export const PG_EPOCH_US = 946_684_800_000_000;

/** One timeline of a line of descent. */
export interface CommitSource {
  readonly store: TimelineStore;
  /** The second that is being filled, which comes from ingest. */
  readonly pending: { readonly second: number; readonly value: Uint8Array } | undefined;
  /** Commits up to here count: where the next younger one branched off. */
  readonly upTo: Lsn;
}

const GROUP = { kind: KIND.COMMIT_TIME, a: 0, b: 0, c: 0, d: 0 } as const;

/** `sources`: the timeline, then its ancestors. */
export function commitSeconds(sources: readonly CommitSource[]): SecondScan {
  const seconds = new Set<number>();
  sources[0]?.store.scan(KIND.COMMIT_TIME, 0, 0, (_group, second) => seconds.add(second));
  for (const { pending } of sources) if (pending !== undefined) seconds.add(pending.second);
  const sorted = Uint32Array.from(seconds).sort();
  return (second, toward) => {
    let i = lowerBound(sorted, toward === "older" ? second + 1 : second);
    // A second of an ancestor may have nothing at or below the branch point: go on past it.
    for (i = toward === "older" ? i - 1 : i; i >= 0 && i < sorted.length;) {
      const samples = samplesOf(sources, sorted[i]!);
      if (samples.length > 0) return { second: sorted[i]!, samples };
      i += toward === "older" ? -1 : 1;
    }
    return undefined;
  };
}

/** Eldest first: LSNs ascend from timeline to timeline. What a branch took over counts once. */
function samplesOf(sources: readonly CommitSource[], second: number): readonly CommitSample[] {
  const samples: CommitSample[] = [];
  for (const source of [...sources].reverse()) {
    const value = valueOf(source, second);
    if (value === undefined) continue;
    for (const { timeUs, lsn } of decodeSecond(second, value)) {
      const last = samples.at(-1);
      if (lsn > source.upTo) break;
      if (last !== undefined && lsn <= last.lsn) continue;
      samples.push({ timeUs: Math.max(timeUs, last?.timeUs ?? timeUs), lsn });
    }
  }
  return samples;
}

/** The newest value that the timeline itself has put. */
function valueOf({ store, pending }: CommitSource, second: number): Uint8Array | undefined {
  if (pending?.second === second) return pending.value;
  const floor = store.ancestor?.lsn ?? LSN_INVALID;
  let value: Uint8Array | undefined;
  store.visit(GROUP, second, LSN_MAX, floor, ({ type, bytes, start, length }) => {
    if (type === VERSION.VALUE) value = bytes.slice(start, start + length);
    return false;
  });
  return value;
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
