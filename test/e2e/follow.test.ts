// A stock primary is followed: every page that it writes is served as it stands in its files, also
// after either side was restarted, after redo processes were shot and WAL connections cut.

import { afterAll, beforeAll, expect, test } from "vitest";
import { Lsn } from "../../src/core/lsn.ts";
import type { PageDump } from "../../src/protocol/api.ts";
import { removeServer } from "../support/computes.ts";
import { type TestPostgres, startPostgres } from "../support/postgres.ts";
import { redoProcessesOf } from "../support/processes.ts";
import { shutdownEnd } from "../support/shutdown-end.ts";
import { type Comparison, compareCluster, noComparison } from "../verify/compare.ts";
import { PageReaderLoad, Pgbench, relationOf } from "../verify/load.ts";
import { Random } from "../verify/random.ts";
import { ServerUnderTest } from "../verify/server.ts";
import { phases, setup } from "../verify/workload.ts";

let primary: TestPostgres;
const server = new ServerUnderTest();

beforeAll(async () => {
  primary = await startPostgres({
    wal: "logical",
    settings: { max_prepared_transactions: "20", checkpoint_timeout: "30s" },
  });
  await Promise.all([server.start(), primary.sql(setup().sql)]);
  await server.done(await server.client.follow({ conninfo: primary.uri, name: "prod" }));
});

afterAll(async () => {
  await removeServer(server);
  await primary.cleanup();
});

/** Waits until the page server has all that the primary has on disk. */
async function caughtUp(): Promise<Lsn> {
  const end = Lsn.parse(await primary.sql("SELECT pg_current_wal_flush_lsn()"));
  await server.reached("prod", ({ positions }) => Lsn.parse(positions.durable) >= end);
  return end;
}

async function served() {
  const info = await server.client.timeline("prod");
  return { port: server.port, tenant: info.tenant_id, timeline: info.timeline_id };
}

/** Runs a statement; the first page of after_stop as it is then. */
async function changeOf(text: string): Promise<PageDump> {
  await primary.sql(text);
  const end = await caughtUp();
  const { rel } = await relationOf((query) => primary.sql(query), "after_stop");
  const target = { rel: `${rel.spc}/${rel.db}/${rel.rel}`, block: 0 };
  return server.client.page("prod", target, Lsn.format(end));
}

/** Stops the primary and compares all its files with what is served at its end. */
async function compareStopped(): Promise<Comparison> {
  const copies = await primary.sql("SELECT oid FROM pg_database WHERE datname LIKE 'wal%'");
  const loggedCopies = new Set(copies.split("\n").filter(Boolean).map(Number));
  await primary.stop();
  const end = await shutdownEnd(primary.dataDir);
  await server.reached("prod", ({ positions }) => Lsn.parse(positions.durable) >= end);
  const sum = noComparison();
  await compareCluster(primary.dataDir, { ...(await served()), loggedCopies }, end, sum);
  return sum;
}

test("every page of a busy primary is served as it stands in its files", async () => {
  for (const phase of phases(0)) await primary.sql(phase.sql, phase.db);
  const sum = await compareStopped();
  expect(sum.examples).toEqual([]);
  expect(sum.different).toBe(0);
  expect(sum.compared).toBeGreaterThan(5_000);
});

test("a primary that was stopped, and one that crashed, is followed again", async () => {
  await primary.start();
  await primary.sql("CREATE TABLE after_stop AS SELECT 1 AS n");
  await caughtUp();
  await primary.kill();
  await primary.start();
  await primary.sql("INSERT INTO after_stop VALUES (2)");
  await caughtUp();
  const { source } = await server.client.timeline("prod");
  expect(source.connection).toBe("streaming");
  expect(source.reconnects).toBeGreaterThanOrEqual(2);
});

test("a page server that was stopped goes on where it was", async () => {
  const before = await caughtUp();
  await server.stop();
  await primary.sql("INSERT INTO after_stop VALUES (3)");
  await server.start();
  expect(await caughtUp()).toBeGreaterThan(before);
  const page = await changeOf("DELETE FROM after_stop WHERE n = 2");
  expect(page.header?.items).toBe(3);
});

test("what is in memory is sealed on demand, and read from there", async () => {
  const before = await changeOf("UPDATE after_stop SET n = n + 10 WHERE n = 1");
  expect(before.versions[0]!.layer).toBe("open");
  await server.client.checkpoint("prod");
  const { rel, block, lsn } = before;
  const after = await server.client.page("prod", { rel: rel!, block }, lsn);
  expect(after.versions.filter(({ layer }) => !layer.endsWith(".layer"))).toEqual([]);
  expect(after.page_base64).toBe(before.page_base64);
  expect((await server.client.check()).problems).toEqual([]);
});

test("redo processes are shot and WAL connections cut: no read fails, nothing is lost", async () => {
  await primary.pgbench(["-i", "-q", "-s", "1"]);
  // Blocks that have not come yet are read as zeros.
  await caughtUp();
  const bench = new Pgbench(primary.port, 2, 200);
  const { rel, blocks } = await relationOf((text) => primary.sql(text), "pgbench_accounts");
  const reader = new PageReaderLoad(await served(), rel, blocks, new Random(1));
  try {
    const { pid } = await server.client.status();
    const shot = new Set<number>();
    for (let i = 0; i < 3; i++) {
      const victim = redoProcessesOf(pid).find((process) => !shot.has(process));
      expect(victim).toBeDefined();
      shot.add(victim!);
      process.kill(victim!, "SIGKILL");
      const cut = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_replication";
      expect(await primary.sql(cut)).toBe("1");
      await server.reached("prod", ({ source }) => source.connection === "streaming");
      await caughtUp();
      await new Promise((resolve) => setTimeout(resolve, 300));
    }
    bench.assertRuns();
  } finally {
    bench.abandon();
    await reader.stop();
  }
  expect(reader.errors).toEqual([]);
  expect(reader.read).toBeGreaterThan(100);
  const { tree, redo } = await server.client.status();
  expect(redo.pages).toBeGreaterThan(100);
  expect(redo.failures).toBe(0);
  expect(tree.filter((node) => node.state !== "running")).toEqual([]);
});

test("after all that every page is served as it stands in the files", async () => {
  const sum = await compareStopped();
  expect(sum.examples).toEqual([]);
  expect(sum.different).toBe(0);
  const check = await server.client.check();
  expect(check.problems).toEqual([]);
  expect(check.versions).toBeGreaterThan(10_000);
});
