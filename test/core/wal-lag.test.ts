import { expect, test } from "vitest";
import { LAG_SAMPLES_MAX, LAG_SAMPLE_MS } from "../../src/core/limits.ts";
import { Lsn } from "../../src/core/lsn.ts";
import { type EndHeard, behindMs, hearEnd } from "../../src/core/wal-lag.ts";
import { Random } from "../verify/random.ts";

const at = (atMs: number, end: number): EndHeard => ({ atMs, end: Lsn.of(end) });

test("behind since the first end beyond a position was heard; what is reached counts no more", () => {
  let heard = hearEnd([], at(1_000, 100), Lsn.of(50));
  heard = hearEnd(heard, at(3_000, 200), Lsn.of(50));
  expect(behindMs(heard, Lsn.of(60), 4_000)).toBe(3_000);
  expect(behindMs(heard, Lsn.of(100), 4_000)).toBe(1_000);
  expect(behindMs(heard, Lsn.of(200), 4_000)).toBe(0);
  // A keepalive that tells nothing new.
  heard = hearEnd(heard, at(9_000, 200), Lsn.of(100));
  expect(heard).toEqual([at(3_000, 200)]);
  expect(hearEnd(heard, at(9_500, 200), Lsn.of(200))).toEqual([]);
});

test("whatever is heard: bounded, and no more wrong than the samples are apart", () => {
  for (let seed = 1; seed <= 15; seed++) {
    const random = new Random(seed);
    const all: EndHeard[] = [];
    let heard: readonly EndHeard[] = [];
    let reached = 0;
    let end = 8;
    let ms = 0;
    for (let step = 0; step < 500; step++) {
      ms += random.between(0, 100);
      if (random.chance(0.5)) end += random.between(0, 50);
      if (random.chance(0.05)) reached = random.between(reached, end + 1);
      all.push(at(ms, end));
      heard = hearEnd(heard, at(ms, end), Lsn.of(reached));
      expect(heard.length).toBeLessThanOrEqual(LAG_SAMPLES_MAX);
      const truth = all.find((one) => one.end > reached);
      const behind = behindMs(heard, Lsn.of(reached), ms);
      const most = truth === undefined ? 0 : ms - truth.atMs;
      expect(behind, `seed ${seed}`).toBeLessThanOrEqual(most);
      // Thinned once at most in so many steps.
      expect(behind, `seed ${seed}`).toBeGreaterThanOrEqual(most - 2 * LAG_SAMPLE_MS - 100);
    }
  }
});

test("an endless backlog is thinned, not forgotten", () => {
  let heard: readonly EndHeard[] = [];
  for (let n = 0; n < 10 * LAG_SAMPLES_MAX; n++) {
    heard = hearEnd(heard, at(n * LAG_SAMPLE_MS, 100 + n), Lsn.of(1));
  }
  expect(heard.length).toBeLessThanOrEqual(LAG_SAMPLES_MAX);
  expect(behindMs(heard, Lsn.of(1), 1e7)).toBe(1e7);
});
