import { expect, test } from "vitest";
import { KIND } from "../../src/core/key.ts";
import { LSN_INVALID, type Lsn } from "../../src/core/lsn.ts";
import { PAGE_BYTES } from "../../src/core/page.ts";
import { KeptWalk } from "../../src/store/kept-walk.ts";
import { PageCache } from "../../src/store/page-cache.ts";
import { PageReader } from "../../src/store/read-page.ts";
import { inScratch } from "./scratch.ts";
import { StoreFixture, seal } from "./store-fixture.ts";

test("a walk over real layers: window, pins and what nobody needs, in bytes of the files", () =>
  inScratch(async (directory) => {
    const fixture = new StoreFixture(directory);
    const store = fixture.create(1);
    const pages = store.sink.groups.id(KIND.PAGE, 1663, 1, 10, 0);
    const sizes = store.sink.groups.id(KIND.REL_SIZE, 1663, 1, 10, 0);
    store.sink.putValue(sizes, 0, 100, Uint8Array.of(200, 0, 0, 0));
    // Two tiers; each page is written whole at 100, 200, 300 and 400.
    for (const lsn of [100, 200, 300, 400]) {
      for (let block = 0; block < 200; block++) {
        store.sink.putZeroPage(pages, block, lsn);
        store.sink.putOp(pages, block, lsn + 8, new Uint8Array(992));
      }
      if (lsn % 200 === 0) {
        store.freeze((lsn + 8) as Lsn, LSN_INVALID);
        await seal(store);
      }
    }
    const { relations } = new PageReader(store, new PageCache(64 * PAGE_BYTES));
    const walk = (cutoff: number, pins: readonly number[]) => {
      const retained = { cutoff: cutoff as Lsn, pins: pins as readonly Lsn[] };
      const job = new KeptWalk(store, relations, retained);
      let ms = 0;
      let turns = 1;
      while (job.step(() => ms++)) turns++;
      expect(turns, "bounded turns").toBeGreaterThan(1);
      expect(job.isStale).toBe(false);
      return job.result;
    };
    const all = store.sealedBytes;
    const near = (part: number): number => Math.abs(part - all / 4) / (all / 4);
    const { windowBytes, pins, supersededBytes } = walk(408, [208, 150]);
    expect(near(windowBytes)).toBeLessThan(0.05);
    expect(near(pins.get(208 as Lsn)!.bytes)).toBeLessThan(0.05);
    expect(pins.get(208 as Lsn)!.aloneBytes).toBe(pins.get(208 as Lsn)!.bytes);
    expect(near(pins.get(150 as Lsn)!.bytes)).toBeLessThan(0.05);
    expect(near(supersededBytes)).toBeLessThan(0.05);
    const everything = walk(90, []);
    expect(everything.windowBytes).toBe(all);
    await fixture.close();
  }));
