import { expect, test } from "vitest";
import { type BackupCounts, BackupSimulator } from "./backup-simulator.ts";
import type { DiskKind } from "./disk.ts";
import { type SimulationResult, Simulator } from "./simulator.ts";

const STEPS = 40;

/** Runs the seeds and adds up what happened in them. */
async function runSeeds(kind: DiskKind, from: number, count: number): Promise<SimulationResult> {
  const sum: SimulationResult = {
    ...{ reads: 0, refused: 0, merges: 0, images: 0, caughtUp: 0 },
    ...{ crashes: 0, full: 0, failedSyncs: 0 },
  };
  for (let seed = from; seed < from + count; seed++) {
    const lines: string[] = [];
    try {
      const counts = await new Simulator(seed, kind, (line) => lines.push(line)).run(STEPS);
      for (const name of Object.keys(sum) as (keyof typeof sum)[]) sum[name] += counts[name];
    } catch (error) {
      const what = `npm run sim -- --seed ${seed} --steps ${STEPS} --disk ${kind}`;
      throw new Error(`${what}: ${String(error)}\n${lines.join("\n")}`, { cause: error });
    }
  }
  return sum;
}

test("what retention permits is right, all else is refused: 150 seeds in memory", async () => {
  const sum = await runSeeds("memory", 1, 150);
  // The seeds are worth nothing when they do not get that far.
  expect(sum.reads).toBeGreaterThan(20_000);
  expect(sum.refused).toBeGreaterThan(1_500);
  expect(sum.merges).toBeGreaterThan(300);
  expect(sum.images).toBeGreaterThan(100);
  expect(sum.caughtUp).toBeGreaterThan(100);
  expect(sum.crashes).toBeGreaterThan(200);
  expect(sum.full).toBeGreaterThan(100);
  expect(sum.failedSyncs).toBeGreaterThan(20);
});

test("and 15 seeds in files of LMDB", async () => {
  const sum = await runSeeds("lmdb", 1_001, 15);
  expect(sum.refused).toBeGreaterThan(100);
  expect(sum.merges).toBeGreaterThan(40);
  expect(sum.crashes).toBeGreaterThan(20);
  expect(sum.full).toBeGreaterThan(3);
});

test("what was called uploaded is restorable, whatever object storage does: 12 seeds", async () => {
  const steps = 100;
  const sum: BackupCounts = {
    ...{ restored: 0, looks: 0, turns: 0, layers: 0, failures: 0, late: 0, takenOver: 0 },
  };
  for (let seed = 2_001; seed < 2_013; seed++) {
    const lines: string[] = [];
    const simulator = new BackupSimulator(seed, "lmdb", (line) => lines.push(line));
    try {
      await simulator.run(steps);
    } catch (error) {
      const what = `npm run sim -- --seed ${seed} --steps ${steps} --backup`;
      throw new Error(`${what}: ${String(error)}\n${lines.join("\n")}`, { cause: error });
    }
    for (const name of Object.keys(sum) as (keyof typeof sum)[]) {
      sum[name] += simulator.backed[name];
    }
  }
  expect(sum.restored).toBeGreaterThan(40);
  expect(sum.looks).toBeGreaterThan(150);
  expect(sum.turns).toBeGreaterThan(100);
  expect(sum.layers).toBeGreaterThan(10);
  expect(sum.failures).toBeGreaterThan(20);
  expect(sum.late).toBeGreaterThan(4);
  expect(sum.takenOver).toBe(12);
});
