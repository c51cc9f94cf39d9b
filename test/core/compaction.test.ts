// When merging waits for WAL, and that it never waits for ever. What is merged: npm run sim.

import { expect, test } from "vitest";
import { mergeCanWait } from "../../src/core/compaction.ts";
import { MERGE_BACK_OFF_BYTES_PER_S, TIERS_MAX } from "../../src/core/limits.ts";

test("merging waits while WAL comes fast", () => {
  expect(mergeCanWait(4, MERGE_BACK_OFF_BYTES_PER_S + 1)).toBe(true);
});

test("merging does not wait for WAL that comes slowly", () => {
  expect(mergeCanWait(4, 0)).toBe(false);
  expect(mergeCanWait(4, MERGE_BACK_OFF_BYTES_PER_S)).toBe(false);
});

test("merging waits for nothing when reads look into as many tiers as they may", () => {
  expect(mergeCanWait(TIERS_MAX, Number.MAX_VALUE)).toBe(false);
});
