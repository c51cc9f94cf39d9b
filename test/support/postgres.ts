// A throw-away stock PostgreSQL for tests: its own directory under the temp dir, a free port on
// loopback (TCP and unix socket), trust authentication, superuser "postgres". Runs as the user
// postgres when the test runs as root (PostgreSQL refuses root). Whatever is still running when
// the test process exits is killed and its directory removed.

import { type ChildProcess, execFile, spawn } from "node:child_process";
import fs from "node:fs";
import net from "node:net";
import os from "node:os";
import path from "node:path";

export interface PostgresOptions {
  /** postgresql.conf settings; they win over the helper's own. */
  readonly settings?: Readonly<Record<string, string>>;
  /** Further arguments of initdb, e.g. ["--data-checksums"]. */
  readonly initdbArgs?: readonly string[];
  /** wal_level; "replica" unless given. */
  readonly wal?: "minimal" | "replica" | "logical";
  /** Start on this directory (a restored backup, say) instead of a new cluster. It is not removed. */
  readonly dataDir?: string;
  /** false: initdb only; call start() later. */
  readonly start?: boolean;
}

export interface TestPostgres {
  readonly port: number;
  readonly dataDir: string;
  /** Directory of the unix socket. */
  readonly socketDir: string;
  /** Server log file. */
  readonly logFile: string;
  /** Connection string over TCP, database postgres. */
  readonly uri: string;
  /** Runs SQL with psql (-AtqX, stops at the first error); gives its output without the last newline. */
  sql(text: string, db?: string): Promise<string>;
  /** Runs pgbench with these arguments against database postgres; gives its output. */
  pgbench(args: readonly string[]): Promise<string>;
  start(): Promise<void>;
  /** "fast" unless given. Resolves when the postmaster has exited. */
  stop(mode?: "smart" | "fast" | "immediate"): Promise<void>;
  /** SIGKILL to the postmaster and its children: a crash. */
  kill(): Promise<void>;
  /** Stops and removes everything. */
  cleanup(): Promise<void>;
}

/** Directory of the PostgreSQL 15 programs. */
export const PG_BIN = process.env["PG_BIN"] ?? "/usr/lib/postgresql/15/bin";
const READY_MS_MAX = 60_000;
const STOP_MS_MAX = 60_000;
const OUTPUT_BYTES_MAX = 256 * 1024 * 1024;

interface Identity {
  readonly uid?: number;
  readonly gid?: number;
}

/** Who may run PostgreSQL: user postgres when we are root, else ourselves. */
export function postgresIdentity(): Identity {
  if (process.getuid?.() !== 0) return {};
  const line = fs
    .readFileSync("/etc/passwd", "utf8")
    .split("\n")
    .find((l) => l.startsWith("postgres:"));
  if (line === undefined) throw new Error("running as root, and there is no user postgres");
  const [, , uid, gid] = line.split(":");
  return { uid: Number(uid), gid: Number(gid) };
}

/** A new directory under the temp dir that belongs to whoever runs PostgreSQL, mode 0700. */
export function postgresTempDir(prefix = "pgtest-"): string {
  const dir = fs.mkdtempSync(path.join(os.tmpdir(), prefix));
  const { uid, gid } = postgresIdentity();
  if (uid !== undefined && gid !== undefined) fs.chownSync(dir, uid, gid);
  return dir;
}

/** Gives a directory tree to whoever runs PostgreSQL, with the mode it insists on. */
export function giveToPostgres(dir: string): void {
  const { uid, gid } = postgresIdentity();
  fs.chmodSync(dir, 0o700);
  if (uid === undefined || gid === undefined) return;
  fs.chownSync(dir, uid, gid);
  for (const entry of fs.readdirSync(dir, { recursive: true, encoding: "utf8" })) {
    fs.lchownSync(path.join(dir, entry), uid, gid);
  }
}

