// Which LSN was current when: samples of commits, kept by second (KIND.COMMIT_TIME). Times are
// PostgreSQL's: microseconds since 2000-01-01 UTC, as commit records carry them.
//
// Each hundredth of a second keeps its *last* commit, so "as of t" includes every commit up to t but
// for those in the hundredth that t falls into, and the last commit before a pause exactly. Commits
// whose time runs a little behind their place in the WAL count as their predecessor's time: within a
// second times and LSNs both ascend. A clock set back by more is believed.
//
//   value: (time in µs since the last sample or the second's start, LSN / 8 since the last sample or 0) ...
//   as varints

import { assert } from "./assert.ts";
import { COMMIT_CLOCK_BACK_S, COMMIT_TIME_SAMPLE_US } from "./limits.ts";
import { Lsn } from "./lsn.ts";
import { VARINT_BYTES_MAX, VarintReader, writeVarint } from "./varint.ts";

const SECOND_US = 1_000_000;
const SECOND_MAX = 4_294_967_295;
const SAMPLES_MAX = Math.ceil(SECOND_US / COMMIT_TIME_SAMPLE_US);

export const secondOf = (timeUs: number): number => Math.floor(timeUs / SECOND_US);

export interface CommitSample {
  /** Microseconds since 2000-01-01. */
  readonly timeUs: number;
  /** End of the commit record. */
  readonly lsn: Lsn;
}

/** The second that is being filled. */
export class CommitSecond {
  /** Something was added that no stored value has. */
  dirty = false;
  private filled = -1;
  /** The second of the commit that this second was chosen for: itself or a little earlier. */
  private chosenFor = -1;
  private count = 0;
  private readonly times = new Float64Array(SAMPLES_MAX);
  private readonly lsns = new Float64Array(SAMPLES_MAX);
  private readonly bytes = new Uint8Array(SAMPLES_MAX * 2 * VARINT_BYTES_MAX);

  /** Which second it is; -1: none. */
  get second(): number {
    return this.filled;
  }

  /** True when a commit at `timeUs` belongs to this second, perhaps because it is only a little late. */
  takes(timeUs: number): boolean {
    const second = secondOf(timeUs);
    return second <= this.chosenFor && this.filled - second <= COMMIT_CLOCK_BACK_S;
  }

  /**
   * Forgets this second (the caller has put its value) and goes on with the one that a commit at
   * `timeUs` belongs to: its own, or the newest that has samples and of which it is only late.
   */
  moveTo(timeUs: number, stored: (second: number) => Uint8Array | undefined): void {
    this.chosenFor = secondOf(timeUs);
    this.filled = this.chosenFor;
    this.dirty = false;
    this.count = 0;
    for (let late = COMMIT_CLOCK_BACK_S; late >= 0; late--) {
      const value = stored(this.chosenFor + late);
      if (value === undefined) continue;
      this.filled = this.chosenFor + late;
      for (const { timeUs: time, lsn } of decodeSecond(this.filled, value)) {
        this.times[this.count] = time;
        this.lsns[this.count++] = lsn;
      }
      return;
    }
  }

  /** Forgets everything: the next commit finds its second in what is stored. */
  forget(): void {
    this.filled = -1;
    this.chosenFor = -1;
    this.count = 0;
    this.dirty = false;
  }

  /** Adds a commit. LSNs ascend from call to call. */
  add(timeUs: number, lsn: number): void {
    const last = this.count - 1;
    if (last >= 0 && slotOf(timeUs) <= slotOf(this.times[last]!)) {
      this.times[last] = Math.max(this.times[last]!, timeUs);
      this.lsns[last] = lsn;
    } else {
      assert(this.count < SAMPLES_MAX, "a second has more samples than slots");
      this.times[this.count] = timeUs;
      this.lsns[this.count++] = lsn;
    }
    this.dirty = true;
  }

