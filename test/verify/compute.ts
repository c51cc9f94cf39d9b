// npm run verify:compute — PostgreSQL's core regression suite on a compute without disks, compared
// test by test with the same suite on a stock server that has a full copy. Afterwards the compute's
// data passes amcheck and pg_visibility; then it is stopped and booted anew from its history alone,
// which must hold the same data and pass the same checks. Last line: JSON.
//
//   --set name=value   a PostgreSQL setting of both servers (repeatable)
//   --source DIR       unpacked sources of PostgreSQL 15; without, apt-get source is asked
//   --connections N    tests that run at a time; with 128kB of buffers no more than one finds enough
//   --kill             between groups of tests the stock server crashes and recovers, the other is killed
//                      (SIGKILL) and booted anew from a base backup
//   --keep             leave the suites' outputs, and the differences

import { spawnSync } from "node:child_process";
import fs from "node:fs";
import path from "node:path";
import { parseArgs } from "node:util";
import { setTimeout as sleep } from "node:timers/promises";
import { findCompute, startCompute, stopCompute } from "../../src/io/compute.ts";
import { findPostgres } from "../../src/io/postgres.ts";
import type { ComputeInfo } from "../../src/protocol/api-work.ts";
import { removeServer } from "../support/computes.ts";
import { PG_BIN, postgresIdentity, postgresTempDir } from "../support/postgres.ts";
import { type Suite, differences, prepareSuite, runSuite } from "./regress.ts";
import { ServerUnderTest } from "./server.ts";

const { values: options } = parseArgs({
  options: {
    set: { type: "string", multiple: true, default: [] },
    source: { type: "string" },
    connections: { type: "string", default: "20" },
    kill: { type: "boolean", default: false },
    keep: { type: "boolean", default: false },
  },
});
const settings = Object.fromEntries(
  options.set.map((text) => [text.slice(0, text.indexOf("=")), text.slice(text.indexOf("=") + 1)]),
);
/** pg_regress creates it. */
const DATABASE = "regression";
const KILLED_POLL_MS = 20;
const LINES_SHOWN = 10;
const say = (line: string): void => void process.stdout.write(`${line}\n`);
const problems: string[] = [];

const at = (port: number): string[] => ["-h", "127.0.0.1", "-p", String(port), "-U", "postgres"];

function run(program: string, args: readonly string[], input = ""): string {
  const done = spawnSync(path.join(PG_BIN, program), args, {
    ...postgresIdentity(),
    cwd: "/",
    input,
    encoding: "utf8",
    maxBuffer: 1 << 30,
  });
  if (done.status === 0) return done.stdout;
  throw new Error(`${program}: ${done.stdout.slice(-2_000)}${done.stderr.slice(-2_000)}`);
}

const sql = (port: number, text: string): string =>
  run("psql", [...at(port), "-d", DATABASE, "-v", "ON_ERROR_STOP=1", "-XAtq"], text);

/**
 * What two servers that ran the suite have in common: not the names of large objects, which are OIDs that
 * concurrent tests take in any order, and not what random() and now() gave it.
 */
const COMPARABLE = [
  "--no-blobs",
  "--exclude-table-data=public.random_tbl",
  "--exclude-table-data=public.tab_core_types",
];

/**
 * What a compute booted anew must have. Not the contents of unlogged tables, nor how far sequences
 * are: their WAL is up to 32 values ahead, which shows after any start from WAL.
 */
