// Computes without disks: stock PostgreSQL that reads its pages from the page server. Small buffers
// make it evict and read again all the time; what it then must not lose is checked with SQL.

import fs from "node:fs";
import path from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import pg from "pg";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { ComputeInfo } from "../../src/protocol/api-work.ts";
import { haltOn, removeServer, rowsOf, valueOf } from "../support/computes.ts";
import { runPg } from "../support/postgres.ts";
import { until } from "../support/replication.ts";
import { ServerUnderTest } from "../verify/server.ts";

const TINY = { shared_buffers: "128kB", autovacuum: "off" };
const server = new ServerUnderTest();

async function boot(
  timeline: string,
  settings: Readonly<Record<string, string>> = TINY,
): Promise<ComputeInfo> {
  const request = { timeline, settings };
  const job = await server.done(await server.client.startCompute(request));
  return job.result!.compute!;
}

const branch = (name: string) => server.client.createTimeline({ name, ancestor_name: "main" });
const logOf = (compute: ComputeInfo): string => fs.readFileSync(compute.log, "utf8");
const count = (text: string, part: string): number => text.split(part).length - 1;

/** Bytes of relation files, of all databases. */
function relationBytes({ dir }: ComputeInfo): number {
  const base = path.join(dir, "base");
  return fs
    .readdirSync(base, { recursive: true, encoding: "utf8" })
    .filter((name) => /\/\d+(_[a-z]+)?(\.\d+)?$/.test(name))
    .reduce((sum, name) => sum + fs.statSync(path.join(base, name)).size, 0);
}

beforeAll(async () => {
  await server.start();
  await server.client.createTimeline({ name: "main" });
  const main = await boot("main");
  await rowsOf(main.uri, "CREATE TABLE t (id int PRIMARY KEY, n int, pad text)");
  await rowsOf(
    main.uri,
    "INSERT INTO t SELECT g, 0, repeat('x', 100) FROM generate_series(1, 20000) g",
  );
  await rowsOf(main.uri, "CREATE INDEX ON t (n, id)");
  await rowsOf(main.uri, "CREATE UNLOGGED TABLE u AS SELECT 1 AS a");
  await rowsOf(main.uri, "VACUUM t");
  await haltOn(server, "main");
});

afterAll(() => removeServer(server));

