// npm run verify:full-disk — one scenario (taking in WAL, sealing, merging, letting history go, branching,
// snapshots, leases, deleting, backing up), once for each write that it makes: from that write on the disk is
// full, until the step that noticed has been refused and reads have been answered. Then once for each sync, which
// fails. See full-disk-scenario.ts. Last line: JSON. Exit code 1 when anything is wrong.
//
//   --every N   only each Nth write and sync (1)

import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import { createInterface } from "node:readline";
import { parseArgs } from "node:util";
import type { Outcome } from "./full-disk-scenario.ts";

const { values } = parseArgs({ options: { every: { type: "string", default: "1" } } });
const every = Number(values.every);
const ROUNDS_MAX = 5_000;

const home = fs.mkdtempSync(path.join(os.tmpdir(), "verify-full-disk-"));
const library = path.join(home, "full-disk.so");
const counts = path.join(home, "counts");
const data = path.join(home, "data");
const source = path.join(import.meta.dirname, "..", "support", "full-disk.c");
execFileSync("cc", ["-shared", "-fPIC", "-o", library, source, "-ldl"]);

const report = { rounds: 0, refusals: 0, stops: 0, deaths: 0, unnoticed: 0, wrong: [] as string[] };
let child: ChildProcess | undefined;

/** Rounds from the one given on; gives the one in which the process died, if it did. */
async function run(kind: "writes" | "syncs", from: number): Promise<number | undefined> {
  fs.writeFileSync(counts, new Uint8Array(3 * 8).fill(255));
  fs.mkdirSync(data, { recursive: true });
  const program = path.join(import.meta.dirname, "full-disk-rounds.ts");
  const args = [...process.execArgv, program, kind, String(from), String(every)];
  const settings = { LD_PRELOAD: library, FULL_DISK_DIR: data, FULL_DISK_COUNTS: counts };
  const started = (child = spawn(process.execPath, args, {
    env: { ...process.env, ...settings },
    stdio: ["ignore", "pipe", "inherit"],
  }));
  let next = from;
  for await (const line of createInterface({ input: started.stdout! })) {
    const outcome = JSON.parse(line) as Outcome;
    if (outcome.kind === "over") return undefined;
    next = outcome.at + every;
    note(kind, outcome);
    if (outcome.kind === "stops") return next;
  }
  // Until its first pages are written, LMDB's bindings end the process: it recovers, as from any death.
  report.deaths++;
  report.rounds++;
  return next;
}

function note(kind: string, outcome: Exclude<Outcome, { kind: "over" }>): void {
  report.rounds++;
  if (outcome.kind === "wrong") {
    const { at, what } = outcome;
    report.wrong.push(`${kind} ${at}: ${what}`);
    process.stdout.write(`${kind} ${at}: ${what}\n`);
  } else report[outcome.kind]++;
}

const started = Date.now();
process.on("exit", () => {
  child?.kill("SIGKILL");
  fs.rmSync(home, { recursive: true, force: true });
});
for (const kind of ["writes", "syncs"] as const) {
  let from: number | undefined = 0;
  while (from !== undefined && report.rounds < ROUNDS_MAX) from = await run(kind, from);
}
const seconds = Math.round((Date.now() - started) / 1000);
process.stdout.write(`${JSON.stringify({ every, seconds, ...report })}\n`);
process.exit(report.wrong.length === 0 && report.refusals > 0 ? 0 : 1);