/** Runs one of PostgreSQL's programs to its end as the right user; gives stdout. Throws with its stderr. */
export function runPg(
  program: string,
  args: readonly string[],
  stdin = "",
  environment: Readonly<Record<string, string>> = {},
): Promise<string> {
  return new Promise((resolve, reject) => {
    const child = execFile(
      path.join(PG_BIN, program),
      args,
      {
        ...postgresIdentity(),
        cwd: "/",
        encoding: "utf8",
        maxBuffer: OUTPUT_BYTES_MAX,
        env: { PATH: process.env["PATH"], LC_ALL: "C", TZ: "UTC", ...environment },
      },
      (error, stdout, stderr) => {
        if (error === null) resolve(stdout);
        else reject(new Error(`${program} ${args.join(" ")}: ${error.message}\n${stderr}`));
      },
    );
    child.stdin?.on("error", () => {}); // the program may exit without reading: its status tells
    child.stdin?.end(stdin);
  });
}

function freePort(): Promise<number> {
  return new Promise((resolve, reject) => {
    const server = net.createServer();
    server.on("error", reject);
    server.listen(0, "127.0.0.1", () => {
      const address = server.address();
      server.close(() =>
        typeof address === "object" && address !== null
          ? resolve(address.port)
          : reject(new Error("no free port")),
      );
    });
  });
}

const sleep = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

// Clusters of this process, so that none outlives it.
const alive = new Set<Cluster>();
process.on("exit", () => {
  for (const cluster of alive) cluster.abandon();
});

class Cluster implements TestPostgres {
  readonly port: number;
  readonly dataDir: string;
  readonly socketDir: string;
  readonly logFile: string;
  readonly uri: string;
  private readonly ownsDataDir: boolean;
  private child: ChildProcess | undefined;

  constructor(home: string, dataDir: string, port: number, ownsDataDir: boolean) {
    this.port = port;
    this.dataDir = dataDir;
    this.socketDir = home;
    this.logFile = path.join(home, "log");
    this.uri = `postgresql://postgres@127.0.0.1:${port}/postgres`;
    this.ownsDataDir = ownsDataDir;
    alive.add(this);
  }

  sql(text: string, db = "postgres"): Promise<string> {
    const args = ["-AtqX", "-v", "ON_ERROR_STOP=1", "-h", this.socketDir, "-p", `${this.port}`];
    return runPg("psql", [...args, "-U", "postgres", "-d", db, "-f", "-"], text).then((out) =>
      out.replace(/\n$/, ""),
    );
  }

  pgbench(args: readonly string[]): Promise<string> {
    const where = ["-h", this.socketDir, "-p", `${this.port}`, "-U", "postgres"];
    return runPg("pgbench", [...where, ...args, "postgres"]);
  }

  async start(): Promise<void> {
    const log = fs.openSync(this.logFile, "a");
    const child = spawn(path.join(PG_BIN, "postgres"), ["-D", this.dataDir], {
      ...postgresIdentity(),
      cwd: "/",
      stdio: ["ignore", log, log],
      env: { PATH: process.env["PATH"], LC_ALL: "C", TZ: "UTC" },
    });
    fs.closeSync(log);
    this.child = child;
    let exited: string | undefined;
    child.on("exit", (code, signal) => (exited = `${code ?? signal}`));
    child.on("error", (error) => (exited = error.message));
    const deadline = Date.now() + READY_MS_MAX;
    while (!this.isReady(child.pid)) {
      if (exited !== undefined || Date.now() > deadline) {
        child.kill("SIGKILL");
        const tail = fs.readFileSync(this.logFile, "utf8").slice(-4000);
        throw new Error(`PostgreSQL did not start (${exited ?? "timed out"}):\n${tail}`);
      }
      await sleep(10);
    }
  }

  /** The postmaster writes "ready" on line 8 of its pid file, as pg_ctl expects. */
  private isReady(pid: number | undefined): boolean {
    try {
      const lines = fs.readFileSync(path.join(this.dataDir, "postmaster.pid"), "utf8").split("\n");
      return Number(lines[0]) === pid && /^(ready|standby)\s*$/.test(lines[7] ?? "");
    } catch {
      return false;
    }
  }

