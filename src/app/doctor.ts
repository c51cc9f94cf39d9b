// `pageserver doctor`: looks at what a page server needs from its machine and says what is missing
// and what to do. Changes nothing but one scratch file beside the data.

import { constants } from "node:fs";
import fs from "node:fs/promises";
import net from "node:net";
import os from "node:os";
import path from "node:path";
import { type Config, isReachable } from "../config.ts";
import { CONNECTIONS_MAX, OPEN_FILES_MAX } from "../core/limits.ts";
import { systemClock } from "../io/clock.ts";
import { findPostgres } from "../io/postgres.ts";
import { TokenVerifier } from "../io/tokens.ts";
import { loadTls } from "./login.ts";
import { readDashboard } from "./dashboard-files.ts";
import { clockIsSynchronized, mayEnter, tryRedo } from "./doctor-postgres.ts";
import { checkoutPath, libraryPath } from "./program.ts";

export interface Finding {
  readonly what: string;
  /** "warning": it runs, but not as well or as safely as it could. */
  readonly state: "good" | "warning" | "bad";
  /** What was found, and what to do if that is not good. */
  readonly detail: string;
}

type Looked = Omit<Finding, "what">;

const GiB = 2 ** 30;
/** Less than this and WAL stops being taken in soon. */
const FREE_BYTES_MIN = 5 * GiB;
const MEMORY_BYTES_MIN = 2 * GiB;
/** Above this, ms, synchronous commits feel it. */
const FSYNC_MS_MAX = 20;
const FSYNCS = 11;
/** A certificate that ends sooner than this, ms, is to be renewed now. */
const CERTIFICATE_MS_MIN = 14 * 24 * 3_600_000;
/** statfs(2): data there does not outlive the machine. */
const TMPFS_MAGIC = 0x0102_1994;
/** What OPEN_FILES_MAX says of each open layer file. */
const DESCRIPTORS_OF_A_LAYER = 3;

const good = (detail: string): Looked => ({ state: "good", detail });
const warning = (detail: string): Looked => ({ state: "warning", detail });
const bad = (detail: string): Looked => ({ state: "bad", detail });

/** Looks at everything; never throws. */
export async function examine(config: Config): Promise<readonly Finding[]> {
  const dataDir = path.resolve(config.dataDir);
  const looks: readonly [string, () => Promise<Looked>][] = [
    ["PostgreSQL", () => postgres(config)],
    ["walredo.so", () => library("walredo.so")],
    ["compute.so", () => library("compute.so")],
    ["WAL redo", () => redo(config)],
    ["dashboard", () => Promise.resolve(dashboard())],
    ["data directory", () => directory(dataDir)],
    ["permissions", () => permissions(config, dataDir)],
    ["disk", () => disk(dataDir)],
    ["fsync", () => fsync(dataDir)],
    ["clock", () => clock(dataDir)],
    ["descriptors", descriptors],
    ["memory", () => Promise.resolve(memory())],
    ["page service port", () => port(config.listenHost, config.listenPort)],
    ["management port", () => port(config.httpHost, config.httpPort)],
    ["tokens", () => tokens(config)],
    ["TLS", () => tls(config)],
  ];
  const findings: Finding[] = [];
  for (const [what, look] of looks) {
    const found = await look().catch((error: unknown) =>
      bad(error instanceof Error ? error.message : String(error)),
    );
    findings.push({ what, ...found });
  }
  return findings;
}

async function postgres(config: Config): Promise<Looked> {
  const found = await findPostgres({ major: 15, binDir: config.pgBinDir });
  const as = found.account.uid === undefined ? "us" : `uid ${found.account.uid}`;
  return good(`${found.version} in ${found.binDir}, run by ${as}`);
}

async function library(name: string): Promise<Looked> {
  const file = libraryPath(name);
  const there = await fs.access(file, constants.R_OK).then(
    () => true,
    () => false,
  );
  return there ? good(file) : bad(`${file} cannot be read; build it: npm run build:pgext`);
}

/** A library of another PostgreSQL, or one that this kernel does not let start, shows here. */
async function redo(config: Config): Promise<Looked> {
  const programs = await findPostgres({ major: 15, binDir: config.pgBinDir });
  try {
    const ms = await tryRedo(programs, libraryPath("walredo.so"));
    return good(`a process is ready after ${Math.round(ms)} ms`);
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error);
    return bad(`it does not start: ${why}; build it for this PostgreSQL: npm run build:pgext`);
  }
}

function dashboard(): Looked {
  const { size } = readDashboard(checkoutPath("dist/dashboard"));
  if (size === 0) return warning("it is not built; build it: npm run build:dashboard");
  return good(`${size} files`);
}

/** When we are root, PostgreSQL runs as another user, in directories below the data. */
async function permissions(config: Config, dataDir: string): Promise<Looked> {
  const programs = await findPostgres({ major: 15, binDir: config.pgBinDir });
  const at = await existing(dataDir);
  const { uid } = programs.account;
  if (await mayEnter(programs, at)) {
    return good(uid === undefined ? "PostgreSQL runs as us" : `uid ${uid} may enter ${at}`);
  }
  return bad(
    `PostgreSQL's user (uid ${uid ?? "ours"}) may not enter ${at}: let it through all directories ` +
      `above (chmod o+x), or choose another with data_dir, e.g. /var/lib/pageserver`,
  );
}

