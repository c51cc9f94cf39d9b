// npm run verify:restart — the page server is killed (SIGKILL) at random moments, 20 times, while
// pgbench runs on a primary that it follows and on a compute that it serves. See restart-rounds.ts
// for what is checked. Last line: JSON. Exit code 1 when anything was lost or differs.
//
//   --rounds N   kills (20)      --seed N   which moments (printed)

import { parseArgs } from "node:util";
import { Random } from "./random.ts";
import { RestartRounds, isGood } from "./restart-rounds.ts";

const { values: options } = parseArgs({
  options: {
    rounds: { type: "string", default: "20" },
    seed: { type: "string", default: String(Date.now() % 1_000_000) },
  },
});
const seed = Number(options.seed);
const rounds = Number(options.rounds);
if (!Number.isInteger(seed) || !Number.isInteger(rounds) || rounds < 1) {
  process.stderr.write("verify:restart: --rounds and --seed are whole numbers\n");
  process.exit(2);
}
const say = (line: string): void => void process.stdout.write(`${line}\n`);

const started = Date.now();
say(`verify:restart, ${rounds} rounds, seed ${seed}`);
const test = new RestartRounds({ rounds, random: new Random(seed), say, scale: 3 });
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
  say(await test.describe());
} finally {
  await (stopping ?? test.cleanup());
}
const { examples, ...counts } = test.report;
for (const example of examples) say(`PROBLEM ${example}`);
const seconds = Math.round((Date.now() - started) / 1000);
say(JSON.stringify({ seed, seconds, ...counts, ...(failure !== undefined && { failure }) }));
process.exit(failure === undefined && isGood(test.report) ? 0 : 1);
