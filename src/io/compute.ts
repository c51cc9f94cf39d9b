// Computes: stock PostgreSQL servers in disposable directories, booted from a base backup. A
// compute is a daemon of its own: it outlives the page server (even its SIGKILL) and is found
// again by its directory. Its WAL receiver is somebody else's matter; with synchronous commits,
// writes wait until that has connected, reads do not.

import { constants } from "node:fs";
import fs from "node:fs/promises";
import net from "node:net";
import path from "node:path";
import { setTimeout as sleep } from "node:timers/promises";

import {
  COMPUTE_POLL_MS,
  COMPUTE_QUIT_MS_MAX,
  COMPUTE_START_MS_MAX,
  COMPUTE_STOP_MS_MAX,
  STATISTICS_BYTES_MAX,
} from "../core/limits.ts";
import type { Lsn } from "../core/lsn.ts";
import { checkpointEnd } from "../protocol/backup/start-checkpoint.ts";
import { readTar } from "../protocol/backup/tar.ts";
import { DB_STATE, readControlFile } from "../protocol/control-file.ts";
import { parsePgVersion } from "../protocol/wal/format.ts";
import { type ComputeSettings, computeConf } from "./compute-settings.ts";
import { readControl } from "./data-dir.ts";
import { PostgresProblem, type PostgresPrograms, makeServerDir, runProgram } from "./postgres.ts";
import { writeDataDir, writeSmallFile } from "./write-data-dir.ts";

export interface ComputeOptions extends Omit<ComputeSettings, "socketDir"> {
  /** Becomes the data directory; absent or empty. */
  readonly dir: string;
  /** Directory of the unix socket; by default `dir` itself, which only the server's user can enter. */
  readonly socketDir?: string;
  /** PostgreSQL's statistics file, of the moment of the backup. */
  readonly statistics?: Uint8Array | undefined;
  /** Shown to the page service, when it asks for tokens; never written to disk. */
  readonly token?: string | undefined;
}

/** A server that is running in a directory, as its postmaster.pid says. */
export interface Compute {
  readonly dir: string;
  readonly pid: number;
  readonly port: number;
  /** "" when it listens on loopback only. */
  readonly socketDir: string;
  readonly startedAtS: number;
  readonly uri: string;
  readonly logFile: string;
}

/** What boot is doing: the steps come in this order, "receive" many times. */
export type BootStep =
  | { readonly step: "receive"; readonly bytes: number }
  | { readonly step: "configure" }
  | { readonly step: "start" }
  | { readonly step: "ready"; readonly pid: number };

/** PostgreSQL's limit on a unix socket's path (UNIXSOCK_PATH_BUFLEN), less the longest file name. */
const SOCKET_DIR_BYTES_MAX = 107 - "/.s.PGSQL.65535".length;
const LOG_NAME = "compute.log";
const LOG_TAIL_BYTES = 4_096;

export const computeLog = (dir: string): string => path.join(dir, LOG_NAME);

/** Its presence makes a server a standby. */
const standbySignal = (dir: string): string => path.join(dir, "standby.signal");

/** Cumulative statistics, written by a server that stops cleanly and read by one that starts. */
const statisticsFile = (dir: string): string => path.join(dir, "pg_stat/pgstat.stat");

/**
 * The statistics that a stopped server has left; undefined: none, or more than anybody needs. The
 * directory is the server's: what its user could not read itself is not read for it.
 */
export async function readStatistics(
  { account }: PostgresPrograms,
  dir: string,
): Promise<Uint8Array | undefined> {
  const handle = await fs
    .open(statisticsFile(dir), constants.O_RDONLY | constants.O_NOFOLLOW)
    .catch(() => undefined);
  if (handle === undefined) return undefined;
  try {
    const { uid, size } = await handle.stat();
    const readable = account.uid === undefined || account.uid === uid;
    return readable && size <= STATISTICS_BYTES_MAX ? await handle.readFile() : undefined;
  } finally {
    await handle.close();
  }
}

export const computeUri = (port: number): string =>
  `postgresql://postgres@127.0.0.1:${port}/postgres`;

