// What the hot paths count, for the whole process: plain numbers and perf_hooks histograms, tens of
// nanoseconds each and once a batch, not once a page. Read when somebody asks for metrics.

import { type RecordableHistogram, createHistogram } from "node:perf_hooks";

const TALLY_MAX = 255;

/** Values of the last one to two windows in `Counts` of two windows, and how many there ever were. */
abstract class Windowed<Counts> {
  count = 0;
  sum = 0;
  protected current: Counts;
  protected former: Counts;
  private readonly empty: () => Counts;
  private readonly windowMs: number;
  private readonly now: () => number;
  private sinceMs: number;

  constructor(windowMs: number, now: () => number, empty: () => Counts) {
    this.windowMs = windowMs;
    this.now = now;
    this.empty = empty;
    this.current = empty();
    this.former = empty();
    this.sinceMs = now();
  }

  abstract record(value: number): void;

  /** The value that so many percent do not exceed; undefined: nothing was recorded lately. */
  abstract percentile(percent: number): number | undefined;

  protected turn(): void {
    const age = this.now() - this.sinceMs;
    if (age < this.windowMs) return;
    this.former = age < 2 * this.windowMs ? this.current : this.empty();
    this.current = this.empty();
    this.sinceMs = this.now();
  }
}

const steadyMs = (): number => performance.now();

/** Durations or sizes: how many, their sum, and quantiles of the last one to two windows. */
export class Distribution extends Windowed<RecordableHistogram> {
  constructor(windowMs: number, now = steadyMs) {
    super(windowMs, now, () => createHistogram());
  }

  /** `value`: a whole number from 1 up; smaller ones count as 1. */
  record(value: number): void {
    this.count++;
    this.sum += value;
    this.current.record(Math.max(1, Math.round(value)));
  }

  percentile(percent: number): number | undefined {
    this.turn();
    const { current, former } = this;
    if (current.count + former.count === 0) return undefined;
    const both = createHistogram();
    both.add(current);
    both.add(former);
    return both.percentile(percent);
  }
}

/** Small whole numbers, counted one by one for each page: how many, their sum, and quantiles of the last one to two windows. */
export class Tally extends Windowed<Uint32Array> {
  constructor(windowMs: number, now = steadyMs) {
    // By value; larger ones count as the last.
    super(windowMs, now, () => new Uint32Array(TALLY_MAX + 1));
  }

  record(value: number): void {
    this.count++;
    this.sum += value;
    const at = value < TALLY_MAX ? value : TALLY_MAX;
    this.current[at] = this.current[at]! + 1;
  }

  percentile(percent: number): number | undefined {
    this.turn();
    const { current, former } = this;
    let left = 0;
    for (let value = 0; value <= TALLY_MAX; value++) left += current[value]! + former[value]!;
    if (left === 0) return undefined;
    left = Math.max(1, Math.ceil((left * percent) / 100));
    for (let value = 0; ; value++) {
      left -= current[value]! + former[value]!;
      if (left <= 0) return value;
    }
  }
}

/** Quantiles are those of the last minute or two. */
const WINDOW_MS = 60_000;

/** Page reads of one timeline since this process began. */
export interface ReadCounts {
  pages: number;
  batches: number;
  /** From arrival to answer, all batches together. */
  ns: number;
}

/** By timeline id; a timeline that nothing was read of has none, a deleted one has none any more. */
export const timelineReads = new Map<string, ReadCounts>();

/** Once a batch. */
export function countReads(timeline: string, pages: number, ns: number): void {
  let counts = timelineReads.get(timeline);
  if (counts === undefined) {
    timelineReads.set(timeline, (counts = { pages: 0, batches: 0, ns: 0 }));
  }
  counts.pages += pages;
  counts.batches++;
  counts.ns += ns;
}

/** Of this process. */
export const meters = {
  /** From a batch's arrival to its answer, nanoseconds. */
  readNs: new Distribution(WINDOW_MS),
  /** Requests in a batch. */
  readBatch: new Distribution(WINDOW_MS),
  /** Layers that a read of a page looked into: those that filters and ranges did not rule out. */
  readLayers: new Tally(WINDOW_MS),
  /** WAL records that redo applied for a read of a page. */
  readRecords: new Tally(WINDOW_MS),
  /** Pages that had been made before and were still there, and all others. */
  pageCacheHits: 0,
  pageCacheMisses: 0,
  /** Reads that waited for WAL, and how long, nanoseconds. */
  lsnWaitNs: new Distribution(WINDOW_MS),
  /** From asking for pages to be rebuilt to having them, a batch, nanoseconds. */
  redoNs: new Distribution(WINDOW_MS),
  /** Answers that were errors. */
  readErrors: 0,
  connectionsOpened: 0,
  connectionsClosed: 0,
  connectionsRefused: 0,
  tokensAccepted: 0,
  tokensRefused: 0,
};