describe("a compute without disks", () => {
  test("has no relation files, and all data", async () => {
    await branch("reader");
    const { uri, ...compute } = await boot("reader");
    expect(relationBytes({ uri, ...compute })).toBeLessThan(1_000_000);
    expect(await rowsOf(uri, "SELECT count(*), sum(id), sum(length(pad)) FROM t")).toEqual([
      ["20000", "200010000", "2000000"],
    ]);
    expect(await valueOf(uri, "SELECT count(*) FROM u")).toBe("0");
    expect(await valueOf(uri, "SELECT id FROM t WHERE id = 12345")).toBe("12345");
    await haltOn(server, "reader");
  });

  test("keeps what it changed, whatever is evicted", async () => {
    await branch("writer");
    let { uri } = await boot("writer");
    await rowsOf(uri, "UPDATE t SET n = id % 10 WHERE id % 3 = 0");
    // A statement must not see its own rows, even if their pages come back from somewhere.
    await rowsOf(uri, "INSERT INTO t SELECT id + 100000, n, pad FROM t");
    await rowsOf(uri, "DELETE FROM t WHERE id > 110000");
    const wanted = await rowsOf(uri, "SELECT count(*), sum(id), sum(n) FROM t");
    expect(wanted[0]![0]).toBe("30000");
    await rowsOf(uri, "CREATE EXTENSION amcheck");
    await rowsOf(uri, "VACUUM t");
    const checks =
      "SELECT bt_index_check(indexrelid, true) FROM pg_index WHERE indrelid = 't'::regclass";
    expect(await rowsOf(uri, checks)).toHaveLength(2);
    expect(await rowsOf(uri, "SELECT * FROM verify_heapam('t')")).toEqual([]);
    await haltOn(server, "writer");

    ({ uri } = await boot("writer"));
    expect(await rowsOf(uri, "SELECT count(*), sum(id), sum(n) FROM t")).toEqual(wanted);
    expect(await rowsOf(uri, checks)).toHaveLength(2);
    expect(await rowsOf(uri, "SELECT * FROM verify_heapam('t')")).toEqual([]);
    await haltOn(server, "writer");
  });

  test("a relation that shrank and grew again shows nothing of before", async () => {
    await branch("shrinker");
    const { uri } = await boot("shrinker");
    await rowsOf(uri, "DELETE FROM t WHERE id > 1000");
    await rowsOf(uri, "VACUUM t");
    await rowsOf(uri, "INSERT INTO t SELECT g, 7, 'new' FROM generate_series(30000, 50000) g");
    expect(await rowsOf(uri, "SELECT count(*), sum(n) FROM t")).toEqual([["21001", "140007"]]);
    await rowsOf(uri, "CREATE EXTENSION amcheck");
    expect(await rowsOf(uri, "SELECT * FROM verify_heapam('t')")).toEqual([]);
    await rowsOf(uri, "VACUUM t");
    const size =
      "SELECT pg_relation_size('t') / 8192 = relpages FROM pg_class WHERE oid = 't'::regclass";
    expect(await valueOf(uri, size)).toBe("true");
    await haltOn(server, "shrinker");
  });

  test("new databases, temporary and unlogged tables; copies of files are refused", async () => {
    await branch("creator");
    const { uri } = await boot("creator");
    await rowsOf(uri, "CREATE DATABASE second TEMPLATE postgres");
    const second = uri.replace(/postgres$/, "second");
    expect(await valueOf(second, "SELECT count(*) FROM t")).toBe("20000");
    await rowsOf(second, "INSERT INTO u SELECT generate_series(1, 1000)");
    expect(await valueOf(second, "SELECT count(*) FROM u")).toBe("1000");
    await expect(rowsOf(uri, "CREATE DATABASE third STRATEGY file_copy")).rejects.toThrow(
      "not possible on a compute without disks",
    );
    await expect(rowsOf(uri, "CREATE TABLESPACE far LOCATION '/tmp'")).rejects.toThrow(
      "tablespaces are not possible",
    );
    await rowsOf(uri, "DROP DATABASE second");
    await haltOn(server, "creator");
  });

  test("sizes are those of the pages, wherever they are", async () => {
    await branch("measured");
    const { uri, port } = await boot("measured");
    const sizes = await rowsOf(
      uri,
      `SELECT pg_relation_size('t') = relpages * 8192, pg_relation_size('t', 'vm') > 0,
        pg_table_size('t') > pg_relation_size('t'), pg_indexes_size('t') > 400000,
        pg_total_relation_size('t') = pg_table_size('t') + pg_indexes_size('t'),
        pg_database_size(current_database()) > pg_total_relation_size('t'),
        pg_relation_size('pg_stat_activity'), pg_relation_size(1)
        FROM pg_class WHERE oid = 't'::regclass`,
    );
    expect(sizes).toEqual([["true", "true", "true", "true", "true", "true", "0", "null"]]);
    await rowsOf(uri, "CREATE TABLE born_here AS SELECT FROM t");
    expect(await valueOf(uri, "SELECT pg_relation_size('born_here') > 400000")).toBe("true");
    const where = ["-h", "127.0.0.1", "-p", `${port}`, "-U", "postgres", "-D", "/tmp/nowhere"];
    await expect(runPg("pg_basebackup", where)).rejects.toThrow("no files to back up");
    await haltOn(server, "measured");
  });

  test("a store without room lets pages go that replay gives back, and logs the others", async () => {
    await branch("full");
    const { uri } = await boot("full", { ...TINY, "pageserver.page_store_size": "1MB" });
    const client = new pg.Client(uri);
    await client.connect();
    try {
      // Its own rows come back from the page server in midst of the statement, command ids included.
      await client.query("BEGIN");
      await client.query("UPDATE t SET n = id % 7");
      await client.query("INSERT INTO t SELECT id + 100000, n, pad FROM t");
      const seen = await client.query("SELECT count(*)::int, sum(n)::int AS n FROM t");
      expect(seen.rows).toEqual([{ count: 40_000, n: 119_996 }]);
      await client.query("COMMIT");
    } finally {
      await client.end();
    }
    await rowsOf(uri, "DELETE FROM t WHERE id > 100000");
    await rowsOf(uri, "VACUUM t");
    await rowsOf(uri, "CREATE EXTENSION amcheck");
    expect(await rowsOf(uri, "SELECT * FROM verify_heapam('t')")).toEqual([]);
    expect(await rowsOf(uri, "SELECT bt_index_check('t_pkey', true)")).toHaveLength(1);
    const stat = JSON.parse(await valueOf(uri, "SHOW pageserver.stat")) as Record<string, number>;
    expect(stat["pages_logged_for_room"]).toBeGreaterThan(0);
    expect(stat["store_bytes"]).toBeLessThanOrEqual(2 << 20);
    await haltOn(server, "full");
  });
});