  /** What to store; a view that the next call changes. */
  value(): Uint8Array {
    let time = this.filled * SECOND_US;
    let lsn = 0;
    let at = 0;
    for (let i = 0; i < this.count; i++) {
      at = writeVarint(this.bytes, at, this.times[i]! - time);
      at = writeVarint(this.bytes, at, (this.lsns[i]! - lsn) / 8);
      time = this.times[i]!;
      lsn = this.lsns[i]!;
    }
    return this.bytes.subarray(0, at);
  }
}

const slotOf = (timeUs: number): number => Math.floor(timeUs / COMMIT_TIME_SAMPLE_US);

/** Samples of a stored second, ascending. Throws MalformedInput. */
export function decodeSecond(second: number, value: Uint8Array): readonly CommitSample[] {
  const samples: CommitSample[] = [];
  const reader = new VarintReader(value);
  let timeUs = second * SECOND_US;
  let lsn = 0;
  while (!reader.done) {
    timeUs += reader.next();
    lsn += reader.next() * 8;
    samples.push({ timeUs, lsn: lsn as Lsn });
  }
  return samples;
}

/**
 * The stored second nearest to `second`, itself included, in the direction asked for. The second
 * that is still being filled comes from its writer.
 */
export type SecondScan = (second: number, toward: "older" | "newer") => StoredSecond | undefined;

export interface StoredSecond {
  readonly second: number;
  /** Ascending, at least one. */
  readonly samples: readonly CommitSample[];
}

/**
 * past: all samples are later, `lsn` is the first one's · future: all are at or before the time, `lsn`
 * is the last one's · present: reading at `lsn` shows the commits up to that time and none after.
 */
export type LsnAtTime =
  { readonly kind: "present" | "past" | "future"; readonly lsn: Lsn } | { readonly kind: "nodata" };

/** Which LSN shows the database as it was at `timeUs`. */
export function lsnAtTime(timeUs: number, scan: SecondScan): LsnAtTime {
  const newest = read(scan(SECOND_MAX, "older")).at(-1);
  if (newest === undefined) return { kind: "nodata" };
  if (newest.timeUs <= timeUs) return { kind: "future", lsn: newest.lsn };
  for (let second = Math.min(secondOf(timeUs), SECOND_MAX); second >= 0;) {
    const found = scan(second, "older");
    if (found === undefined) break;
    const sample = read(found).findLast((s) => s.timeUs <= timeUs);
    if (sample !== undefined) return { kind: "present", lsn: sample.lsn };
    second = found.second - 1;
  }
  return { kind: "past", lsn: read(scan(0, "newer"))[0]!.lsn };
}

/** What is left of the answer when nothing below `cutoff` can be read. */
export type ReadableLsnAtTime = { readonly kind: LsnAtTime["kind"]; readonly lsn: Lsn };

/**
 * As lsnAtTime, of what can be read: the LSN is never below the cutoff. `past`: what the time showed
 * is gone, and the cutoff, which may show later commits too, is the nearest.
 */
export function readableLsnAtTime(
  timeUs: number,
  cutoff: Lsn,
  scan: SecondScan,
): ReadableLsnAtTime {
  const found = lsnAtTime(timeUs, scan);
  if (found.kind === "nodata") return { kind: "nodata", lsn: cutoff };
  if (found.lsn >= cutoff) return found;
  // Where no commit came after, the cutoff shows the same. Else it may show one that has no sample.
  return { kind: found.kind === "future" ? "future" : "past", lsn: cutoff };
}

/** Time of the newest sampled commit at or below `lsn`; undefined when there is none. */
export function timeAtLsn(lsn: Lsn, scan: SecondScan): number | undefined {
  let low = 0;
  let high = SECOND_MAX;
  let best: number | undefined;
  while (low <= high) {
    const middle = Math.floor((low + high) / 2);
    const found = scan(middle, "older");
    const samples = found !== undefined && found.second >= low ? read(found) : [];
    if (samples.length === 0) low = middle + 1;
    else if (samples[0]!.lsn > lsn) high = found!.second - 1;
    else {
      best = samples.findLast((s) => s.lsn <= lsn)!.timeUs;
      low = middle + 1;
    }
  }
  return best;
}

const read = (found: StoredSecond | undefined): readonly CommitSample[] => found?.samples ?? [];
