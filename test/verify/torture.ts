// npm run verify:torture — a compute without disks under load; it, the page server, or both are killed at
// random moments, again and again. Last line: JSON.
//
//   --seconds N   how long (default 600)
//   --seed N      repeats the choices of a run; what the kills meet is chance all the same

import { parseArgs } from "node:util";
import { Random } from "./random.ts";
import { TortureRounds } from "./torture-rounds.ts";

const { values: options } = parseArgs({
  options: { seconds: { type: "string", default: "600" }, seed: { type: "string" } },
});
const seed = Number(options.seed ?? Date.now() % 1_000_000);
const end = performance.now() + Number(options.seconds) * 1000;
const say = (line: string): void => void process.stdout.write(`${line}\n`);
say(`seed ${seed}`);
const random = new Random(seed);
const rounds = new TortureRounds(random, say);
try {
  await rounds.begin();
  while (performance.now() < end && rounds.report.problems.length === 0) {
    await rounds.round(random.between(500, 8_000));
  }
  await rounds.end();
} catch (error) {
  rounds.report.problems.push(error instanceof Error ? (error.stack ?? error.message) : "?");
} finally {
  await rounds.cleanup();
}
for (const problem of rounds.report.problems) say(`PROBLEM ${problem}`);
say(JSON.stringify({ seed, ...rounds.report, problems: rounds.report.problems.length }));
process.exit(rounds.report.problems.length === 0 ? 0 : 1);
