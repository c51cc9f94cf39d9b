// npm run verify:compute — PostgreSQL's core regression suite on a compute without disks, compared
// test by test with the same suite on a stock server that has a full copy. Afterwards the compute's
// data passes amcheck and pg_visibility; then it is stopped and booted anew from its history alone,
// which must hold the same data and pass the same checks. Last line: JSON.
//
//   --set name=value   a PostgreSQL setting of both servers (repeatable)
//   --source DIR       unpacked sources of PostgreSQL 15; without, apt-get source is asked
//   --connections N    tests that run at a time; with 128kB of buffers no more than one finds enough
//   --keep             leave the suites' outputs

import { spawnSync } from "node:child_process";
import fs from "node:fs";
import path from "node:path";
import { parseArgs } from "node:util";
import { removeServer } from "../support/computes.ts";
import { PG_BIN, postgresIdentity, postgresTempDir } from "../support/postgres.ts";
import { differences, prepareSuite, runSuite } from "./regress.ts";
import { ServerUnderTest } from "./server.ts";

const { values: options } = parseArgs({
  options: {
    set: { type: "string", multiple: true, default: [] },
    source: { type: "string" },
    connections: { type: "string", default: "20" },
    keep: { type: "boolean", default: false },
  },
});
const settings = Object.fromEntries(
  options.set.map((text) => [text.slice(0, text.indexOf("=")), text.slice(text.indexOf("=") + 1)]),
);
/** pg_regress creates it. */
const DATABASE = "regression";
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
 * What a compute booted anew must have. Not the contents of unlogged tables, nor how far sequences
 * are: their WAL is up to 32 values ahead, which shows after any start from WAL.
 */
const dump = (port: number): string =>
  run("pg_dump", [
    ...[...at(port), "-d", DATABASE, "--restrict-key", "verify", "--no-unlogged-table-data"],
  ]).replaceAll(/^SELECT pg_catalog\.setval\(.*$/gm, "");

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

/** Boots a compute; gives its port. */
async function boot(server: ServerUnderTest, timeline: string, diskless: boolean): Promise<number> {
  const begun = performance.now();
  const job = await server.done(await server.client.startCompute({ timeline, diskless, settings }));
  const compute = job.result?.compute;
  if (compute === undefined) throw new Error("the job says nothing of its compute");
  const steps = job.steps.map(({ name, ms }) => `${name} ${Math.round(ms)} ms`).join(", ");
  say(`${timeline}: booted in ${Math.round(performance.now() - begun)} ms (${steps})`);
  return compute.port;
}

async function verify(server: ServerUnderTest, home: string): Promise<readonly string[]> {
  const suite = await prepareSuite(home, options.source);
  await server.start();
  await server.client.createTimeline({ name: "plain" });
  await server.reached("plain", ({ state }) => state === "Active");
  await server.client.createTimeline({ name: "diskless", ancestor_name: "plain" });
  const connections = Number(options.connections);
  const copied = await boot(server, "plain", false);
  const plain = await runSuite(suite, copied, path.join(home, "plain"), connections);
  await server.done(await server.client.stopCompute("plain"));
  say(`plain: ${plain.size} tests`);

  const port = await boot(server, "diskless", true);
  const got = await runSuite(suite, port, path.join(home, "diskless"), connections);
  const different = differences(plain, got);
  say(`diskless: ${got.size} tests, ${different.length} differ: ${different.join(" ")}`);
  if (plain.size < 200) problems.push(`only ${plain.size} tests ran`);
  for (const name of different) problems.push(`${name} differs`);
  checkData(port, "after the suite");
  const before = dump(port);
  await server.done(await server.client.stopCompute("diskless"));

  const again = await boot(server, "diskless", true);
  attempt("pg_dump of a compute booted anew", () => {
    const after = dump(again).split("\n");
    const line = before.split("\n").findIndex((text, i) => text !== after[i]);
    if (line >= 0) throw new Error(`line ${line + 1}: ${after[line]}`);
  });
  checkData(again, "booted anew");
  await server.done(await server.client.stopCompute("diskless"));
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
} finally {
  await removeServer(server);
  if (!options.keep) fs.rmSync(home, { recursive: true, force: true });
}
for (const problem of problems) say(`PROBLEM ${problem}`);
say(JSON.stringify({ settings, different, problems: problems.length, home }));
process.exit(problems.length === 0 ? 0 : 1);