describe("what is asked of the page server", () => {
  test("is asked ahead for sequential readers and bitmap scans, and counted", async () => {
    await branch("ahead");
    const { uri } = await boot("ahead");
    const stat = async (): Promise<Record<string, number>> =>
      JSON.parse(await valueOf(uri, "SHOW pageserver.stat")) as Record<string, number>;
    const pages = Number(await valueOf(uri, "SELECT relpages FROM pg_class WHERE relname = 't'"));
    const before = await stat();
    await rowsOf(uri, "SELECT count(*) FROM t WHERE pad > ''");
    const scanned = await stat();
    expect(scanned["prefetched_pages_used"]! - before["prefetched_pages_used"]!).toBeGreaterThan(
      pages * 0.8,
    );
    // Read again, they come from the store.
    await rowsOf(uri, "SELECT count(*) FROM t WHERE pad > ''");
    const again = await stat();
    expect(again["pages_read_from_store"]! - scanned["pages_read_from_store"]!).toBeGreaterThan(
      pages * 0.8,
    );
    await haltOn(server, "ahead");

    const anew = await boot("ahead", { ...TINY, "pageserver.read_ahead": "0" });
    const client = new pg.Client(anew.uri);
    await client.connect();
    try {
      await client.query("SET enable_seqscan = off; SET enable_indexscan = off");
      await client.query("SELECT count(pad) FROM t WHERE id BETWEEN 1000 AND 15000");
      const { rows } = await client.query<{ "pageserver.stat": string }>("SHOW pageserver.stat");
      const used = JSON.parse(rows[0]!["pageserver.stat"]) as Record<string, number>;
      expect(used["prefetched_pages_used"]).toBeGreaterThan(pages * 0.5);
      const views = path.resolve("pgext/compute/pageserver_stat.sql");
      await client.query(fs.readFileSync(views, "utf8"));
      const reads = await client.query("SELECT * FROM pageserver_stat.reads");
      expect(Number((reads.rows[0] as Record<string, string>)["read_remotely"])).toBeGreaterThan(0);
      const kept = await client.query("SELECT reason FROM pageserver_stat.kept ORDER BY 1");
      expect(kept.rows.map((row: { reason: string }) => row.reason)).toEqual([
        "lag",
        "maps",
        "not_logged",
        "sequences",
        "transactions",
        "vacuum_cycles",
      ]);
    } finally {
      await client.end();
    }
    await haltOn(server, "ahead");
  });

  test("a clean stop saves free space maps and statistics for the next compute", async () => {
    await branch("saved");
    let { uri } = await boot("saved");
    await rowsOf(uri, "CREATE TABLE born AS SELECT * FROM t");
    for (const table of ["t", "born"]) {
      await rowsOf(uri, `DELETE FROM ${table} WHERE id % 2 = 0`);
      await rowsOf(uri, `VACUUM ${table}`);
    }
    const size = "SELECT pg_relation_size('t') || ' ' || pg_relation_size('born')";
    const before = await valueOf(uri, size);
    const vacuums =
      "SELECT sum(vacuum_count) FROM pg_stat_user_tables WHERE relname IN ('t', 'born')";
    expect(await valueOf(uri, vacuums)).not.toBe("0");
    const counted = await valueOf(uri, vacuums);
    await haltOn(server, "saved");

    ({ uri } = await boot("saved"));
    expect(await valueOf(uri, vacuums)).toBe(counted);
    for (const table of ["t", "born"]) {
      await rowsOf(
        uri,
        `INSERT INTO ${table} SELECT g, 0, repeat('y', 100) FROM generate_series(100001, 105000) g`,
      );
    }
    // The room that VACUUM found is used: the tables have not grown.
    expect(await valueOf(uri, size)).toBe(before);
    await haltOn(server, "saved");
  });
});

