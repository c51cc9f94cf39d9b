// `npm start`: the whole system on this machine. Starts the page server with its store in ./data,
// makes the timeline `main` if it is not there, boots PostgreSQL on it, says how to use it, and on
// Ctrl-C stops all in order: computes, then the page server. `-- --once` takes a tour instead.

import { resolve } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { parseArgs } from "node:util";
import { formatMs, stateText } from "../src/cli/format.ts";
import { stepLine } from "../src/cli/progress.ts";
import { ApiError, type Client } from "../src/http/client.ts";
import type { ComputeInfo, Job } from "../src/protocol/api-work.ts";
import { type LocalServer, startLocalServer } from "./local-server.ts";
import { freePort } from "./ports.ts";
import { tour } from "./tour.ts";

const MAIN = "main";
const COMPUTE_PORT = 55_432;
/** One long poll for a job, ms; the server allows 30 s. */
const JOB_POLL_MS = 20_000;

/** Loading re-reads the WAL since the last sealed layer: at most some hundred MB; ms. */
const LOAD_MS_MAX = 120_000;
const LOAD_POLL_MS = 50;

const HELP = `npm start [-- options]
  --once        take a short tour (write, branch at an earlier moment, compare), then stop
  --data DIR    where everything is kept (default: data)
  --port N      port of PostgreSQL on main (default: ${COMPUTE_PORT} or the next free one)`;

const say = (line: string): void => void process.stdout.write(`${line}\n`);

async function main(): Promise<number> {
  const { values: options } = parseArgs({
    options: {
      once: { type: "boolean", default: false },
      data: { type: "string", default: "data" },
      port: { type: "string" },
      help: { type: "boolean", default: false },
    },
  });
  if (options.help) {
    say(HELP);
    return 0;
  }
  const stopAsked = stopSignal();
  const server = await startLocalServer(resolve(options.data));
  try {
    const port = options.port === undefined ? await freePort(COMPUTE_PORT) : Number(options.port);
    const compute = await mainCompute(server.client, port);
    sayHowTo(server, compute);
    if (options.once) {
      await tour(server.client, compute, { startCompute, runJob, say });
      await stopAll(server);
      say("ok");
      return 0;
    }
    const ended = await Promise.race([stopAsked, server.exited]);
    if (ended !== "asked") throw new Error(`the page server ended (${ended}); see ${server.log}`);
    say("\nstopping");
    await stopAll(server);
    return 0;
  } catch (error) {
    await stopAll(server).catch(() => undefined);
    throw error;
  }
}

/** Resolves at the first SIGINT or SIGTERM. npm passes the terminal's Ctrl-C on, so more may follow: ignored. */
function stopSignal(): Promise<"asked"> {
  return new Promise((resolvePromise) => {
    for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) {
      process.on(signal, () => resolvePromise("asked"));
    }
  });
}

/** PostgreSQL on `main`, which is created if it is not there. */
async function mainCompute(client: Client, port: number): Promise<ComputeInfo> {
  if (!(await exists(client, MAIN))) {
    say(`creating timeline "${MAIN}" (initdb)`);
    const created = await client.createTimeline({ name: MAIN });
    say(`  ok  created in ${formatMs(created.server_ms)}`);
  }
  await untilActive(client, MAIN);
  const running = (await client.computes()).find(
    (compute) => compute.timeline === MAIN && compute.state === "running",
  );
  return running ?? (await startCompute(client, MAIN, port));
}

/** A timeline is loaded from the store before it can be used; one with much WAL to re-read takes a while. */
async function untilActive(client: Client, timeline: string): Promise<void> {
  const deadline = performance.now() + LOAD_MS_MAX;
  for (;;) {
    const { state } = await client.timeline(timeline);
    if (state === "Active") return;
    if (typeof state !== "string" || performance.now() > deadline) {
      throw new Error(`timeline "${timeline}" is not usable: ${stateText(state)}`);
    }
    await sleep(LOAD_POLL_MS);
  }
}

async function exists(client: Client, timeline: string): Promise<boolean> {
  try {
    await client.timeline(timeline);
    return true;
  } catch (error) {
    if (error instanceof ApiError && error.status === 404) return false;
    throw error;
  }
}

async function startCompute(client: Client, timeline: string, port: number): Promise<ComputeInfo> {
  say(`booting PostgreSQL on "${timeline}"`);
  const job = await runJob(client, await client.startCompute({ timeline, port }));
  const compute = job.result?.compute;
  if (compute === undefined) throw new Error("the server did not say where PostgreSQL runs");
  return compute;
}

/** Waits for the job's end and shows its steps. */
async function runJob(client: Client, first: Job): Promise<Job> {
  let job = first;
  while (job.state === "running") job = await client.job(job.id, JOB_POLL_MS);
  for (const step of job.steps) say(stepLine(step));
  if (job.state === "failed") throw new Error(job.error ?? `job ${job.id} failed`);
  return job;
}

function sayHowTo(server: LocalServer, compute: ComputeInfo): void {
  const cli = "bin/pageserver";
  const api =
    server.client.url === "http://127.0.0.1:9898"
      ? []
      : ["", `  first     export PAGESERVER_API=${server.client.url}`];
  const lines = [
    "",
    `  psql      psql ${compute.uri}`,
    ...api,
    `  branch    ${cli} branch ${MAIN} try --at now  &&  ${cli} compute start try`,
    `  look      ${cli} status`,
    `  logs      ${server.log}`,
    `            ${compute.log}`,
    `  stop      Ctrl-C`,
    "",
  ];
  say(lines.join("\n"));
}

/** Computes first, so that the last of their WAL is taken in; then the page server. */
async function stopAll(server: LocalServer): Promise<void> {
  for (const compute of await server.client.computes().catch(() => [])) {
    if (compute.state !== "running") continue;
    say(`  PostgreSQL on "${compute.timeline}"`);
    const job = await server.client.stopCompute(compute.timeline);
    await runJob(server.client, job);
  }
  say("  page server");
  await server.stop();
}

try {
  process.exitCode = await main();
} catch (error) {
  process.stderr.write(`npm start: ${error instanceof Error ? error.message : String(error)}\n`);
  process.exitCode = 1;
}