/**
 * Boots a compute: unpacks the backup (full, or base when it is without disks), configures, starts, waits until connections are
 * accepted. Throws PostgresProblem or MalformedInput; the directory is then left for inspection
 * and no server runs in it.
 */
export async function bootCompute(
  programs: PostgresPrograms,
  backup: AsyncIterable<Uint8Array>,
  options: ComputeOptions,
  onStep: (step: BootStep) => void = () => {},
): Promise<Compute> {
  const { dir } = options;
  if (!path.isAbsolute(dir)) throw new PostgresProblem(`${dir} is not an absolute path`);
  const conf = computeConf({ ...options, socketDir: options.socketDir ?? socketDirFor(dir) });
  await makeServerDir(programs.account, dir);
  await writeDataDir(readTar(backup), dir, programs.account, (bytes) =>
    onStep({ step: "receive", bytes }),
  );
  onStep({ step: "configure" });
  const major = Number((await fs.readFile(path.join(dir, "PG_VERSION"), "utf8")).trim());
  if (major !== programs.major) {
    throw new PostgresProblem(
      `the backup is of PostgreSQL ${major}, the programs in ${programs.binDir} are ${programs.version}`,
    );
  }
  await fs.appendFile(path.join(dir, "postgresql.conf"), conf);
  if (options.statistics !== undefined) {
    await writeSmallFile(statisticsFile(dir), options.statistics, programs.account);
  }
  if (options.commits === "none") {
    await writeSmallFile(standbySignal(dir), new Uint8Array(0), programs.account);
  }
  onStep({ step: "start" });
  const compute = await startCompute(programs, dir, options.token);
  onStep({ step: "ready", pid: compute.pid });
  return compute;
}

const socketDirFor = (dir: string): string | undefined =>
  Buffer.byteLength(dir) <= SOCKET_DIR_BYTES_MAX ? dir : undefined;

/** Starts the server of a configured directory. Throws PostgresProblem with the end of its log. */
export async function startCompute(
  programs: PostgresPrograms,
  dir: string,
  token?: string,
): Promise<Compute> {
  const log = computeLog(dir);
  const seconds = Math.ceil(COMPUTE_START_MS_MAX / 1000);
  const args = ["start", "-D", dir, "-l", log, "-w", "-t", `${seconds}`, "-s"];
  try {
    // pg_ctl gives the server a session of its own, so that it survives us.
    const secrets = token === undefined ? {} : { PAGESERVER_TOKEN: token };
    await runProgram(programs, "pg_ctl", args, COMPUTE_START_MS_MAX + 10_000, secrets);
  } catch (error) {
    const started = await findCompute(dir);
    if (started !== undefined) await stopCompute(dir, { mode: "immediate", programs });
    throw await problemWithLog(dir, error);
  }
  const compute = await findCompute(dir);
  if (compute === undefined) throw await problemWithLog(dir, "it ended right after its start");
  return compute;
}

/** An error that names the log file and shows its last lines. */
async function problemWithLog(dir: string, cause: unknown): Promise<PostgresProblem> {
  const why = cause instanceof Error ? cause.message : String(cause);
  const log = computeLog(dir);
  const text = await fs.readFile(log, "utf8").catch(() => "(there is no such file)");
  return new PostgresProblem(
    `PostgreSQL in ${dir} did not start: ${why}\n${log} ends with:\n` +
      text.slice(-LOG_TAIL_BYTES).trimEnd(),
    { cause },
  );
}

/** The server that runs in `dir`, if one does. */
export async function findCompute(dir: string): Promise<Compute | undefined> {
  let text: string;
  try {
    text = await fs.readFile(path.join(dir, "postmaster.pid"), "utf8");
  } catch (error) {
    if (isMissing(error)) return undefined;
    throw error;
  }
  // pid, data directory, start time, port, socket directory, address, shared memory, status
  const lines = text.split("\n");
  const pid = Number(lines[0]);
  const port = Number(lines[3]);
  if (!Number.isInteger(pid) || pid <= 1 || !(await runsIn(pid, dir))) return undefined;
  return {
    dir,
    pid,
    port,
    socketDir: lines[4] ?? "",
    startedAtS: Number(lines[2]),
    uri: computeUri(port),
    logFile: computeLog(dir),
  };
}

