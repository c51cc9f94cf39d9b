import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { Family, type Pin } from "../../src/core/gc.ts";
import type { TimelineId } from "../../src/core/ids.ts";
import { Lsn } from "../../src/core/lsn.ts";
import {
  type SizePoint,
  type SizedTimeline,
  historyBytes,
  rootOf,
  sizePoints,
  syntheticSize,
} from "../../src/core/synthetic-size.ts";

const MAIN = "a".repeat(32) as TimelineId;
const SIDE = "b".repeat(32) as TimelineId;
const lsn = Lsn.of;

function timeline(
  id: TimelineId,
  end: number,
  options: { cutoff?: number; ancestor?: readonly [TimelineId, number] } = {},
): SizedTimeline {
  const { cutoff, ancestor } = options;
  const above = ancestor && { id: ancestor[0], lsn: lsn(ancestor[1]) };
  return {
    ...{ id, end: lsn(end), readableFrom: above?.lsn ?? lsn(100) },
    ...(cutoff !== undefined && { cutoff: lsn(cutoff) }),
    ...(above !== undefined && { ancestor: above }),
  };
}

const NO_PINS = (): readonly Pin[] => [];
const cost = (timelines: readonly SizedTimeline[], size: number, pins = NO_PINS): number => {
  const family = new Family(timelines);
  const root = rootOf(family, timelines.at(-1)!.id);
  return syntheticSize(sizePoints(family, root, pins), () => size);
};

describe("a branch tree", () => {
  test("one timeline: the database at the cutoff, and the WAL since", () => {
    expect(cost([timeline(MAIN, 1_000)], 5_000)).toBe(5_000 + 900);
    expect(cost([timeline(MAIN, 1_000, { cutoff: 700 })], 5_000)).toBe(5_000 + 300);
  });

  test("a branch in the window costs its own WAL only", () => {
    const branch = timeline(SIDE, 930, { ancestor: [MAIN, 900] });
    expect(cost([timeline(MAIN, 1_000, { cutoff: 700 }), branch], 5_000)).toBe(5_000 + 300 + 30);
  });

  test("a branch from before the cutoff: WAL up to the cutoff, or a database of its own", () => {
    const main = timeline(MAIN, 100_000, { cutoff: 90_000 });
    const near = timeline(SIDE, 85_000, { ancestor: [MAIN, 84_000] });
    expect(cost([main, near], 50_000)).toBe(50_000 + 1_000 + 6_000 + 10_000);
    const far = timeline(SIDE, 1_500, { ancestor: [MAIN, 1_000] });
    expect(cost([main, far], 50_000)).toBe(50_000 + 500 + 50_000 + 10_000);
  });

  test("a pin below the cutoff is a moment that somebody reads", () => {
    const main = timeline(MAIN, 1_000, { cutoff: 900 });
    const pin: Pin = { lsn: lsn(850), reason: { kind: "snapshot", name: "s" } };
    expect(cost([main], 5_000, () => [pin])).toBe(5_000 + 50 + 100);
    expect(cost([main], 20, () => [pin])).toBe(20 + 20 + 100);
  });

  test("history is the timeline's own WAL that can be read", () => {
    expect(historyBytes(timeline(MAIN, 1_000), lsn(700))).toBe(300);
    const branch = timeline(SIDE, 1_000, { ancestor: [MAIN, 900] });
    expect(historyBytes(branch, lsn(700))).toBe(100);
  });
});

/** Random moments, each after its parent. */
const trees = fc
  .array(
    fc.record({
      parent: fc.nat(),
      gap: fc.integer({ min: 0, max: 50 }),
      size: fc.integer({ min: 0, max: 60 }),
      needed: fc.constantFrom("none", "point", "range" as const),
    }),
    { minLength: 1, maxLength: 7 },
  )
  .map((made) => {
    const points: { point: SizePoint; size: number }[] = [];
    made.forEach(({ parent, gap, size, needed }, i) => {
      const above = i === 0 ? undefined : parent % i;
      const at = above === undefined ? 100 : points[above]!.point.lsn + gap;
      const kind = i === 0 && needed === "range" ? "point" : needed;
      const point = { timeline: MAIN, lsn: lsn(at), parent: above, needed: kind } as const;
      points.push({ point, size });
    });
    return points;
  });

/** Every way to have every moment, tried: the cheapest that gives everybody what he reads. */
function cheapest(tree: readonly { readonly point: SizePoint; readonly size: number }[]): number {
  let best = Infinity;
  const ways = ["snapshot", "wal", "skipped"] as const;
  for (let n = 0; n < 3 ** tree.length; n++) {
    const way = tree.map((_, i) => ways[Math.floor(n / 3 ** i) % 3]!);
    let sum = 0;
    tree.forEach(({ point, size }, i) => {
      const { parent, needed } = point;
      if (way[i] === "snapshot") sum += needed === "range" ? Infinity : size;
      if (way[i] === "skipped") sum += needed === "none" ? 0 : Infinity;
      if (way[i] !== "wal") return;
      const had = parent !== undefined && way[parent] !== "skipped";
      sum += had ? point.lsn - tree[parent]!.point.lsn : Infinity;
    });
    best = Math.min(best, sum);
  }
  return best;
}

test("nothing is cheaper, of all the ways that there are", () => {
  fc.assert(
    fc.property(trees, (tree) => {
      const sizes = new Map(tree.map(({ point, size }) => [point, size]));
      const points = tree.map(({ point }) => point);
      expect(syntheticSize(points, (point) => sizes.get(point)!)).toBe(cheapest(tree));
    }),
    { numRuns: 150 },
  );
});
