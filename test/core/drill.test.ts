// What a restore drill samples, what is remembered of it, and whose is due.

import { describe, expect, test } from "vitest";
import {
  type DrillOutcome,
  type DrillRecord,
  Reservoir,
  chanceOf,
  drillAlarm,
  mostDue,
  recordOf,
  recordOfFailure,
  restorableTo,
  sampleLayers,
  sampleLsns,
} from "../../src/core/backup/drill.ts";
import { DRILL_PROBLEMS_MAX, DRILL_RETRY_MS } from "../../src/core/limits.ts";
import { LSN_MAX, Lsn } from "../../src/core/lsn.ts";

const DAY_MS = 86_400_000;
const problem = { kind: "missing", name: "layers/x", detail: "it is not there" } as const;
const sound: DrillOutcome = {
  ...{ upTo: Lsn.of(500), pages: 7, skipped: 0, layers: 2, bytes: 100, problems: [] },
};
const ended = (endedAtMs: number, failure?: string): DrillRecord => ({
  ...recordOf(undefined, sound, endedAtMs),
  ...(failure !== undefined && { failure }),
});

describe("what is remembered", () => {
  test("a drill that finds nothing wrong verifies up to its position", () => {
    const record = recordOf(undefined, sound, 1_000);
    expect(record).toMatchObject({
      verified: { lsn: 500, atMs: 1_000 },
      endedAtMs: 1_000,
      pages: 7,
    });
    expect(drillAlarm(record, "t")).toBeUndefined();
  });

  test("a problem, or nothing compared, leaves what was verified before where it was", () => {
    const before = recordOf(undefined, sound, 1_000);
    const later = { ...sound, upTo: Lsn.of(900) };
    const bad = recordOf(before, { ...later, problems: [problem] }, 2_000);
    expect(bad).toMatchObject({ verified: { lsn: 500, atMs: 1_000 }, endedAtMs: 2_000 });
    expect(drillAlarm(bad, "t")).toMatch(/layers\/x is missing: .* run pageserver scrub t,/);
    const nothing = recordOf(before, { ...later, pages: 0 }, 2_000);
    expect(nothing.verified).toEqual({ lsn: 500, atMs: 1_000 });
    expect(recordOf(undefined, { ...later, pages: 0 }, 2_000).verified).toBeUndefined();
    expect(recordOf(bad, later, 3_000)).toMatchObject({ verified: { lsn: 900 }, problems: [] });
  });

  test("a drill that was not brought to its end keeps the problems that are known", () => {
    const bad = recordOf(undefined, { ...sound, problems: [problem] }, 1_000);
    const failed = recordOfFailure(bad, "storage is away", 2_000);
    expect(failed).toMatchObject({
      problems: [problem],
      failure: "storage is away",
      endedAtMs: 2_000,
    });
    expect(recordOf(failed, sound, 3_000).failure).toBeUndefined();
  });

  test("problems are bounded", () => {
    const many = Array.from({ length: 100 }, () => problem);
    expect(recordOf(undefined, { ...sound, problems: many }, 1).problems).toHaveLength(
      DRILL_PROBLEMS_MAX,
    );
  });
});

test("whose last drill is the longest ago comes first, before all whoever had none", () => {
  const due = (records: readonly (DrillRecord | undefined)[], nowMs: number): number | undefined =>
    mostDue(
      records.map((record, of) => ({ of, record })),
      nowMs,
      DAY_MS,
    );
  expect(due([ended(0), ended(-5), undefined, undefined], DAY_MS)).toBe(2);
  expect(due([ended(2), ended(1)], DAY_MS + 1)).toBe(1);
  expect(due([ended(2), ended(1)], DAY_MS)).toBeUndefined();
  expect(due([], 5)).toBeUndefined();
  expect(due([ended(0, "storage is away")], DRILL_RETRY_MS - 1)).toBeUndefined();
  expect(due([ended(0, "storage is away")], DRILL_RETRY_MS)).toBe(0);
  expect(due([ended(1_000)], 0), "the clock was set back").toBe(0);
});

describe("samples", () => {
  test("a seed repeats them", () => {
    const numbers = (seed: number) => Array.from({ length: 50 }, chanceOf(seed));
    expect(numbers(7)).toEqual(numbers(7));
    expect(numbers(7)).not.toEqual(numbers(8));
    expect(numbers(7).every((n) => n >= 0 && n < 1)).toBe(true);
  });

  test("layers: so many, so many bytes, each of them sooner or later", () => {
    const layers = Array.from({ length: 10 }, (_, id) => ({ id, bytes: id === 9 ? 1_000 : 10 }));
    const seen = new Set<number>();
    for (let seed = 0; seed < 100; seed++) {
      const taken = sampleLayers(layers, { count: 3, bytes: 25 }, chanceOf(seed));
      expect(taken.length).toBe(2);
      for (const { id } of taken) seen.add(id);
    }
    expect([...seen].toSorted()).toEqual([0, 1, 2, 3, 4, 5, 6, 7, 8]);
    expect(sampleLayers(layers, { count: 20, bytes: 5_000 }, chanceOf(1))).toHaveLength(10);
  });

  test("keys: each is as likely as any other", () => {
    const hits = Array.from({ length: 20 }, () => 0);
    for (let seed = 0; seed < 2_000; seed++) {
      const reservoir = new Reservoir<number>(4, chanceOf(seed));
      for (let i = 0; i < 20; i++) reservoir.show(i);
      expect(new Set(reservoir.kept).size).toBe(4);
      for (const i of reservoir.kept) hits[i]!++;
    }
    for (const hit of hits) expect(hit).toBeGreaterThan(300);
    for (const hit of hits) expect(hit).toBeLessThan(500);
  });

  test("LSNs: within the layer and what can be asked for, and the last one", () => {
    const layer = { firstLsn: Lsn.of(100), lastLsn: Lsn.of(200) };
    const lsns = (floor: number, upTo: number): readonly Lsn[] =>
      sampleLsns(layer, { floor: Lsn.of(floor), upTo: Lsn.of(upTo) }, chanceOf(3));
    for (const [floor, upTo] of [
      [0, 500],
      [150, 180],
      [0, 200],
    ] as const) {
      const [within, last] = lsns(floor, upTo);
      expect(within).toBeGreaterThanOrEqual(Math.max(100, floor));
      expect(within).toBeLessThan(Math.min(201, upTo));
      expect(last).toBe(upTo);
    }
    expect(lsns(300, 500)).toEqual([500]);
    expect(lsns(0, 100)).toEqual([100]);
    expect(lsns(600, 500)).toEqual([]);
  });

  test("an ancestor whose layers do not reach the branch point bounds what can be restored", () => {
    const hop = (sealedLsn: number, upTo: number) => ({
      sealedLsn: Lsn.of(sealedLsn),
      upTo: Lsn.of(upTo),
    });
    expect(restorableTo([hop(500, LSN_MAX)])).toBe(500);
    expect(restorableTo([hop(500, LSN_MAX), hop(350, 300), hop(200, 200)])).toBe(500);
    expect(restorableTo([hop(500, LSN_MAX), hop(250, 300), hop(200, 200)])).toBe(250);
  });
});
