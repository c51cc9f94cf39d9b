import { expect, test } from "vitest";
import { SlabPool } from "../../src/core/slab-pool.ts";

test("slabs are large enough, used again, and kept only up to the bound", () => {
  const pool = new SlabPool(48 * 1024);
  const small = pool.take(1);
  const large = pool.take(16 * 1024 + 1);
  expect(small.length).toBe(16 * 1024);
  expect(large.length).toBe(32 * 1024);
  pool.give(small);
  pool.give(large);
  pool.give(pool.take(100_000));
  expect(pool.idleBytes).toBe(48 * 1024);
  expect(pool.take(20_000)).toBe(large);
  expect(pool.take(16 * 1024)).toBe(small);
  expect(pool.idleBytes).toBe(0);
  expect(pool.take(5)).not.toBe(small);
});
