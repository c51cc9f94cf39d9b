// Which layers leave the disk: laws over random tenants, and how settings are read.

import fc from "fast-check";
import { describe, expect, test } from "vitest";
import {
  type EvictionPolicy,
  parseMark,
  parseSize,
  planEviction,
} from "../../src/core/backup/evict.ts";
import { EVICT_LAYERS_PER_PASS } from "../../src/core/limits.ts";

const layer = fc.record({
  bytes: fc.integer({ min: 1, max: 1_000 }),
  readAtMs: fc.integer({ min: 0, max: 10_000 }),
});
/** `pinnedBytes`: files that may not go. */
const tenant = fc
  .record({ evictable: fc.array(layer, { maxLength: 12 }), pinnedBytes: fc.nat({ max: 3_000 }) })
  .map(({ evictable, pinnedBytes }) => ({
    evictable,
    localBytes: pinnedBytes + evictable.reduce((sum, { bytes }) => sum + bytes, 0),
  }));
const mark = (value: number) => ({ of: "bytes", value }) as const;
const policies = fc.record({
  high: fc.nat({ max: 8_000 }),
  down: fc.nat({ max: 4_000 }),
  ageMs: fc.option(fc.integer({ min: 1, max: 12_000 }), { nil: undefined }),
  floorBytes: fc.nat({ max: 3_000 }),
  marked: fc.boolean(),
});
const NOW = 10_000;
const disk = { usedBytes: 0, totalBytes: 1 };

describe("planning an eviction", () => {
  test("floors are kept, the least recently read go first, and no more than it takes", () => {
    const all = fc.tuple(fc.array(tenant, { maxLength: 5 }), policies, fc.boolean());
    fc.assert(
      fc.property(all, ([tenants, { high, down, ageMs, floorBytes, marked }, draining]) => {
        const low = Math.max(0, high - down);
        const policy: EvictionPolicy = {
          ...{ ageMs, floorBytes },
          marks: marked ? { high: mark(high), low: mark(low) } : undefined,
        };
        const plan = planEviction(policy, { nowMs: NOW, disk, tenants, draining });
        const gone = new Set(plan.evict);
        const local = tenants.reduce((sum, { localBytes }) => sum + localBytes, 0);
        const freed = plan.evict.reduce((sum, { bytes }) => sum + bytes, 0);
        const isAged = ({ readAtMs }: { readAtMs: number }): boolean =>
          ageMs !== undefined && NOW - readAtMs >= ageMs;
        const isOver = marked && (local > high || (draining && local > low));
        expect(plan.draining).toBe(isOver);
        expect(gone.size).toBe(plan.evict.length);
        for (const { evictable, localBytes } of tenants) {
          const mine = evictable.filter((one) => gone.has(one));
          const left = localBytes - mine.reduce((sum, { bytes }) => sum + bytes, 0);
          if (mine.length > 0) expect(left).toBeGreaterThanOrEqual(floorBytes);
          const newestGone = Math.max(-1, ...mine.map(({ readAtMs }) => readAtMs));
          for (const kept of evictable.filter((one) => !gone.has(one))) {
            expect(kept.readAtMs).toBeGreaterThanOrEqual(newestGone);
          }
        }
        const young = plan.evict.filter((one) => !isAged(one));
        if (!isOver) expect(young).toEqual([]);
        // Without the last one there would still be too much.
        else if (young.length > 0) {
          expect(local - freed + young.at(-1)!.bytes).toBeGreaterThan(low);
        }
        expect(plan.shortBytes).toBe(isOver ? Math.max(0, local - freed - low) : 0);
      }),
      { numRuns: 500 },
    );
  });

  test("one pass is bounded, and says nothing is short when there is more to go", () => {
    const evictable = Array.from({ length: EVICT_LAYERS_PER_PASS + 1 }, (_, i) => ({
      ...{ bytes: 10, readAtMs: i },
    }));
    const tenants = [{ localBytes: 10_000, evictable }];
    const policy = {
      ...{ marks: { high: mark(1), low: mark(0) }, ageMs: undefined, floorBytes: 0 },
    };
    const plan = planEviction(policy, { nowMs: NOW, disk, tenants, draining: false });
    expect(plan.evict).toHaveLength(EVICT_LAYERS_PER_PASS);
    expect(plan.shortBytes).toBe(0);
  });

  test("a mark in percent is of the disk, whoever fills it", () => {
    const tenants = [{ localBytes: 100, evictable: [{ bytes: 60, readAtMs: 5 }] }];
    const policy: EvictionPolicy = {
      marks: { high: { of: "percent", value: 85 }, low: { of: "percent", value: 80 } },
      ...{ ageMs: undefined, floorBytes: 0 },
    };
    const at = (usedBytes: number, draining = false) =>
      planEviction(policy, {
        ...{ nowMs: NOW, tenants, draining, disk: { usedBytes, totalBytes: 1_000 } },
      });
    expect(at(850)).toMatchObject({ evict: [], draining: false });
    expect(at(851)).toMatchObject({ evict: [{ bytes: 60 }], draining: true, shortBytes: 0 });
    expect(at(801, true).evict).toHaveLength(1);
    expect(at(800, true)).toMatchObject({ evict: [], draining: false });
    expect(at(990)).toMatchObject({ shortBytes: 130 });
  });
});

test("sizes and marks are read as people write them, and nothing else is", () => {
  expect(["0", "17", "256MB", "1 GiB", "5kB", "2t"].map(parseSize)).toEqual([
    ...[0, 17, 256 * 1024 ** 2, 1024 ** 3, 5 * 1024, 2 * 1024 ** 4],
  ]);
  expect(["", "-1", "1.5GB", "MB", "1e3", "85%"].map(parseSize)).toEqual(
    Array.from({ length: 6 }, () => undefined),
  );
  expect(parseMark("85%")).toEqual({ of: "percent", value: 85 });
  expect(parseMark("500GB")).toEqual({ of: "bytes", value: 500 * 1024 ** 3 });
  expect(["100%", "-5%", "off", "%"].map(parseMark)).toEqual(
    Array.from({ length: 4 }, () => undefined),
  );
});
