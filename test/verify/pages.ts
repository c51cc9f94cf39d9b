// npm run verify:pages — a stock primary runs a workload that writes every kind of WAL record while
// the page server follows it. Then every page that the page server answers is compared with
// PostgreSQL's own: at the end with the primary's files, at random earlier moments with a stock
// server that was recovered to that LSN; and computes booted there dump the same data and pass
// amcheck and pg_visibility. One round with full page writes, one without. Last line: JSON.
//
//   --seed N   which moments are looked at (printed)      --rounds N   rounds of the workload

import fs from "node:fs";
import path from "node:path";
import { parseArgs } from "node:util";
import { Lsn } from "../../src/core/lsn.ts";
import { type TestPostgres, postgresTempDir, startPostgres } from "../support/postgres.ts";
import { type Comparison, compareCluster, noComparison } from "./compare.ts";
import { at, must, recover, run } from "./recover.ts";
import { ServerUnderTest } from "./server.ts";
import { phases, setup } from "./workload.ts";

const { values: options } = parseArgs({
  options: {
    seed: { type: "string", default: String(Date.now() % 1_000_000) },
    rounds: { type: "string", default: "2" },
    moments: { type: "string", default: "3" },
  },
});
const seed = Number(options.seed);
const say = (line: string): void => void process.stdout.write(`${line}\n`);

interface Moment {
  readonly lsn: Lsn;
  readonly after: string;
}

interface Verdict {
  readonly comparison: Comparison;
  readonly lsns: string[];
  readonly problems: string[];
}

/** A small generator (mulberry32): the moments of a seed are the same everywhere. */
function randomFrom(start: number): () => number {
  let a = start;
  return () => {
    a = (a + 0x6d2b79f5) | 0;
    let t = Math.imul(a ^ (a >>> 15), 1 | a);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4_294_967_296;
  };
}

function sql(port: number, db: string, text: string): string {
  return must("psql", [...at(port), "-d", db, "-v", "ON_ERROR_STOP=1", "-XAtq", "-f", "-"], text);
}

async function workload(primary: TestPostgres): Promise<readonly Moment[]> {
  const moments: Moment[] = [];
  for (let round = 0; round < Number(options.rounds); round++) {
    for (const phase of phases(round)) {
      sql(primary.port, phase.db, phase.sql);
      const lsn = Lsn.parse((await primary.sql("SELECT pg_current_wal_insert_lsn()")).trim());
      moments.push({ lsn, after: `round ${round}: ${phase.name}` });
    }
  }
  return moments;
}

const portOf = (dir: string): number =>
  Number(fs.readFileSync(path.join(dir, "postmaster.pid"), "utf8").split("\n")[3]);

function databases(port: number): readonly string[] {
  const list = "SELECT datname FROM pg_database WHERE datallowconn ORDER BY 1";
  return sql(port, "postgres", list).trim().split("\n");
}

const dumpAll = (port: number): string =>
  databases(port)
    .map(
      (db) => `-- ${db}\n${must("pg_dump", [...at(port), "-d", db, "--restrict-key", "verify"])}`,
    )
    .join("\n");

/** amcheck and pg_visibility; sentences about what they found. */
function checkCluster(port: number): readonly string[] {
  const problems: string[] = [];
  const amcheck = run("pg_amcheck", [...at(port), "-d", "postgres", "--heapallindexed"]);
  if (amcheck.status !== 0) problems.push(`pg_amcheck: ${amcheck.stdout}${amcheck.stderr}`);
  for (const check of ["pg_check_visible", "pg_check_frozen"]) {
    const text = `SELECT c.oid::regclass, count(*) FROM pg_class c, LATERAL ${check}(c.oid) t
      WHERE c.relkind IN ('r', 'm', 't') AND c.relpersistence = 'p' GROUP BY 1`;
    const found = sql(port, "postgres", text).trim();
    if (found !== "") problems.push(`${check}: ${found}`);
  }
  return problems;
}

async function verifyMoment(
  server: ServerUnderTest,
  moment: Moment,
  dirs: { readonly base: string; readonly archive: string; readonly home: string },
  verdict: Verdict,
): Promise<void> {
  say(`  at ${Lsn.format(moment.lsn)} (${moment.after})`);
  const recovered = await recover(dirs.base, dirs.archive, moment.lsn, dirs.home);
  const prod = await server.client.timeline("prod");
  const served = {
    port: server.port,
    tenant: prod.tenant_id,
    timeline: prod.timeline_id,
  };
  await compareCluster(recovered, served, moment.lsn, verdict.comparison);
  verdict.lsns.push(Lsn.format(moment.lsn));

  const name = `at_${moment.lsn}`;
  const lsn = Lsn.format(moment.lsn);
  await server.client.createTimeline({ name, ancestor_name: "prod", ancestor_start_lsn: lsn });
  const job = await server.done(await server.client.startCompute({ timeline: name }));
  const port = job.result!.compute!.port;
  must("pg_ctl", [
    "start",
    "-D",
    recovered,
    "-l",
    path.join(dirs.home, "recovered.log"),
    "-w",
    "-s",
  ]);
  try {
    const recoveredPort = portOf(recovered);
    const wanted = dumpAll(recoveredPort);
    const got = dumpAll(port);
    if (wanted !== got) {
      const lines = wanted.split("\n");
      const line = got.split("\n").findIndex((text, i) => text !== lines[i]);
      verdict.problems.push(`pg_dump at ${lsn} differs from line ${line + 1}: ${lines[line]}`);
    }
    for (const problem of checkCluster(port)) verdict.problems.push(`at ${lsn}: ${problem}`);
  } finally {
    must("pg_ctl", ["stop", "-D", recovered, "-m", "immediate", "-w", "-s"]);
    // The dumps held this process up: a connection that the server closed meanwhile is noticed first.
    await new Promise((resolve) => setTimeout(resolve, 200));
    await server.done(await server.client.stopCompute(name));
  }
}

