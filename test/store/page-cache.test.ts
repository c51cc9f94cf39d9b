import fc from "fast-check";
import { describe, expect, test } from "vitest";
import type { Lsn } from "../../src/core/lsn.ts";
import { PAGE_BYTES } from "../../src/core/page.ts";
import { ENTRY_BYTES, PageCache } from "../../src/store/page-cache.ts";

const SCOPE = 1;
const lsn = (n: number): Lsn => n as Lsn;
const page = (n: number): Uint8Array => new Uint8Array(PAGE_BYTES).fill(n);
/** Bytes of a cache of so many entries. */
const room = (entries: number): number => entries * (PAGE_BYTES + ENTRY_BYTES);

const put = (cache: PageCache, block: number, from: number, upTo: number, fill = block): void =>
  cache.put(SCOPE, block, lsn(from), lsn(upTo), page(fill), 0);
const find = (cache: PageCache, block: number): number | undefined => cache.find(SCOPE, block);

describe("a page cache", () => {
  test("gives back a copy of what was put, with its LSNs", () => {
    const cache = new PageCache();
    const bytes = page(7);
    cache.put(SCOPE, 3, lsn(10), lsn(20), bytes, 0);
    bytes.fill(0);
    const slot = find(cache, 3)!;
    expect([...cache.page(slot)]).toEqual([...page(7)]);
    expect([cache.from(slot), cache.upTo(slot)]).toEqual([10, 20]);
    expect(cache.page(slot)).toHaveLength(PAGE_BYTES);
  });

  test("tells scopes and blocks apart", () => {
    const cache = new PageCache();
    const [one, other] = [cache.newScope(), cache.newScope()];
    cache.put(one, 3, lsn(10), lsn(20), page(1), 0);
    expect(cache.find(one, 4)).toBeUndefined();
    expect(cache.find(other, 3)).toBeUndefined();
    cache.put(other, 3, lsn(10), lsn(20), page(2), 0);
    expect(cache.page(cache.find(one, 3)!)[0]).toBe(1);
    expect(cache.page(cache.find(other, 3)!)[0]).toBe(2);
    expect(cache.pages).toBe(2);
  });

  test("takes a page out of the middle of other bytes", () => {
    const cache = new PageCache();
    const bytes = new Uint8Array(3 * PAGE_BYTES).fill(1);
    bytes.fill(2, 100, 100 + PAGE_BYTES);
    cache.put(SCOPE, 3, lsn(10), lsn(20), bytes, 100);
    expect([...cache.page(find(cache, 3)!)]).toEqual([...page(2)]);
  });

  test("keeps the newer of two pages; the same one is right for longer", () => {
    const cache = new PageCache();
    put(cache, 3, 10, 20, 1);
    put(cache, 3, 5, 9, 2);
    expect(cache.page(find(cache, 3)!)[0]).toBe(1);
    put(cache, 3, 10, 40, 3);
    expect(cache.page(find(cache, 3)!)[0]).toBe(1);
    expect(cache.upTo(find(cache, 3)!)).toBe(40);
    put(cache, 3, 10, 30, 3);
    expect(cache.upTo(find(cache, 3)!)).toBe(40);
    put(cache, 3, 50, 60, 4);
    expect(cache.page(find(cache, 3)!)[0]).toBe(4);
    expect(cache.from(find(cache, 3)!)).toBe(50);
  });

  test("is empty after clear, and can be filled again", () => {
    const cache = new PageCache(room(3));
    for (let block = 0; block < 5; block++) put(cache, block, 1, 1);
    cache.clear();
    expect(find(cache, 4)).toBeUndefined();
    put(cache, 9, 1, 1);
    expect(cache.page(find(cache, 9)!)[0]).toBe(9);
  });

  test("finds blocks with the highest numbers", () => {
    const cache = new PageCache(room(2));
    const last = 0xffff_fffe;
    for (const block of [0, 1, 2, last]) put(cache, block, 1, 1, block & 0xff);
    expect(cache.page(find(cache, last)!)[0]).toBe(0xfe);
    put(cache, last, 2, 2, 7);
    expect(cache.page(find(cache, last)!)[0]).toBe(7);
    expect(cache.pages).toBe(2);
  });

  test("has what was put last, nothing that was not put, and no more than it may hold", () => {
    const entries = fc.integer({ min: 1, max: 300 });
    const steps = fc.array(fc.tuple(fc.boolean(), fc.integer({ min: 0, max: 255 })), {
      maxLength: 400,
    });
    fc.assert(
      fc.property(entries, steps, (capacity, uses) => {
        const cache = new PageCache(room(capacity));
        const known = new Set<number>();
        for (const [isPut, block] of uses) {
          if (isPut) {
            put(cache, block, 1, 1);
            known.add(block);
            expect(find(cache, block)).toBeDefined();
          } else if (find(cache, block) !== undefined) expect(known).toContain(block);
        }
        const found = [...known].filter((block) => find(cache, block) !== undefined);
        expect(found).toHaveLength(Math.min(capacity, known.size));
        expect(cache.pages).toBe(found.length);
        for (const block of found) expect(cache.page(find(cache, block)!)[17]).toBe(block);
      }),
    );
  });
});

