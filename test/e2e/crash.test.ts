// SIGKILL in the middle of what changes the disk, the short form of `npm run verify:crash`.

import { expect, test } from "vitest";
import { CrashRounds, isSound } from "../verify/crash-rounds.ts";
import { Random } from "../verify/random.ts";

test("killed while it seals, merges, branches and deletes, it has exactly what it should", async () => {
  const seed = Date.now() % 1_000_000;
  const say = (line: string): void => void process.stdout.write(`seed ${seed}: ${line}\n`);
  const rounds = new CrashRounds({ rounds: 2, random: new Random(seed), say, scale: 1 });
  try {
    await rounds.begin();
    await rounds.round(1);
    await rounds.round(2);
    await rounds.end();
  } catch (error) {
    say(rounds.describe());
    throw error;
  } finally {
    await rounds.cleanup();
  }
  expect(rounds.report.examples).toEqual([]);
  expect(rounds.report.rounds).toBe(2);
  expect(isSound(rounds.report)).toBe(true);
});
