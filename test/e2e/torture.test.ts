// The short form of `npm run verify:torture`: a compute with hardly any memory, killed under load.

import { expect, test } from "vitest";
import { Random } from "../verify/random.ts";
import { TortureRounds } from "../verify/torture-rounds.ts";

test("a compute without disks that is killed loses and invents nothing", async () => {
  const seed = Date.now() % 1_000_000;
  const say = (line: string): void => void process.stdout.write(`seed ${seed}: ${line}\n`);
  const rounds = new TortureRounds(new Random(seed), say);
  try {
    await rounds.begin();
    await rounds.round(1_500, "compute");
    await rounds.round(1_000, "both");
    await rounds.round(500, "place");
    await rounds.end();
  } finally {
    await rounds.cleanup();
  }
  expect(rounds.report.problems).toEqual([]);
  expect(rounds.report).toMatchObject({
    rounds: 3,
    computeKills: 2,
    serverKills: 1,
    replacements: 1,
  });
  expect(rounds.report.acknowledged).toBeGreaterThan(0);
});