/** Part of the reads of `blocks` that find their page; those that do not put it. */
function hitsOf(cache: PageCache, blocks: Iterable<number>): number {
  let reads = 0;
  let hits = 0;
  for (const block of blocks) {
    reads++;
    if (find(cache, block) === undefined) put(cache, block, 1, 1, 0);
    else hits++;
  }
  return hits / reads;
}

describe("what a full page cache keeps", () => {
  const CAPACITY = 400;
  const range = (from: number, count: number): number[] =>
    Array.from({ length: count }, (_, i) => from + i);

  test("most of what is read through again and again, though it is too much for all of it", () => {
    const cache = new PageCache(room(CAPACITY));
    const table = range(0, CAPACITY * 1.25);
    for (let warmUp = 0; warmUp < 10; warmUp++) hitsOf(cache, table);
    expect(hitsOf(cache, [...table, ...table, ...table])).toBeGreaterThan(0.5);
  });

  test("more of it when only some pages are taken in, and one that is read often is in soon", () => {
    const cache = new PageCache(room(CAPACITY));
    const offered = (blocks: readonly number[]): number => {
      let hits = 0;
      for (const block of blocks) {
        if (find(cache, block) !== undefined) hits++;
        else cache.put(SCOPE, block, lsn(1), lsn(1), page(0), 0, true);
      }
      return hits / blocks.length;
    };
    const table = range(0, CAPACITY * 1.25);
    for (let warmUp = 0; warmUp < 10; warmUp++) offered(table);
    expect(offered([...table, ...table, ...table])).toBeGreaterThan(0.65);
    const hot = range(5_000, 20);
    for (let turn = 0; turn < 20; turn++) offered(hot);
    expect(offered(hot)).toBe(1);
  });

  test("a page offered to a cache with room is in it, and a newer one replaces it at once", () => {
    const cache = new PageCache(room(2));
    const offer = (block: number, from: number, fill: number): void =>
      cache.put(SCOPE, block, lsn(from), lsn(from), page(fill), 0, true);
    offer(1, 1, 1);
    offer(2, 1, 2);
    for (const [from, block] of [1, 2, 1, 2, 1, 2].entries()) {
      offer(block, 10 + from, from);
      expect(cache.page(find(cache, block)!)[0]).toBe(from);
    }
  });

  test("pages in use, while pages come that are read once", () => {
    const cache = new PageCache(room(CAPACITY));
    const hot = range(0, CAPACITY / 2);
    hitsOf(cache, [...hot, ...hot]);
    let hits = 0;
    for (let turn = 0; turn < 20; turn++) {
      hitsOf(cache, range(1000 + turn * 100, 100));
      hits += hitsOf(cache, hot) / 20;
    }
    expect(hits).toBeGreaterThan(0.85);
  });

  test("what is read now, soon after something else was", () => {
    const cache = new PageCache(room(CAPACITY));
    const [former, later] = [range(0, CAPACITY), range(1000, CAPACITY)];
    for (let turn = 0; turn < 5; turn++) hitsOf(cache, former);
    for (let turn = 0; turn < 5; turn++) hitsOf(cache, later);
    expect(hitsOf(cache, later)).toBeGreaterThan(0.85);
  });
});