/** True when `pid` is a process whose working directory is `dir`, as a postmaster's is: pids are reused. */
async function runsIn(pid: number, dir: string): Promise<boolean> {
  try {
    return (await fs.readlink(`/proc/${pid}/cwd`)) === (await fs.realpath(dir));
  } catch (error) {
    const proc = await fs.stat("/proc/self").catch(() => undefined);
    // Gone, or a zombie: with a /proc there is nothing to doubt.
    if (proc !== undefined && isMissing(error)) return false;
  }
  return isAlive(pid);
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return error instanceof Error && "code" in error && error.code === "EPERM";
  }
}

const isMissing = (error: unknown): boolean =>
  error instanceof Error && "code" in error && (error.code === "ENOENT" || error.code === "ESRCH");

export interface StopOptions {
  readonly programs: PostgresPrograms;
  /**
   * "fast" (default): clients are disconnected, a shutdown checkpoint is written, and the server
   * waits until its WAL senders have sent everything and had it confirmed. "immediate": none of it.
   */
  readonly mode?: "fast" | "immediate";
  /** How long the fast shutdown may take; then immediate, then SIGKILL. */
  readonly deadlineMs?: number;
}

export interface Stopped {
  readonly how: "not-running" | "fast" | "immediate" | "killed";
  /** After a fast stop: end of its last record, the shutdown checkpoint. Who has WAL up to here has all. */
  readonly endLsn: Lsn | undefined;
}

/** Stops the server that runs in `dir`. Always ends: what does not stop is killed. */
export async function stopCompute(dir: string, options: StopOptions): Promise<Stopped> {
  const compute = await findCompute(dir);
  if (compute === undefined) return { how: "not-running", endLsn: undefined };
  const tries: readonly (readonly [Stopped["how"], NodeJS.Signals, number])[] = [
    ["fast", "SIGINT", options.deadlineMs ?? COMPUTE_STOP_MS_MAX],
    ["immediate", "SIGQUIT", COMPUTE_QUIT_MS_MAX],
    ["killed", "SIGKILL", COMPUTE_QUIT_MS_MAX],
  ];
  for (const [how, signal, waitMs] of tries) {
    if (how === "fast" && options.mode === "immediate") continue;
    if (!(await signalAndWait(compute, signal, waitMs))) continue;
    return { how, endLsn: how === "fast" ? await shutdownEnd(dir, options.programs) : undefined };
  }
  throw new PostgresProblem(`process ${compute.pid} (PostgreSQL in ${dir}) cannot be killed`);
}

async function signalAndWait(
  compute: Compute,
  signal: NodeJS.Signals,
  waitMs: number,
): Promise<boolean> {
  try {
    process.kill(compute.pid, signal);
  } catch (error) {
    if (!isMissing(error)) throw error;
  }
  for (const end = performance.now() + waitMs; performance.now() < end;) {
    if (!(await runsIn(compute.pid, compute.dir))) return true;
    await sleep(COMPUTE_POLL_MS);
  }
  return false;
}

/** End of the shutdown checkpoint; undefined when the directory is not that of a clean shutdown. */
async function shutdownEnd(dir: string, programs: PostgresPrograms): Promise<Lsn | undefined> {
  const control = readControlFile(await readControl(dir), parsePgVersion(programs.major));
  return control.state === DB_STATE.SHUTDOWNED ? checkpointEnd(control.checkPoint) : undefined;
}

/** A TCP port on loopback that was free a moment ago. */
export function freePort(): Promise<number> {
  return new Promise((resolve, reject) => {
    const server = net.createServer();
    server.on("error", reject);
    server.listen(0, "127.0.0.1", () => {
      const address = server.address();
      server.close(() =>
        address !== null && typeof address === "object"
          ? resolve(address.port)
          : reject(new Error("no address")),
      );
    });
  });
}
