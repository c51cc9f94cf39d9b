// What the last minutes were: samples of each timeline's counters as they were polled, and the rates
// between them. Kept in the page only, bounded; a reload begins anew.

import { Lsn } from "../core/lsn.ts";
import type { TimelineInfo } from "../protocol/api.ts";

/** Samples of a timeline: five minutes at one a second. */
export const SAMPLES_MAX = 300;
/** Timelines with samples. */
const TIMELINES_MAX = 200;

interface Sample {
  readonly atMs: number;
  readonly received: number;
  readonly lagBytes: number | undefined;
  readonly pages: number;
  readonly batches: number;
  readonly readSeconds: number;
}

/** Columns of one chart each; undefined where nothing is known. `at` in Unix seconds. */
export interface Series {
  readonly at: readonly number[];
  /** Bytes a second. */
  readonly wal: readonly (number | undefined)[];
  /** Pages a second. */
  readonly reads: readonly (number | undefined)[];
  /** Mean time of a batch of reads, ms. */
  readonly latencyMs: readonly (number | undefined)[];
  /** Bytes that the source has and we have not. */
  readonly lag: readonly (number | undefined)[];
}

export class History {
  private readonly samples = new Map<string, Sample[]>();

  add(timelines: readonly TimelineInfo[], atMs: number): void {
    for (const one of timelines) {
      const list = this.samples.get(one.timeline_id) ?? [];
      // Last added is last in the map, so that the first one is the longest unseen.
      this.samples.delete(one.timeline_id);
      this.samples.set(one.timeline_id, list);
      list.push({
        atMs,
        received: Lsn.parse(one.positions.received),
        lagBytes: one.source.lag_bytes,
        pages: one.reads?.pages ?? 0,
        batches: one.reads?.batches ?? 0,
        readSeconds: one.reads?.seconds ?? 0,
      });
      if (list.length > SAMPLES_MAX) list.shift();
    }
    for (const id of this.samples.keys()) {
      if (this.samples.size <= TIMELINES_MAX) break;
      this.samples.delete(id);
    }
  }

  of(timeline: string): Series {
    const list = this.samples.get(timeline) ?? [];
    const rate = (i: number, of: (sample: Sample) => number): number | undefined => {
      const [before, now] = [list[i - 1], list[i]];
      if (before === undefined || now === undefined) return undefined;
      const [delta, seconds] = [of(now) - of(before), (now.atMs - before.atMs) / 1000];
      // Counters that went back are those of a server that was started again.
      return delta < 0 || seconds <= 0 ? undefined : delta / seconds;
    };
    return {
      at: list.map((sample) => sample.atMs / 1000),
      wal: list.map((_, i) => rate(i, (sample) => sample.received)),
      reads: list.map((_, i) => rate(i, (sample) => sample.pages)),
      latencyMs: list.map((_, i) => {
        const batches = rate(i, (sample) => sample.batches);
        const busy = rate(i, (sample) => sample.readSeconds);
        return batches === undefined || busy === undefined || batches === 0
          ? undefined
          : (busy / batches) * 1000;
      }),
      lag: list.map((sample) => sample.lagBytes),
    };
  }
}
