// A page server whose disk becomes full while it works, its log on that disk too: it waits, says so,
// answers all reads, refuses what it cannot keep, and goes on by itself when there is room again.

import fs from "node:fs";
import { afterAll, beforeAll, expect, test } from "vitest";
import { Lsn } from "../../src/core/lsn.ts";
import type { ComputeInfo } from "../../src/protocol/api-work.ts";
import { bootOn, haltOn, rowsOf, valueOf } from "../support/computes.ts";
import { type FaultyDisk, startOnFaultyDisk } from "../support/faulty-disk.ts";
import { PageClient } from "../support/page-client.ts";
import { until } from "../support/replication.ts";
import type { ServerUnderTest } from "../verify/server.ts";

const FLUSHED = "SELECT pg_current_wal_flush_lsn()";
const PG_CLASS = { spc: 1663, db: 1, rel: 1259, fork: 0 };

let disk: FaultyDisk;
let server: ServerUnderTest;
let compute: ComputeInfo;
let flag: string;

beforeAll(async () => {
  disk = await startOnFaultyDisk("FULL_DISK_FLAG");
  ({ server, compute, flag } = disk);
});
afterAll(() => disk?.remove());

const source = async () => (await server.client.timeline("main")).source;

test("a full disk: WAL waits, reads are answered, what cannot be kept is refused, then all goes on", async () => {
  await rowsOf(compute.uri, "INSERT INTO t SELECT generate_series(1, 1000)");
  const early = await valueOf(compute.uri, FLUSHED);
  await server.reached("main", ({ positions }) => Lsn.parse(positions.durable) >= Lsn.parse(early));
  const { tenant_id, timeline_id } = await server.client.timeline("main");
  const status = await server.client.status();

  fs.writeFileSync(flag, "");
  await rowsOf(compute.uri, "INSERT INTO t SELECT generate_series(1001, 2000)");
  const reason = await until("it says why it waits", async () => (await source()).reason);
  expect(reason).toMatch(
    /no space left to write .*\/wal\/.*; free disk space, then it goes on by itself/,
  );
  expect((await server.client.status()).alarms).toEqual([`timeline "main": ${reason}`]);
  const waiting = await server.client.timeline("main");
  expect(waiting.state).toBe("Active");

  const link = await PageClient.connect({ port: server.port });
  await expect(
    server.client.createTimeline({ name: "branch", ancestor_name: "main" }),
  ).rejects.toThrow(/no space left to write .*catalog; free disk space/);
  await expect(server.client.checkpoint("main")).rejects.toThrow(/no space left to write/);
  await expect(server.client.createTimeline({ name: "other" })).rejects.toThrow(/no space left/);
  expect(await link.lease(tenant_id, timeline_id, Lsn.parse(early))).toBeUndefined();
  const stream = await link.pagestream(tenant_id, timeline_id);
  expect((await stream.getPage(PG_CLASS, 0)).length).toBe(8192);
  await link.close();

  fs.rmSync(flag);
  const late = await valueOf(compute.uri, FLUSHED);
  await server.reached("main", ({ positions }) => Lsn.parse(positions.durable) >= Lsn.parse(late));
  await until("nothing is waited for", async () => (await source()).reason === undefined);
  const after = await server.client.status();
  expect(after.pid, "the same process").toBe(status.pid);
  await until("a layer is sealed", () => server.client.checkpoint("main").catch(() => undefined));
  await until("no alarm is left", async () => (await server.client.status()).alarms.length === 0);
  await server.client.createTimeline({ name: "branch", ancestor_name: "main" });
  expect(await server.client.check()).toMatchObject({ problems: [] });

  await haltOn(server, "main");
  await server.kill();
  await server.start();
  const again = await bootOn(server, "main");
  expect(await valueOf(again.uri, "SELECT count(*) || ' ' || sum(n) FROM t")).toBe("2000 2001000");
});
