// What part of a page server's processor time for page reads goes into counting them (src/io/meters.ts):
// how many batches and pages were counted, times what counting one costs when nothing else is done. Both
// are processor time of this process, so that a busy machine says nearly the same as a quiet one.

import { Distribution, Tally, countReads, meters, timelineReads } from "../src/io/meters.ts";

const WINDOW_MS = 60_000;
const BATCHES = 50_000;
const NOBODY = "counting";

/** Since it was made, or asked last. */
export class Counting {
  private cpuNs = cpuNs();
  private batches = meters.readBatch.count;
  private pages = meters.readBatch.sum;

  /** 0.01: a hundredth. */
  part(): number {
    const batches = meters.readBatch.count - this.batches;
    const pages = meters.readBatch.sum - this.pages;
    const spentNs = cpuNs() - this.cpuNs;
    const each = Math.max(1, Math.round(pages / Math.max(1, batches)));
    countBatches(each); // compiled
    const from = cpuNs();
    countBatches(each);
    const part = (((cpuNs() - from) / BATCHES) * batches) / spentNs;
    this.cpuNs = cpuNs();
    this.batches = meters.readBatch.count;
    this.pages = meters.readBatch.sum;
    return part;
  }
}

/** As actors/page-stream.ts and actors/timeline-reads.ts do, with the clock that they read for it. */
function countBatches(pages: number): void {
  const ns = new Distribution(WINDOW_MS);
  const sizes = new Distribution(WINDOW_MS);
  const layers = new Tally(WINDOW_MS);
  const records = new Tally(WINDOW_MS);
  const cache = { hits: 0, misses: 0 };
  for (let batch = 0; batch < BATCHES; batch++) {
    const askedMs = performance.now();
    for (let page = 0; page < pages; page++) {
      layers.record(page & 3);
      records.record(page & 7);
      if ((page & 1) === 0) cache.hits++;
      else cache.misses++;
    }
    const took = (performance.now() - askedMs) * 1e6;
    ns.record(took);
    sizes.record(pages);
    countReads(NOBODY, pages, took);
  }
  timelineReads.delete(NOBODY);
}

function cpuNs(): number {
  const { user, system } = process.cpuUsage();
  return (user + system) * 1000;
}
