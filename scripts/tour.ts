// The tour of `npm start -- --once`: an accident on main, a branch from the moment before it, and
// proof that both are what they must be. Throws if they are not.

import { setTimeout as sleep } from "node:timers/promises";
import pg from "pg";
import type { Client } from "../src/http/client.ts";
import { Lsn } from "../src/core/lsn.ts";
import type { ComputeInfo, Job } from "../src/protocol/api-work.ts";
import { freePort } from "./ports.ts";

/** WAL of a commit that PostgreSQL has flushed is visible within milliseconds; ms. */
const VISIBLE_MS_MAX = 30_000;

interface Tools {
  readonly startCompute: (client: Client, timeline: string, port: number) => Promise<ComputeInfo>;
  readonly runJob: (client: Client, job: Job) => Promise<Job>;
  readonly say: (line: string) => void;
}

export async function tour(client: Client, main: ComputeInfo, tools: Tools): Promise<void> {
  const { say } = tools;
  const table = "pageserver_tour";
  const rows = `select id, note from ${table} order by id`;

  say("on main: 1000 rows, then an accident");
  const before = await withSql(main.uri, async (sql) => {
    await sql.query(`drop table if exists ${table}`);
    await sql.query(`create table ${table} (id int primary key, note text)`);
    await sql.query(`insert into ${table} select i, 'row ' || i from generate_series(1, 1000) i`);
    const lsn = await sql.query<{ lsn: string }>("select pg_current_wal_flush_lsn() as lsn");
    await sql.query(`delete from ${table} where id > 10`);
    await sql.query(`update ${table} set note = 'after the accident'`);
    return lsn.rows[0]!.lsn;
  });
  say(`  the moment before it: ${before}`);

  await untilVisible(client, main.timeline, before);
  const name = `tour-${Date.now().toString(36)}`;
  const branch = await client.createTimeline({
    name,
    ancestor_name: main.timeline,
    ancestor_start_lsn: before,
  });
  say(
    `branch "${name}" at ${branch.ancestor_lsn ?? before}: ${branch.server_ms.toFixed(1)} ms of server time`,
  );

  const compute = await tools.startCompute(client, name, await freePort(main.port + 1));
  try {
    await withSql(compute.uri, async (sql) => {
      await sql.query(`insert into ${table} values (5000, 'only here')`);
    });
    const here = await query(compute.uri, rows);
    const there = await query(main.uri, rows);
    expectRows("the branch", here, 1001, "row 1");
    expectRows("main", there, 10, "after the accident");
    say(`  main:   ${there.length} rows, row 1 says "${there[0]!.note}"`);
    say(
      `  branch: ${here.length} rows, row 1 says "${here[0]!.note}", one row written on it alone`,
    );
  } finally {
    say(`stopping PostgreSQL on "${name}"`);
    await tools.runJob(client, await client.stopCompute(name));
  }
}

interface Row {
  readonly id: number;
  readonly note: string;
}

function expectRows(who: string, rows: readonly Row[], count: number, first: string): void {
  if (rows.length === count && rows[0]!.note === first) return;
  throw new Error(
    `${who} has ${rows.length} rows and row 1 says ${JSON.stringify(rows[0]?.note)}; ` +
      `it must have ${count} and say "${first}"`,
  );
}

async function untilVisible(client: Client, timeline: string, lsn: string): Promise<void> {
  const deadline = performance.now() + VISIBLE_MS_MAX;
  for (;;) {
    const { positions } = await client.timeline(timeline);
    if (Lsn.parse(positions.visible) >= Lsn.parse(lsn)) return;
    if (performance.now() > deadline) {
      throw new Error(`"${timeline}" is visible up to ${positions.visible} only, not ${lsn}`);
    }
    await sleep(20);
  }
}

const query = (uri: string, text: string): Promise<readonly Row[]> =>
  withSql(uri, async (sql) => (await sql.query<{ id: number; note: string }>(text)).rows);

async function withSql<T>(uri: string, work: (sql: pg.Client) => Promise<T>): Promise<T> {
  const sql = new pg.Client({ connectionString: uri });
  await sql.connect();
  try {
    return await work(sql);
  } finally {
    await sql.end();
  }
}
