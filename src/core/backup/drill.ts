// Restore drills: what of a timeline's backup is restored for a trial, as of which LSNs, what is
// remembered of it, and who is due. Chance comes in as an argument: a seed repeats a drill.

import type { TimelineId } from "../ids.ts";
import { DRILL_PROBLEMS_MAX, DRILL_RETRY_MS } from "../limits.ts";
import { LSN_INVALID, Lsn } from "../lsn.ts";

/**
 * missing, corrupt: as a scrub has them. wrong: it is whole, and not what the manifest says it is.
 * differs: what was restored makes another page than the one that is served.
 */
export type DrillProblemKind = "missing" | "corrupt" | "wrong" | "differs";

export interface DrillProblem {
  readonly kind: DrillProblemKind;
  /** Of the object. */
  readonly name: string;
  readonly detail: string;
}

/** What one drill of one timeline has come to. */
export interface DrillOutcome {
  /** The LSN up to which the manifest's layers make pages: every page was compared as of it, too. */
  readonly upTo: Lsn;
  /** Pages, each as of one LSN, that were compared and were equal. */
  readonly pages: number;
  /** Those that could not be: too much would have had to be fetched, or retention took them meanwhile. */
  readonly skipped: number;
  /** Restored layers and the bytes of their files. */
  readonly layers: number;
  readonly bytes: number;
  /** The first ones. */
  readonly problems: readonly DrillProblem[];
}

/** What is remembered of a timeline's drills. */
export interface DrillRecord {
  /** The position of the last drill that compared pages and found nothing wrong, and its end. */
  readonly verified?: { readonly lsn: Lsn; readonly atMs: number } | undefined;
  /** The last drill's end, Unix ms. */
  readonly endedAtMs: number;
  readonly pages: number;
  readonly skipped: number;
  readonly layers: number;
  readonly bytes: number;
  readonly problems: readonly DrillProblem[];
  /** Why the last one could not be brought to its end; nothing is known of the backup then. */
  readonly failure?: string | undefined;
}

/** What is remembered from now on. A drill that compared nothing has verified nothing. */
export function recordOf(
  before: DrillRecord | undefined,
  outcome: DrillOutcome,
  nowMs: number,
): DrillRecord {
  const { upTo, pages, skipped, layers, bytes, problems } = outcome;
  const sound = pages > 0 && problems.length === 0;
  const verified = sound ? { lsn: upTo, atMs: nowMs } : before?.verified;
  return {
    ...(verified !== undefined && { verified }),
    ...{ endedAtMs: nowMs, pages, skipped, layers, bytes },
    problems: problems.slice(0, DRILL_PROBLEMS_MAX),
  };
}

/** Of a drill that was not brought to its end: what was found before stays found. */
export const recordOfFailure = (
  before: DrillRecord | undefined,
  failure: string,
  nowMs: number,
): DrillRecord => ({
  ...(before ?? { pages: 0, skipped: 0, layers: 0, bytes: 0, problems: [] }),
  ...{ endedAtMs: nowMs, failure },
});

/** The one whose last drill is the longest ago, if it is due; one that had none comes first. */
export function mostDue<T>(
  all: readonly { readonly of: T; readonly record: DrillRecord | undefined }[],
  nowMs: number,
  everyMs: number,
): T | undefined {
  let found: T | undefined;
  let longestMs = -1;
  for (const { of, record } of all) {
    const ms = record === undefined ? Infinity : nowMs - record.endedAtMs;
    const wait = record?.failure === undefined ? everyMs : Math.min(everyMs, DRILL_RETRY_MS);
    // A clock that was set back must not put drills off for long.
    const isDue = ms >= wait || ms < 0;
    if (!isDue || Math.abs(ms) <= longestMs) continue;
    longestMs = Math.abs(ms);
    found = of;
  }
  return found;
}

