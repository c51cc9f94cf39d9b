// A page server as a child process of its own group, so that a Ctrl-C in the terminal reaches only
// whoever started it, and the order of stopping stays in one hand.

import { type ChildProcess, spawn } from "node:child_process";
import { closeSync, mkdirSync, openSync, readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { Client, ServerUnreachable } from "../src/http/client.ts";
import { freePort } from "./ports.ts";

const HTTP_PORT = 9_898;
const PAGE_SERVICE_PORT = 64_000;
/** Opening the store re-reads WAL since the last seal: seconds; ms. */
const START_MS_MAX = 120_000;
/** Sealing and syncing on the way out; ms. After it the process is killed, which loses nothing durable. */
const STOP_MS_MAX = 60_000;
const POLL_MS = 50;
/** Lines of the log that are shown when the server does not start. */
const LOG_TAIL_LINES = 15;

export interface LocalServer {
  readonly client: Client;
  readonly log: string;
  /** How it ended: "exit code 1", "signal SIGKILL". */
  readonly exited: Promise<string>;
  stop(): Promise<void>;
}

/** Starts `pageserver serve` on `dataDir` and waits until it serves. */
export async function startLocalServer(dataDir: string): Promise<LocalServer> {
  mkdirSync(dataDir, { recursive: true, mode: 0o755 });
  const http = await freePort(HTTP_PORT);
  const listen = await freePort(PAGE_SERVICE_PORT);
  const log = join(dataDir, "pageserver.log");
  const logBytesBefore = statSync(log, { throwIfNoEntry: false })?.size ?? 0;
  const child = spawnServer(dataDir, http, listen, log);
  const exited = new Promise<string>((resolve) => {
    child.once("error", (error) => resolve(error.message));
    child.once("exit", (code, signal) =>
      resolve(signal === null ? `exit code ${code}` : `signal ${signal}`),
    );
  });
  const client = new Client(`http://127.0.0.1:${http}`);
  const ended = new AbortController();
  void exited.then(() => ended.abort());
  const outcome = await Promise.race([untilServing(client, ended.signal), exited]);
  if (outcome !== "serving") {
    child.kill("SIGKILL");
    throw new Error(`the page server did not start (${outcome}):\n${tail(log, logBytesBefore)}`);
  }
  return { client, log, exited, stop: () => stop(client, child, exited) };
}

function spawnServer(dataDir: string, http: number, listen: number, log: string): ChildProcess {
  const args = ["serve", "--data", dataDir];
  args.push("--listen", `127.0.0.1:${listen}`, "--http", `127.0.0.1:${http}`);
  const file = openSync(log, "a");
  try {
    return spawn(process.execPath, ["--enable-source-maps", "bin/pageserver", ...args], {
      detached: true,
      stdio: ["ignore", file, file],
    });
  } finally {
    closeSync(file);
  }
}

async function untilServing(client: Client, ended: AbortSignal): Promise<string> {
  const deadline = performance.now() + START_MS_MAX;
  while (performance.now() < deadline && !ended.aborted) {
    try {
      if ((await client.status()).state === "running") return "serving";
    } catch (error) {
      if (!(error instanceof ServerUnreachable)) throw error;
    }
    await sleep(POLL_MS);
  }
  return `not serving after ${START_MS_MAX / 1000} s`;
}

async function stop(client: Client, child: ChildProcess, exited: Promise<string>): Promise<void> {
  await client.shutdown().catch(() => child.kill("SIGTERM"));
  const late = sleep(STOP_MS_MAX, "late" as const, { ref: false });
  if ((await Promise.race([exited, late])) === "late") {
    child.kill("SIGKILL");
    throw new Error(`the page server did not stop within ${STOP_MS_MAX / 1000} s: killed`);
  }
}

/** The last lines written since the log had `from` bytes. */
function tail(log: string, from: number): string {
  const text = readFileSync(log).subarray(from).toString("utf8");
  return text.trimEnd().split("\n").slice(-LOG_TAIL_LINES).join("\n");
}
