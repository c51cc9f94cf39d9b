// Runs the command line program as a user does: its own process, its own streams, an exit code.

import { spawn } from "node:child_process";

export interface Ran {
  readonly code: number | null;
  readonly out: string;
  readonly err: string;
}

const MAIN = new URL("../../src/cli/main.ts", import.meta.url).href;
const SCRIPT = `const { run } = await import(${JSON.stringify(MAIN)});
process.exitCode = await run(process.argv.slice(1));`;

/** A command that has not ended by then is killed, ms. */
const DEADLINE_MS = 50_000;

export function runCli(
  args: readonly string[],
  env: Readonly<Record<string, string>> = {},
  reader: "reads" | "has-gone" = "reads",
): Promise<Ran> {
  const node = ["--import", "tsx", "--input-type=module", "--eval", SCRIPT, "--"];
  const child = spawn(process.execPath, [...node, ...args], {
    env: { ...process.env, TZ: "UTC", ...env },
    stdio: ["ignore", "pipe", "pipe"],
    timeout: DEADLINE_MS,
  });
  const out: Buffer[] = [];
  const err: Buffer[] = [];
  if (reader === "has-gone") child.stdout.destroy();
  child.stdout.on("data", (chunk: Buffer) => out.push(chunk));
  child.stderr.on("data", (chunk: Buffer) => err.push(chunk));
  return new Promise((resolve, reject) => {
    child.on("error", reject);
    child.on("close", (code) =>
      resolve({ code, out: Buffer.concat(out).toString(), err: Buffer.concat(err).toString() }),
    );
  });
}
