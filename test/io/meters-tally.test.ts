import { expect, test } from "vitest";
import { Tally } from "../../src/io/meters.ts";

test("a tally counts small numbers exactly and forgets them after two windows", () => {
  let now = 0;
  const tally = new Tally(1_000, () => now);
  expect(tally.percentile(50)).toBeUndefined();
  for (let i = 0; i < 98; i++) tally.record(2);
  tally.record(0);
  tally.record(7);
  expect([tally.count, tally.sum]).toEqual([100, 203]);
  expect([1, 50, 99, 100].map((percent) => tally.percentile(percent))).toEqual([0, 2, 2, 7]);
  now = 1_500;
  expect(tally.percentile(100)).toBe(7);
  tally.record(1);
  now = 2_600;
  expect(tally.percentile(100)).toBe(1);
  now = 10_000;
  expect(tally.percentile(100)).toBeUndefined();
  expect(tally.count).toBe(101);
});

test("a value above a tally's largest counts as the largest", () => {
  const tally = new Tally(1_000, () => 0);
  tally.record(100_000);
  expect(tally.percentile(50)).toBe(255);
  expect(tally.sum).toBe(100_000);
});