/** The directory itself, or the nearest one above it that exists. */
async function existing(dir: string): Promise<string> {
  for (let at = dir; ; at = path.dirname(at)) {
    const there = await fs.stat(at).catch(() => undefined);
    if (there !== undefined || at === path.dirname(at)) return at;
  }
}

async function directory(dataDir: string): Promise<Looked> {
  const at = await existing(dataDir);
  if (!(await fs.stat(at)).isDirectory()) {
    return bad(`${at} is not a directory; name another with data_dir`);
  }
  await fs.access(at, constants.R_OK | constants.W_OK | constants.X_OK);
  return good(at === dataDir ? dataDir : `${dataDir} will be made in ${at}`);
}

async function disk(dataDir: string): Promise<Looked> {
  const { bavail, bsize, type } = await fs.statfs(await existing(dataDir));
  const free = bavail * bsize;
  const said = `${(free / GiB).toFixed(1)} GiB free`;
  if (type === TMPFS_MAGIC) return warning(`${said}, in memory: gone when the machine restarts`);
  return free < FREE_BYTES_MIN ? warning(`${said}; WAL needs room, make some`) : good(said);
}

/** The median of a few: each commit of a synchronous compute waits for one. */
async function fsync(dataDir: string): Promise<Looked> {
  const file = path.join(await existing(dataDir), `.pageserver-doctor-${process.pid}`);
  const handle = await fs.open(file, "wx", 0o600);
  try {
    const taken: number[] = [];
    for (let i = 0; i < FSYNCS; i++) {
      const begun = systemClock.steadyMs();
      await handle.write(Buffer.alloc(8192, i), 0, 8192, i * 8192);
      await handle.sync();
      taken.push(systemClock.steadyMs() - begun);
    }
    const median = taken.sort((a, b) => a - b)[Math.floor(FSYNCS / 2)]!;
    const said = `${median.toFixed(2)} ms for a page`;
    return median > FSYNC_MS_MAX ? warning(`${said}; commits wait for it`) : good(said);
  } finally {
    await handle.close();
    await fs.rm(file, { force: true });
  }
}

/** A file from the future: the clock was set back. Tokens' times and time travel depend on it. */
async function clock(dataDir: string): Promise<Looked> {
  const { mtimeMs } = await fs.stat(await existing(dataDir));
  const now = systemClock.nowMs();
  const said = new Date(now).toISOString();
  const ahead = Math.round((mtimeMs - now) / 1000);
  const synchronized = await clockIsSynchronized();
  if (ahead < 2 && synchronized === false) {
    return warning(`${said}, not synchronized; time travel and tokens want it (NTP)`);
  }
  if (ahead < 2) return good(synchronized === true ? `${said}, synchronized` : said);
  return warning(`${said}, but ${dataDir} was changed ${ahead} s later; set it by NTP`);
}

async function descriptors(): Promise<Looked> {
  const limits = await fs.readFile("/proc/self/limits", "utf8").catch(() => "");
  const soft = Number(/^Max open files +(\d+)/m.exec(limits)?.[1]);
  if (Number.isNaN(soft)) return warning("the limit of open files cannot be read here");
  const wanted = CONNECTIONS_MAX + DESCRIPTORS_OF_A_LAYER * OPEN_FILES_MAX + 200;
  const said = `${soft} allowed, ${wanted} for all connections and layers`;
  return soft >= wanted ? good(said) : warning(`${said}; raise it (LimitNOFILE, ulimit -n)`);
}

function memory(): Looked {
  const total = os.totalmem();
  const said = `${(total / GiB).toFixed(1)} GiB`;
  return total < MEMORY_BYTES_MIN ? warning(`${said}; 2 GiB are wanted`) : good(said);
}

function port(host: string, number: number): Promise<Looked> {
  return new Promise((resolve) => {
    const server = net.createServer();
    server.once("error", ({ code, message }: NodeJS.ErrnoException) => {
      const taken = `${host}:${number} is taken: by a page server that runs, or choose another`;
      resolve(code === "EADDRINUSE" ? warning(taken) : bad(message));
    });
    server.listen({ host, port: number }, () => {
      server.close(() => resolve(good(`${host}:${number} is free`)));
    });
  });
}

async function tokens(config: Config): Promise<Looked> {
  if (config.authKeys === undefined) {
    if (!config.allowUnauthenticated) return good("none are asked for; only loopback is served");
    return warning("none are asked for, and others may reach us; set auth_keys");
  }
  const verifier = await TokenVerifier.load({
    keys: config.authKeys,
    audience: config.authAudience,
    clockSkewS: config.authClockSkewS,
    requireExpiry: config.authRequireExpiry,
    nowMs: systemClock.nowMs,
  });
  return good(`${verifier.keyCount} public keys from ${config.authKeys}`);
}

async function tls(config: Config): Promise<Looked> {
  const loaded = await loadTls(config);
  if (loaded === undefined) {
    if (!isReachable(config)) return good("none; only loopback is served");
    return warning("none, so tokens and pages travel in clear; set tls_cert and tls_key");
  }
  const left = loaded.notAfterMs - systemClock.nowMs();
  const until = new Date(loaded.notAfterMs).toISOString();
  if (left <= 0)
    return bad(`${config.tlsCert} was valid until ${until}; renew it, then send SIGHUP`);
  const text = `${config.tlsCert} is valid until ${until}`;
  return left < CERTIFICATE_MS_MIN ? warning(`${text}; renew it, then send SIGHUP`) : good(text);
}
