// What is written in C, under AddressSanitizer and UndefinedBehaviorSanitizer: a compute without disks, with
// hardly any room so that pages come and go, and WAL redo for it. One report ends the process that made it.

import pg from "pg";
import { afterAll, beforeAll, expect, test } from "vitest";
import type { ComputeInfo } from "../../src/protocol/api-work.ts";
import { haltOn, removeServer, rowsOf, valueOf } from "../support/computes.ts";
import { type SanitizedPostgres, sanitizedPostgres } from "../support/sanitized-postgres.ts";
import { ServerUnderTest } from "../verify/server.ts";

let programs: SanitizedPostgres;
let server: ServerUnderTest;

beforeAll(async () => {
  programs = sanitizedPostgres();
  server = new ServerUnderTest(undefined, { PAGESERVER_PG_BIN: programs.binDir });
  await server.start();
});

afterAll(async () => {
  if (server !== undefined) await removeServer(server);
  // Of a process that ended by it the test heard no more than that.
  const reports = programs?.reports();
  programs?.remove();
  expect(reports).toBe("");
});

async function boot(more: { readonly read_only?: boolean } = {}): Promise<ComputeInfo> {
  const settings = {
    shared_buffers: "512kB",
    autovacuum: "off",
    "pageserver.page_store_size": "1MB",
  };
  const job = await server.done(
    await server.client.startCompute({ timeline: "main", settings, ...more }),
  );
  return job.result!.compute!;
}

const CREATED = [
  "CREATE EXTENSION amcheck",
  "CREATE TABLE t (id int PRIMARY KEY, n int, words text[], at point, pad text)",
  `INSERT INTO t SELECT g, g % 97, ARRAY['a' || g % 7, 'b' || g % 11], point(g % 100, g / 100),
    repeat('x', 80) FROM generate_series(1, 6000) g`,
  "CREATE INDEX ON t USING hash (n)",
  "CREATE INDEX ON t USING gin (words)",
  "CREATE INDEX ON t USING gist (at)",
  "CREATE INDEX ON t USING spgist (at)",
  "CREATE INDEX ON t USING brin (id)",
  "CREATE UNLOGGED TABLE u AS SELECT 1 AS a",
  "CREATE SEQUENCE s",
];

const CHANGED = [
  "BEGIN",
  "UPDATE t SET n = n + 1, pad = 'short' WHERE id % 2 = 0",
  "SAVEPOINT one",
  "DELETE FROM t WHERE id > 3000",
  "ROLLBACK TO one",
  "INSERT INTO t SELECT id + 10000, n, words, at, pad FROM t WHERE id % 3 = 0",
  "SELECT id FROM t WHERE id < 100 FOR UPDATE",
  "COMMIT",
  "DELETE FROM t WHERE id > 15000",
  "VACUUM t",
  "SET enable_seqscan = off",
  "SELECT count(pad) FROM t WHERE words @> ARRAY['a1'] AND n < 50",
  "SELECT count(*) FROM t WHERE at <@ box '(10,10),(20,20)'",
  "RESET enable_seqscan",
  "CREATE TEMP TABLE away AS SELECT * FROM t LIMIT 500",
  "SELECT nextval('s') FROM generate_series(1, 40)",
  "CREATE TABLE born_here AS SELECT * FROM t",
  "TRUNCATE born_here",
  "INSERT INTO u VALUES (2)",
  "SELECT pg_total_relation_size('t'), pg_database_size(current_database())",
  "CREATE DATABASE second",
  "DROP DATABASE second",
  "CHECKPOINT",
];

const WANTED = "SELECT count(*), sum(id), sum(n), sum(cardinality(words)) FROM t";

test("nothing is found while pages come and go", async () => {
  await server.client.createTimeline({ name: "main" });
  let compute = await boot();
  expect(programs.processesWith("compute.so")).toContain(compute.pid);
  for (const text of CREATED) await rowsOf(compute.uri, text);
  await haltOn(server, "main");

  compute = await boot();
  const client = new pg.Client(compute.uri);
  client.on("error", () => undefined); // its query says so, too
  await client.connect();
  try {
    for (const text of CHANGED) await client.query(text);
    // The page server goes while it is asked, and comes back.
    await server.kill();
    const waiting = client.query("SELECT sum(length(pad)) FROM t");
    await server.start();
    expect((await waiting).rows).toHaveLength(1);
    const stat = JSON.parse(await valueOf(compute.uri, "SHOW pageserver.stat")) as Record<
      string,
      number
    >;
    for (const counted of ["pages_read_remotely", "pages_left_store", "prefetched_pages_used"]) {
      expect(stat[counted], counted).toBeGreaterThan(0);
    }
  } finally {
    await client.end();
  }
  const wanted = await rowsOf(compute.uri, WANTED);
  await haltOn(server, "main");

  compute = await boot();
  expect(await rowsOf(compute.uri, WANTED)).toEqual(wanted);
  expect(await rowsOf(compute.uri, "SELECT * FROM verify_heapam('t')")).toEqual([]);
  expect(await rowsOf(compute.uri, "SELECT bt_index_check('t_pkey', true)")).toHaveLength(1);
  expect(programs.processesWith("walredo.so")).not.toEqual([]);
  const then = await boot({ read_only: true });
  expect(await rowsOf(then.uri, WANTED)).toEqual(wanted);
  await server.done(await server.client.stopCompute("main", then.start_lsn));
  await haltOn(server, "main");
  expect(programs.reports()).toBe("");
});
