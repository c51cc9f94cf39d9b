// Pages that cannot be had: damaged or let go of on the page server, no room for them here. Each query that
// needs one fails with a sentence and a hint; no other does, no server ends, and no page is wrong.

import fs from "node:fs";
import path from "node:path";
import pg from "pg";
import { afterAll, beforeAll, expect, test } from "vitest";
import { parseTenantId, parseTimelineId } from "../../src/core/ids.ts";
import { Lsn } from "../../src/core/lsn.ts";
import type { ComputeInfo, StartComputeRequest } from "../../src/protocol/api-work.ts";
import { layersPath, timelinePath } from "../../src/store/data-dir.ts";
import { haltOn, removeServer, rowsOf, valueOf } from "../support/computes.ts";
import { until } from "../support/replication.ts";
import { ServerUnderTest } from "../verify/server.ts";

const server = new ServerUnderTest();
const clients: pg.Client[] = [];

async function boot(
  timeline: string,
  more: Partial<StartComputeRequest> = {},
): Promise<ComputeInfo> {
  const settings = { shared_buffers: "128kB", autovacuum: "off", ...more.settings };
  const job = await server.done(await server.client.startCompute({ timeline, ...more, settings }));
  return job.result!.compute!;
}

async function connect({ uri }: ComputeInfo): Promise<pg.Client> {
  const client = new pg.Client(uri);
  client.on("error", () => undefined); // its server is stopped while it is connected
  clients.push(client);
  await client.connect();
  return client;
}

beforeAll(async () => {
  await server.start();
  await server.client.createTimeline({ name: "main" });
  const { uri } = await boot("main");
  await rowsOf(
    uri,
    "CREATE TABLE t AS SELECT g AS id, 'old' AS state FROM generate_series(1, 20000) g",
  );
  await haltOn(server, "main");
  await server.client.checkpoint("main");
});

afterAll(async () => {
  for (const client of clients) await client.end().catch(() => undefined);
  await removeServer(server);
});

test("damaged on the page server", async () => {
  const { tenant_id, timeline_id } = await server.client.createTimeline({
    name: "torn",
    ancestor_name: "main",
  });
  const ids = [parseTenantId(tenant_id), parseTimelineId(timeline_id)] as const;
  const directory = layersPath(timelinePath(server.dataDir, ...ids));
  const { uri } = await boot("torn");
  await rowsOf(uri, "CREATE TABLE torn AS SELECT * FROM t");
  await haltOn(server, "torn");
  await server.client.checkpoint("torn");
  const compute = await boot("torn");
  const client = await connect(compute);
  // What is needed of the catalogs is here then.
  await client.query("SELECT id FROM torn LIMIT 1");

  await server.kill();
  const files = fs.readdirSync(directory).map((name) => path.join(directory, name));
  const whole = new Map(files.map((file) => [file, fs.readFileSync(file)]));
  for (const [file, bytes] of whole) {
    const damaged = Buffer.from(bytes);
    damaged[damaged.length >> 1]! ^= 1;
    fs.writeFileSync(file, damaged);
  }
  await server.start();
  const count = "SELECT count(*)::int FROM torn";
  const failed: unknown = await client.query(count).catch((error: unknown) => error);
  expect(failed).toMatchObject({
    code: "58030",
    message: expect.stringMatching(
      /could not read .* of relation .* from the page server: .* is corrupt: /,
    ),
    hint: expect.stringContaining("pageserver check"),
  });
  expect((await client.query("SELECT 1 AS one")).rows).toEqual([{ one: 1 }]);

  // Put back, it is there again, for the same session.
  await server.kill();
  for (const [file, bytes] of whole) fs.writeFileSync(file, bytes);
  await server.start();
  expect((await client.query(count)).rows).toEqual([{ count: 20_000 }]);
  expect(fs.readFileSync(compute.log, "utf8")).not.toContain("PANIC");
  await haltOn(server, "torn");
});

test("of a moment that is kept no more", async () => {
  const then = await boot("main", { read_only: true });
  const client = await connect(then);
  await client.query("SELECT id FROM t LIMIT 1");
  const writer = await boot("main");
  await rowsOf(writer.uri, "UPDATE t SET state = 'new'");
  await server.client.checkpoint("main");
  // By hand, which nobody should.
  const [lease] = await server.client.leases("main");
  await server.client.releaseLeases("main", { owner: lease!.owner, lsn: lease!.lsn });
  await until("the cutoff to pass it", async () => {
    const { cutoff_lsn: cutoff } = await server.client.gc("main", { window_ms: 0, gc_horizon: 0 });
    return Lsn.parse(cutoff) > Lsn.parse(then.start_lsn!);
  });
  const failed: unknown = await client
    .query("SELECT count(*) FROM t")
    .catch((error: unknown) => error);
  expect(failed).toMatchObject({
    code: "58030",
    message: expect.stringContaining("was garbage collected"),
    hint: expect.stringContaining("Start a compute at a moment that is kept"),
  });
  expect((await client.query("SELECT 1 AS one")).rows).toEqual([{ one: 1 }]);
  expect(await valueOf(writer.uri, "SELECT count(*) FROM t WHERE state = 'new'")).toBe("20000");
  await server.done(await server.client.stopCompute("main", then.start_lsn));
  await haltOn(server, "main");
});

test("no room for them on the disk: they are done without", async () => {
  await server.client.createTimeline({ name: "full", ancestor_name: "main" });
  // Nobody but sessions writes pages: those open the file anew.
  const settings = { bgwriter_lru_maxpages: "0", checkpoint_timeout: "1h" };
  const compute = await boot("full", { settings });
  const store = path.join(compute.dir, "pageserver.pages");
  fs.rmSync(store, { force: true });
  fs.symlinkSync("/dev/full", store);
  const client = await connect(compute);
  await client.query("BEGIN");
  await client.query("UPDATE t SET state = state || id");
  const { rows } = await client.query<{ sum: string }>(
    "SELECT sum(length(state))::text AS sum FROM t",
  );
  await client.query("COMMIT");
  const stat = JSON.parse(await valueOf(compute.uri, "SHOW pageserver.stat")) as Record<
    string,
    number
  >;
  expect(stat["pages_logged_for_room"]).toBeGreaterThan(0);
  await haltOn(server, "full");
  const anew = await boot("full");
  expect(await valueOf(anew.uri, "SELECT sum(length(state)) FROM t")).toBe(rows[0]!.sum);
  await haltOn(server, "full");
});
