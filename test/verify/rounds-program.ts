// The frame of a verification that goes on in rounds: seed and rounds from the command line, everything
// ended whatever happens, examples of what is wrong, and one line of JSON at the end.

import { parseArgs } from "node:util";
import { Random } from "./random.ts";

export interface Rounds<R extends object> {
  readonly report: R & { readonly examples: readonly string[] };
  begin(): Promise<void>;
  round(number: number): Promise<void>;
  end(): Promise<void>;
  /** How it stands, for when a round fails. */
  describe(): string | Promise<string>;
  cleanup(): Promise<void>;
}

export interface RoundsOptions {
  readonly rounds: number;
  readonly random: Random;
  readonly say: (line: string) => void;
}

const started = Date.now();
const seconds = (): number => Math.round((Date.now() - started) / 1000);
/** With the seconds since the start: where time goes. */
const say = (line: string): void =>
  void process.stdout.write(`${String(seconds()).padStart(4)} s  ${line}\n`);

/** Runs it and ends the process: status 0 when `isSound`. `flags`: more of them, all without values. */
export async function runRounds<R extends object>(
  name: string,
  roundsDefault: number,
  make: (options: RoundsOptions, flags: ReadonlySet<string>) => Rounds<R>,
  isSound: (report: R) => boolean,
  flags: readonly string[] = [],
): Promise<never> {
  const { values } = parseArgs({
    options: {
      rounds: { type: "string", default: String(roundsDefault) },
      seed: { type: "string", default: String(Date.now() % 1_000_000) },
      ...Object.fromEntries(flags.map((flag) => [flag, { type: "boolean" } as const])),
    },
  });
  const given = new Set(flags.filter((flag) => (values as Record<string, unknown>)[flag] === true));
  const seed = Number(values.seed);
  const rounds = Number(values.rounds);
  if (!Number.isInteger(seed) || !Number.isInteger(rounds) || rounds < 1) {
    process.stderr.write(`${name}: --rounds and --seed are whole numbers\n`);
    process.exit(2);
  }
  say(`${name}, ${rounds} rounds, seed ${seed}`);
  const test = make({ rounds, random: new Random(seed), say }, given);
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
  const sum = { seed, seconds: seconds(), ...counts, ...(failure !== undefined && { failure }) };
  process.stdout.write(`${JSON.stringify(sum)}\n`);
  process.exit(failure === undefined && isSound(test.report) ? 0 : 1);
}
