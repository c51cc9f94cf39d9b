import { expect, test } from "vitest";
import { Distribution } from "../../src/io/meters.ts";

test("count and sum are for ever, quantiles of the last one to two windows", () => {
  let now = 0;
  const distribution = new Distribution(1000, () => now);
  expect(distribution.percentile(50)).toBeUndefined();
  for (let value = 1; value <= 100; value++) distribution.record(value);
  distribution.record(0);
  expect(distribution).toMatchObject({ count: 101, sum: 5050 });
  expect(distribution.percentile(50)).toBeGreaterThanOrEqual(49);
  expect(distribution.percentile(50)).toBeLessThanOrEqual(51);
  now = 1500;
  expect(distribution.percentile(100)).toBe(100);
  distribution.record(1000);
  expect(distribution.percentile(100)).toBeGreaterThanOrEqual(1000);
  now = 2600;
  expect(distribution.percentile(1)).toBeGreaterThanOrEqual(1000);
  now = 10_000;
  expect(distribution.percentile(50)).toBeUndefined();
  expect(distribution.count).toBe(102);
});
