// Examples of merges that went wrong once. The law of merging has a simulator of its own: test/sim.

import { expect, test } from "vitest";
import { KIND } from "../../src/core/key.ts";
import { LSN_INVALID, type Lsn } from "../../src/core/lsn.ts";
import { PAGE_BYTES } from "../../src/core/page.ts";
import { MergeJob } from "../../src/store/merge-job.ts";
import { PageCache } from "../../src/store/page-cache.ts";
import { PageReader, isRedo } from "../../src/store/read-page.ts";
import type { TimelineStore } from "../../src/store/timeline-store.ts";
import { redo } from "../sim/workload.ts";
import { inScratch } from "./scratch.ts";
import { StoreFixture, seal } from "./store-fixture.ts";

const REL = { spc: 1663, db: 1, rel: 10, fork: 0 };

/** A record that adds to the first byte of the page. */
function putRecord({ sink }: TimelineStore, lsn: number): void {
  const { arena } = sink;
  arena.reserve(3);
  const { chunk, used } = arena;
  chunk.bytes.set([0, 0, 7], used);
  sink.putRecord(sink.groups.id(KIND.PAGE, 1663, 1, 10, 0), 0, lsn, 0, chunk, used, 3);
  arena.commit(3);
}

function readFirstByte(reader: PageReader, at: number): number {
  const page = new Uint8Array(PAGE_BYTES);
  const read = reader.readPage(REL, 0, at as Lsn, page, 0);
  if (read === undefined) return page[0]!;
  expect(isRedo(read)).toBe(true);
  const made = isRedo(read) ? redo(read) : undefined;
  return made?.ok === true ? made.page[0]! : NaN;
}

test("an image made while old tiers are merged has nothing of a newer tier in it", () =>
  inScratch(async (directory) => {
    const fixture = new StoreFixture(directory);
    const store = fixture.create(1);
    const sizes = store.sink.groups.id(KIND.REL_SIZE, 1663, 1, 10, 0);
    store.sink.putValue(sizes, 0, 100, Uint8Array.of(1, 0, 0, 0));
    store.sink.putZeroPage(store.sink.groups.id(KIND.PAGE, 1663, 1, 10, 0), 0, 100);
    const tier = async (from: number, count: number): Promise<void> => {
      for (let i = 0; i < count; i++) putRecord(store, from + i * 8);
      store.freeze((from + count * 8) as Lsn, LSN_INVALID);
      await seal(store);
    };
    await tier(108, 20);
    await tier(300, 20);
    await tier(500, 20);
    const cache = (): PageCache => new PageCache(64 * PAGE_BYTES);
    const reader = new PageReader(store, cache());
    const lsns = [480, 500, 508, 600, 652];
    const before = lsns.map((at) => readFirstByte(reader, at));

    // Everything at or above 600, which lies in the newest tier, is readable, and so is 480.
    const merge = store.beginMerge({
      plan: { from: 1, to: 2, reason: "asked" },
      retained: { cutoff: 600 as Lsn, pins: [480 as Lsn] },
      nowMs: 0,
    });
    const { files } = fixture;
    const job = new MergeJob({
      ...{ order: merge.order, files, steadyMs: () => 0 },
      fault: () => undefined,
    });
    let turn = job.step();
    for (; turn.kind !== "written"; turn = job.step()) {
      if (turn.kind === "redo") job.give(turn.requests.map(redo));
      if (turn.kind === "close") await job.closeLayer();
    }
    await merge.enter(turn.merged);
    expect(turn.merged.counts.images).toBe(1);
    const after = lsns.map((at) => readFirstByte(new PageReader(store, cache()), at));
    expect(after).toEqual(before);
    await fixture.close();
  }));