async function round(fullPageWrites: "on" | "off", random: () => number): Promise<Verdict> {
  say(`full_page_writes ${fullPageWrites}`);
  const home = postgresTempDir("verify-pages-");
  const server = new ServerUnderTest();
  const primary = await startPostgres({
    wal: "logical",
    settings: {
      full_page_writes: fullPageWrites,
      max_prepared_transactions: "20",
      wal_keep_size: "16GB",
      shared_buffers: "16MB",
      autovacuum_naptime: "1s",
      checkpoint_timeout: "30s",
    },
  });
  const verdict: Verdict = { comparison: noComparison(), lsns: [], problems: [] };
  try {
    await server.start();
    sql(primary.port, "postgres", setup().sql);
    const base = path.join(home, "base");
    must("pg_basebackup", [...at(primary.port), "-D", base, "-X", "none", "-c", "fast"]);
    const uri = `postgresql://postgres@127.0.0.1:${primary.port}/postgres`;
    await server.done(await server.client.follow({ conninfo: uri, name: "prod" }));
    say("  following");
    const moments = await workload(primary);
    const copies = "SELECT oid FROM pg_database WHERE datname LIKE 'wal%'";
    const loggedCopies = new Set((await primary.sql(copies)).trim().split("\n").map(Number));
    await primary.stop("fast");
    const control = must("pg_controldata", [primary.dataDir]);
    const last = Lsn.parse(/Latest checkpoint location: +(\S+)/.exec(control)![1]!);
    const prod = await server.reached("prod", (t) => Lsn.parse(t.positions.durable) > last);
    say(`  workload done, at ${prod.positions.durable}`);
    const end = Lsn.parse(prod.positions.visible);
    const served = {
      port: server.port,
      tenant: prod.tenant_id,
      timeline: prod.timeline_id,
      loggedCopies,
    };
    await compareCluster(primary.dataDir, served, end, verdict.comparison);
    verdict.lsns.push(prod.positions.visible);
    say(`  at the end: ${summary(verdict.comparison)}`);
    for (const example of verdict.comparison.examples) say(`    ${example}`);
    const archive = path.join(primary.dataDir, "pg_wal");
    for (let i = 0; i < Number(options.moments); i++) {
      const moment = moments[Math.floor(random() * moments.length)]!;
      await verifyMoment(server, moment, { base, archive, home }, verdict);
    }
    const check = await server.client.check();
    verdict.problems.push(...check.problems);
    say(`  ${summary(verdict.comparison)}, check: ${check.problems.length} problems`);
    return verdict;
  } finally {
    for (const compute of await server.client.computes().catch(() => [])) {
      if (compute.state === "running") await server.client.stopCompute(compute.timeline);
    }
    await server.cleanup();
    await primary.cleanup();
    fs.rmSync(home, { recursive: true, force: true });
  }
}

const summary = (c: Comparison): string =>
  `${c.compared} compared, ${c.equal} equal, ${c.maskedEqual} equal under masks, ${c.different} different`;

say(`verify:pages, seed ${seed}`);
const random = randomFrom(seed);
const verdicts = [await round("on", random), await round("off", random)];
const total = (pick: (c: Comparison) => number): number =>
  verdicts.reduce((sum, { comparison }) => sum + pick(comparison), 0);
const problems = verdicts.flatMap((v) => [...v.problems, ...v.comparison.examples]);
for (const problem of problems) say(`PROBLEM ${problem}`);
const result = {
  seed,
  blocks_compared: total((c) => c.compared),
  equal: total((c) => c.equal),
  masked_equal: total((c) => c.maskedEqual),
  vm_bits_not_logged: total((c) => c.vmNotLogged),
  different: total((c) => c.different),
  lsns: verdicts.flatMap((v) => v.lsns),
  problems: problems.length,
};
say(JSON.stringify(result));
process.exit(
  result.different === 0 && problems.length === 0 && result.blocks_compared >= 20_000 ? 0 : 1,
);