const dump = (port: number, ...more: readonly string[]): string =>
  run("pg_dump", [
    ...[...at(port), "-d", DATABASE, "--restrict-key", "verify", "--no-unlogged-table-data"],
    ...more,
  ])
    .replaceAll(/^SELECT pg_catalog\.setval\(.*$/gm, "")
    // A table of the suite holds such names, which are made of OIDs.
    .replaceAll(/pg_toast_\d+/g, "pg_toast_");

function attempt(what: string, check: () => void): void {
  try {
    check();
    say(`  ${what}: clean`);
  } catch (error) {
    problems.push(`${what}: ${error instanceof Error ? error.message : String(error)}`);
    say(`  ${what}: PROBLEM`);
  }
}

function checkData(port: number, when: string): void {
  attempt(`pg_amcheck ${when}`, () => {
    run("pg_amcheck", [...at(port), "-d", DATABASE, "--heapallindexed", "--install-missing"]);
  });
  attempt(`pg_visibility ${when}`, () => {
    sql(port, "CREATE EXTENSION IF NOT EXISTS pg_visibility");
    for (const check of ["pg_check_visible", "pg_check_frozen"]) {
      const found = sql(
        port,
        `SELECT c.oid::regclass, count(*) FROM pg_class c, LATERAL ${check}(c.oid) t
          WHERE c.relkind IN ('r', 'm', 't') AND c.relpersistence = 'p' GROUP BY 1`,
      );
      if (found !== "") throw new Error(`${check}: ${found}`);
    }
  });
}

/** A compute of the page server, and how it is killed and comes back. */
class Subject {
  private readonly server: ServerUnderTest;
  readonly timeline: string;
  private readonly pages: "diskless" | "full-copy";
  private compute: ComputeInfo | undefined;

  constructor(server: ServerUnderTest, timeline: string, pages: "diskless" | "full-copy") {
    this.server = server;
    this.timeline = timeline;
    this.pages = pages;
  }

  get port(): number {
    return this.compute!.port;
  }

  async boot(): Promise<void> {
    const begun = performance.now();
    const request = { timeline: this.timeline, diskless: this.pages === "diskless", settings };
    const job = await this.server.done(await this.server.client.startCompute(request));
    this.compute = job.result!.compute!;
    const steps = job.steps.map(({ name, ms }) => `${name} ${Math.round(ms)} ms`).join(", ");
    say(`${this.timeline}: booted in ${Math.round(performance.now() - begun)} ms (${steps})`);
  }

  async stop(): Promise<void> {
    // The programs above block the loop: let it see that an idle connection was closed meanwhile.
    await sleep(100);
    await this.server.done(await this.server.client.stopCompute(this.timeline));
  }

  /** A crash; then a stock server recovers where it was, and one without disks is booted anew. */
  async kill(): Promise<void> {
    const { dir } = this.compute!;
    if (this.pages === "full-copy") {
      const programs = await findPostgres({ major: 15, binDir: PG_BIN });
      await stopCompute(dir, { programs, mode: "immediate" });
      await startCompute(programs, dir);
      return;
    }
    process.kill((await findCompute(dir))!.pid, "SIGKILL");
    while ((await findCompute(dir)) !== undefined) await sleep(KILLED_POLL_MS);
    await this.stop();
    await this.boot();
  }
}

async function suiteOn(subject: Subject, suite: Suite, home: string) {
  const got = await runSuite(suite, {
    port: () => subject.port,
    outputDir: path.join(home, subject.timeline),
    connections: Number(options.connections),
    pause: options.kill ? () => subject.kill() : undefined,
  });
  say(`${subject.timeline}: ${got.size} tests`);
  return got;
}

/**
 * Lines of a dump; each row with its table's name before it, and a table's rows in an order of their own:
 * where rows lie depends on when VACUUM came.
 */
function dumpLines(text: string): readonly string[] {
  const lines: string[] = [];
  let rows: string[] | undefined;
  let table = "";
  for (const line of text.split("\n")) {
    if (rows === undefined) lines.push(line);
    else if (line !== "\\.") rows.push(`${table}: ${line}`);
    else {
      lines.push(...rows.sort(), line);
      rows = undefined;
    }
    if (rows !== undefined || !line.startsWith("COPY ")) continue;
    rows = [];
    table = line.slice("COPY ".length, line.indexOf(" ("));
  }
  return lines;
}

function compareDumps(what: string, wanted: string, got: string): void {
  attempt(`pg_dump ${what}`, () => {
    const [want, have] = [dumpLines(wanted), dumpLines(got)];
    const [wantedOnly, gotOnly] = [without(want, have), without(have, want)];
    if (wantedOnly.length + gotOnly.length > 0) {
      const show = (lines: readonly string[]) => lines.slice(0, LINES_SHOWN).join("\n    ");
      throw new Error(
        `${wantedOnly.length} lines are missing:\n    ${show(wantedOnly)}\n  ` +
          `${gotOnly.length} lines are too many:\n    ${show(gotOnly)}`,
      );
    }
    const at = want.findIndex((line, i) => line !== have[i]);
    if (at >= 0) throw new Error(`line ${at + 1} is ${have[at]} instead of ${want[at]}`);
  });
}

function without(lines: readonly string[], others: readonly string[]): readonly string[] {
  const known = new Set(others);
  return lines.filter((line) => !known.has(line));
}

async function verify(server: ServerUnderTest, home: string): Promise<readonly string[]> {
  const suite = await prepareSuite(home, options.source);
  await server.start();
  await server.client.createTimeline({ name: "plain" });
  await server.reached("plain", ({ state }) => state === "Active");
  await server.client.createTimeline({ name: "diskless", ancestor_name: "plain" });
  const plain = new Subject(server, "plain", "full-copy");
  await plain.boot();
  const wanted = await suiteOn(plain, suite, home);
  const plainDump = dump(plain.port, ...COMPARABLE);
  await plain.stop();

  const diskless = new Subject(server, "diskless", "diskless");
  await diskless.boot();
  const got = await suiteOn(diskless, suite, home);
  const different = differences(wanted, got);
  say(`${different.length} differ: ${different.join(" ")}`);
  if (wanted.size < 200) problems.push(`only ${wanted.size} tests ran`);
  for (const name of different) problems.push(`${name} differs`);
  say(`pages: ${sql(diskless.port, "SHOW pageserver.stat")}`.trim());
  compareDumps("against the plain server's", plainDump, dump(diskless.port, ...COMPARABLE));
  // Installs extensions, which the plain server's dump has not.
  checkData(diskless.port, "after the suite");
  const before = dump(diskless.port);
  await diskless.stop();

  await diskless.boot();
  compareDumps("of a compute booted anew", before, dump(diskless.port));
  checkData(diskless.port, "booted anew");
  await diskless.stop();
  return different;
}

const home = postgresTempDir("verify-compute-");
const server = new ServerUnderTest();
fs.chmodSync(home, 0o755);
let different: readonly string[] = [];
try {
  different = await verify(server, home);
} catch (error) {
  problems.push(error instanceof Error ? (error.stack ?? error.message) : String(error));
  say(`the page server's log ends with:\n${server.tail()}`);
} finally {
  await removeServer(server);
  if (!options.keep) fs.rmSync(home, { recursive: true, force: true });
}
for (const problem of problems) say(`PROBLEM ${problem}`);
say(JSON.stringify({ settings, different, problems: problems.length, home }));
process.exit(problems.length === 0 ? 0 : 1);