/** Numbers 0 <= n < 1 that a seed repeats (mulberry32). */
export function chanceOf(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b_79f5) >>> 0;
    let n = Math.imul(state ^ (state >>> 15), state | 1);
    n ^= n + Math.imul(n ^ (n >>> 7), n | 61);
    return ((n ^ (n >>> 14)) >>> 0) / 4_294_967_296;
  };
}

/** At most `count` of them by chance, in no order, of at most `bytes` together. */
export function sampleLayers<L extends { readonly bytes: number }>(
  layers: readonly L[],
  most: { readonly count: number; readonly bytes: number },
  chance: () => number,
): readonly L[] {
  const left = [...layers];
  const taken: L[] = [];
  let bytes = 0;
  while (left.length > 0 && taken.length < most.count) {
    const place = Math.floor(chance() * left.length);
    const layer = left[place]!;
    left[place] = left.at(-1)!;
    left.pop();
    if (bytes + layer.bytes > most.bytes) continue;
    bytes += layer.bytes;
    taken.push(layer);
  }
  return taken;
}

/** Some of all that are shown, each as likely as any other, without knowing how many will be. */
export class Reservoir<T> {
  readonly kept: T[] = [];
  private readonly most: number;
  private readonly chance: () => number;
  private seen = 0;

  constructor(most: number, chance: () => number) {
    this.most = most;
    this.chance = chance;
  }

  show(one: T): void {
    this.seen++;
    if (this.kept.length < this.most) this.kept.push(one);
    else {
      const place = Math.floor(this.chance() * this.seen);
      if (place < this.most) this.kept[place] = one;
    }
  }
}

/**
 * LSNs as of which a page of a layer is compared: one by chance among those of the layer's versions, where
 * readers may still ask for it, and the last that can be restored. None: history has no such LSN.
 */
export function sampleLsns(
  layer: { readonly firstLsn: Lsn; readonly lastLsn: Lsn },
  range: { readonly floor: Lsn; readonly upTo: Lsn },
  chance: () => number,
): readonly Lsn[] {
  const { floor, upTo } = range;
  if (floor > upTo) return [];
  const from = Math.max(layer.firstLsn, floor);
  const to = Math.min(layer.lastLsn, upTo);
  if (from >= upTo || from > to) return [upTo];
  const within = Lsn.of(from + Math.floor(chance() * (to - from + 1)));
  return within === upTo ? [upTo] : [within, upTo];
}

/** What a timeline's layers alone make: the timeline first, then its ancestors, read up to the branch points. */
export function restorableTo(
  hops: readonly { readonly sealedLsn: Lsn; readonly upTo: Lsn }[],
): Lsn {
  let [own] = hops.map(({ sealedLsn }) => sealedLsn);
  own ??= LSN_INVALID;
  // An ancestor whose layers do not reach the branch point yet: WAL has the rest.
  for (const { sealedLsn, upTo } of hops.slice(1)) {
    if (sealedLsn < upTo && sealedLsn < own) own = sealedLsn;
  }
  return own;
}

/** For `status`: what was found and what to do; undefined: nothing is wrong. */
export function drillAlarm(record: DrillRecord | undefined, tenant: string): string | undefined {
  const [first] = record?.problems ?? [];
  if (record === undefined || first === undefined) return undefined;
  const more = record.problems.length === 1 ? "" : ` (and ${record.problems.length - 1} more)`;
  return (
    `a restore drill of its backup failed: ${first.name} is ${WORDS[first.kind]}: ${first.detail}${more}; ` +
    `run pageserver scrub ${tenant}, which repairs it where this server has it, then pageserver drill ${tenant}`
  );
}

const WORDS: Readonly<Record<DrillProblemKind, string>> = {
  ...{ missing: "missing", corrupt: "corrupt", wrong: "not what the manifest says" },
  differs: "not what is served",
};

/** Records of timelines that are still there. */
export const keptRecords = (
  records: ReadonlyMap<TimelineId, DrillRecord>,
  timelines: ReadonlySet<TimelineId>,
): Readonly<Record<string, DrillRecord>> =>
  Object.fromEntries([...records].filter(([id]) => timelines.has(id)));
