// npm run verify:crash — the page server is killed 100 times, at random instants and at every step around
// sealing, merging, committing and unlinking, while it follows a primary under load and branches come and
// go. See crash-rounds.ts for what is checked. Last line: JSON. Exit code 1 when anything is wrong.
//
//   --rounds N   kills (100)      --seed N   which moments (printed)

import { parseArgs } from "node:util";
import { CrashRounds, isSound } from "./crash-rounds.ts";
import { Random } from "./random.ts";

const { values: options } = parseArgs({
  options: {
    rounds: { type: "string", default: "100" },
    seed: { type: "string", default: String(Date.now() % 1_000_000) },
  },
});
const seed = Number(options.seed);
const rounds = Number(options.rounds);
if (!Number.isInteger(seed) || !Number.isInteger(rounds) || rounds < 1) {
  process.stderr.write("verify:crash: --rounds and --seed are whole numbers\n");
  process.exit(2);
}
const say = (line: string): void => void process.stdout.write(`${line}\n`);

const started = Date.now();
say(`verify:crash, ${rounds} rounds, seed ${seed}`);
const test = new CrashRounds({ rounds, random: new Random(seed), say, scale: 2 });
let stopping: Promise<void> | undefined;
for (const signal of ["SIGINT", "SIGTERM"] as const) {
  process.once(signal, () => {
    stopping ??= test.cleanup().finally(() => process.exit(130));
  });
}
let failure: string | undefined;
try {
  await test.begin();
  for (let number = 1; number <= rounds; number++) await test.round(number);
  await test.end();
} catch (error) {
  failure = error instanceof Error ? error.message : String(error);
  say(error instanceof Error ? (error.stack ?? failure) : failure);
  say(test.describe());
} finally {
  await (stopping ?? test.cleanup());
}
const { examples, ...counts } = test.report;
for (const example of examples) say(`PROBLEM ${example}`);
const seconds = Math.round((Date.now() - started) / 1000);
say(JSON.stringify({ seed, seconds, ...counts, ...(failure !== undefined && { failure }) }));
process.exit(failure === undefined && isSound(test.report) ? 0 : 1);