describe("what goes wrong", () => {
  test("a page server that is away is waited for; a wait can be cancelled", async () => {
    await branch("waiter");
    const compute = await boot("waiter");
    expect(await valueOf(compute.uri, "SELECT count(*) FROM t")).toBe("20000");
    // A new connection would need pages before there is a statement to cancel.
    const client = new pg.Client(compute.uri);
    await client.connect();
    try {
      await server.kill();
      await client.query("SET statement_timeout = 300");
      const began = performance.now();
      await expect(client.query("SELECT count(*) FROM t WHERE pad > ''")).rejects.toThrow(
        "canceling statement due to statement timeout",
      );
      expect(performance.now() - began).toBeLessThan(20_000);
      await client.query("SET statement_timeout = 0");
      const waiting = client.query<{ count: string }>("SELECT count(*) FROM t WHERE pad > ''");
      await sleep(500);
      await server.start();
      expect((await waiting).rows).toEqual([{ count: "20000" }]);
    } finally {
      await client.end();
    }
    const log = logOf(compute);
    // Once for the query that was cancelled, once for the one that went on.
    expect(count(log, "waiting for the page server: ")).toBe(2);
    expect(count(log, "the page server answers again")).toBe(1);
    await haltOn(server, "waiter");
  });

  test("writers wait for a page server that is too far behind, in the midst of a transaction", async () => {
    await branch("bulk");
    const compute = await boot("bulk", { ...TINY, "pageserver.max_lag": "4MB" });
    const client = new pg.Client(compute.uri);
    await client.connect();
    try {
      const load = (rows: number) =>
        client.query(`INSERT INTO bulk SELECT repeat('x', 1000) FROM generate_series(1, ${rows})`);
      await client.query("CREATE TABLE bulk (pad text)");
      // So that what it needs of the catalogs is here.
      await load(1);
      await server.kill();
      const loading = load(20_000);
      loading.catch(() => undefined); // awaited below, unless this fails before
      await until("it waits", () => logOf(compute).includes("a writer waits: "), 60_000);
      expect(logOf(compute)).toContain("pageserver.max_lag is how far it may be behind");
      await server.start();
      await loading;
      const views = path.resolve("pgext/compute/pageserver_stat.sql");
      await client.query(fs.readFileSync(views, "utf8"));
      const { rows } = await client.query<Record<string, string>>(
        "SELECT * FROM pageserver_stat.lag",
      );
      expect(rows[0]!["bytes_max"]).toBe(`${4 << 20}`);
      expect(Number(rows[0]!["writers_waited_ms"])).toBeGreaterThan(0);
    } finally {
      await client.end();
    }
    await haltOn(server, "bulk");
  });

  test("settings that would lose pages, and a second start, are refused", async () => {
    await branch("refused");
    await expect(boot("refused", { wal_log_hints: "off" })).rejects.toThrow(
      "Set wal_log_hints to on",
    );
    const compute = await boot("refused");
    await runPg("pg_ctl", ["stop", "-D", compute.dir, "-m", "fast", "-w", "-s"]);
    await expect(
      runPg("pg_ctl", ["start", "-D", compute.dir, "-l", compute.log, "-w", "-s"]),
    ).rejects.toThrow();
    expect(logOf(compute)).toContain("its directory has been started before");
  });
});
