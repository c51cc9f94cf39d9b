// What the hot paths count, for the whole process: plain numbers and perf_hooks histograms, tens of
// nanoseconds each and once a batch, not once a page. Read when somebody asks for metrics.

import { type RecordableHistogram, createHistogram } from "node:perf_hooks";

/** Durations or sizes: how many, their sum, and quantiles of the last one to two windows. */
export class Distribution {
  count = 0;
  sum = 0;
  private readonly windowMs: number;
  private readonly now: () => number;
  private current: RecordableHistogram = createHistogram();
  private former: RecordableHistogram = createHistogram();
  private sinceMs: number;

  constructor(windowMs: number, now: () => number = () => performance.now()) {
    this.windowMs = windowMs;
    this.now = now;
    this.sinceMs = now();
  }

  /** `value`: a whole number from 1 up; smaller ones count as 1. */
  record(value: number): void {
    this.count++;
    this.sum += value;
    this.current.record(Math.max(1, Math.round(value)));
  }

  /** The value that so many percent do not exceed; undefined: nothing was recorded lately. */
  percentile(percent: number): number | undefined {
    this.turn();
    const { current, former } = this;
    if (current.count + former.count === 0) return undefined;
    const both = createHistogram();
    both.add(current);
    both.add(former);
    return both.percentile(percent);
  }

  private turn(): void {
    const age = this.now() - this.sinceMs;
    if (age < this.windowMs) return;
    this.former = age < 2 * this.windowMs ? this.current : createHistogram();
    this.current = createHistogram();
    this.sinceMs = this.now();
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
  /** Answers that were errors. */
  readErrors: 0,
  connectionsOpened: 0,
  connectionsClosed: 0,
  connectionsRefused: 0,
  tokensAccepted: 0,
  tokensRefused: 0,
};