  async stop(mode: "smart" | "fast" | "immediate" = "fast"): Promise<void> {
    const signal = mode === "smart" ? "SIGTERM" : mode === "fast" ? "SIGINT" : "SIGQUIT";
    await this.signalAndWait(signal);
  }

  async kill(): Promise<void> {
    const children = this.childPids();
    const dead = this.signalAndWait("SIGKILL");
    for (const pid of children) killQuietly(pid);
    await dead;
    // Children hold the shared memory until they are gone; a new postmaster would refuse it.
    const deadline = Date.now() + STOP_MS_MAX;
    while (children.some((pid) => fs.existsSync(`/proc/${pid}`)) && Date.now() < deadline) {
      await sleep(5);
    }
  }

  private childPids(): readonly number[] {
    const pid = this.child?.pid;
    if (pid === undefined) return [];
    try {
      const text = fs.readFileSync(`/proc/${pid}/task/${pid}/children`, "utf8");
      return text.trim().split(/\s+/).filter(Boolean).map(Number);
    } catch {
      return [];
    }
  }

  private signalAndWait(signal: NodeJS.Signals): Promise<void> {
    const child = this.child;
    this.child = undefined;
    if (child === undefined || child.exitCode !== null || child.signalCode !== null) {
      return Promise.resolve();
    }
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => {
        child.kill("SIGKILL");
        reject(new Error(`PostgreSQL did not stop within ${STOP_MS_MAX} ms`));
      }, STOP_MS_MAX);
      child.once("exit", () => {
        clearTimeout(timer);
        resolve();
      });
      child.kill(signal);
    });
  }

  async cleanup(): Promise<void> {
    alive.delete(this);
    await this.stop("immediate");
    this.removeFiles();
  }

  /** For process exit, where nothing can be awaited. */
  abandon(): void {
    for (const pid of this.childPids()) killQuietly(pid);
    if (this.child?.pid !== undefined) killQuietly(this.child.pid);
    this.removeFiles();
  }

  private removeFiles(): void {
    fs.rmSync(this.socketDir, { recursive: true, force: true, maxRetries: 3 });
    if (this.ownsDataDir) fs.rmSync(this.dataDir, { recursive: true, force: true, maxRetries: 3 });
  }
}

function killQuietly(pid: number): void {
  try {
    process.kill(pid, "SIGKILL");
  } catch {
    // already gone
  }
}

/** Makes a cluster (or takes the one in `dataDir`) and starts it. About two seconds. */
export async function startPostgres(options: PostgresOptions = {}): Promise<TestPostgres> {
  const home = postgresTempDir();
  const dataDir = options.dataDir ?? path.join(home, "data");
  const port = await freePort();
  if (options.dataDir === undefined) {
    const args = ["-D", dataDir, "-U", "postgres", "-A", "trust", "--no-sync", "-E", "UTF8"];
    await runPg("initdb", [...args, "--locale=C", ...(options.initdbArgs ?? [])]);
  }
  const settings: Record<string, string> = {
    listen_addresses: "127.0.0.1",
    port: `${port}`,
    unix_socket_directories: home,
    fsync: "off",
    shared_buffers: "32MB",
    max_connections: "40",
    wal_level: options.wal ?? "replica",
    ...(options.wal === "minimal" ? { max_wal_senders: "0" } : {}),
    ...options.settings,
  };
  const lines = Object.entries(settings).map(([k, v]) => `${k} = '${v.replaceAll("'", "''")}'`);
  fs.appendFileSync(path.join(dataDir, "postgresql.conf"), `\n${lines.join("\n")}\n`);
  const cluster = new Cluster(home, dataDir, port, options.dataDir === undefined);
  if (options.start !== false) await cluster.start();
  return cluster;
}
