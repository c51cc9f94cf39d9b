// The short form of `npm run verify:backup`: a lost machine, and two servers that have one tenant.

import { expect, test } from "vitest";
import { BackupRounds } from "../verify/backup-rounds.ts";
import { Random } from "../verify/random.ts";

test("a machine that is lost loses nothing that was called uploaded", async () => {
  const seed = Date.now() % 1_000_000;
  const say = (line: string): void => void process.stdout.write(`seed ${seed}: ${line}\n`);
  const workMs = { from: 1_000, to: 2_000 };
  const short = { rounds: 1, scale: 1, place: "local", looks: "last", workMs } as const;
  const options = { ...short, random: new Random(seed), say };
  const rounds = new BackupRounds(options);
  try {
    await rounds.begin();
    await rounds.round(1);
    await rounds.end();
  } finally {
    await rounds.cleanup();
  }
  expect(rounds.report.examples).toEqual([]);
  expect(rounds.report).toMatchObject({
    ...{ rounds: 1, fencings: 1, different: 0, wentBack: 0, wrongBranches: 0 },
    ...{ lostCommits: 0, checkProblems: 0, failures: 0 },
  });
  expect(rounds.report.compared).toBeGreaterThan(0);
}, 600_000);
