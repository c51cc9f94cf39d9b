import { expect, test } from "vitest";
import { Simulator } from "./simulator.ts";

const SEEDS = 10;

test(`${SEEDS} seeds: every read that retention permits is right, every other is refused`, async () => {
  const sum = { reads: 0, refused: 0, merges: 0, crashes: 0, images: 0 };
  for (let seed = 1; seed <= SEEDS; seed++) {
    const lines: string[] = [];
    try {
      const counts = await new Simulator(seed, (line) => lines.push(line)).run(30);
      for (const name of Object.keys(sum) as (keyof typeof sum)[]) sum[name] += counts[name];
    } catch (error) {
      throw new Error(`seed ${seed}: ${String(error)}\n${lines.join("\n")}`, { cause: error });
    }
  }
  // The seeds are worth nothing when they do not get that far.
  expect(sum.refused).toBeGreaterThan(40);
  expect(sum.merges).toBeGreaterThan(20);
  expect(sum.crashes).toBeGreaterThan(8);
  expect(sum.images).toBeGreaterThan(5);
});
