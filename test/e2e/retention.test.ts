// Retention with stock PostgreSQL: layers are merged while it writes, history goes, and what branches,
// leases and snapshots need stays; what is deleted gives its space back.

import fs from "node:fs";
import path from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { Lsn } from "../../src/core/lsn.ts";
import { runCli } from "../cli/run-cli.ts";
import { bootOn, haltOn, removeServer, rowsOf, valueOf } from "../support/computes.ts";
import { ServerUnderTest } from "../verify/server.ts";
import type { ComputeInfo } from "../../src/protocol/api-work.ts";

const FLUSHED = "SELECT pg_current_wal_flush_lsn()";
const SUM = "SELECT count(*) || ' ' || sum(n) || ' ' || sum(hashtext(filler)::bigint) FROM rows";
const NOW = `SELECT to_char(clock_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')`;
const ROUNDS = 4;

const server = new ServerUnderTest();
let main: ComputeInfo;
const sums: string[] = [];
const lsns: string[] = [];
/** A moment after each round and before the next. */
const times: string[] = [];

/** Runs a command that must succeed; its JSON. */
async function json(...args: readonly string[]): Promise<unknown> {
  const { code, out, err } = await runCli([...args, "--json"], {
    PAGESERVER_API: server.client.url,
  });
  expect([code, err]).toEqual([0, ""]);
  return JSON.parse(out);
}

beforeAll(async () => {
  await server.start();
  await server.client.createTimeline({ name: "main" });
  main = await bootOn(server, "main");
  await rowsOf(main.uri, "CREATE TABLE rows (id int PRIMARY KEY, n int, filler text)");
  await rowsOf(
    main.uri,
    "INSERT INTO rows SELECT i, i, repeat(md5(i::text), 4) FROM generate_series(1, 20000) i",
  );
  for (let round = 0; round < ROUNDS; round++) {
    await rowsOf(main.uri, "UPDATE rows SET n = n + 1 WHERE id % 3 = 0");
    // One page with far more records than a read should have to apply.
    for (let i = 0; i < 40; i++) await rowsOf(main.uri, "UPDATE rows SET n = n + 1 WHERE id = 1");
    sums.push(await valueOf(main.uri, SUM));
    lsns.push(await valueOf(main.uri, FLUSHED));
    times.push(await valueOf(main.uri, NOW));
    await rowsOf(main.uri, "SELECT pg_sleep(0.05)");
    await server.client.checkpoint("main");
  }
});

afterAll(() => removeServer(server));

test("a moment is found by its time, on a branch as on its ancestor, and an LSN's time is known", async () => {
  const { client } = server;
  const at = { name: "timed", ancestor_name: "main", ancestor_start_lsn: lsns[2]! };
  await client.createTimeline(at);
  await server.reached("timed", ({ state }) => state === "Active");
  for (const timeline of ["main", "timed"]) {
    const found = await client.lsnByTimestamp(timeline, times[1]!);
    expect(found.kind).toBe("present");
    expect(Lsn.parse(found.lsn)).toBeLessThanOrEqual(Lsn.parse(lsns[1]!));
    expect(Lsn.parse(found.lsn)).toBeGreaterThan(Lsn.parse(lsns[0]!));
    const time = Date.parse(await client.timestampOfLsn(timeline, found.lsn));
    expect(time).toBeLessThanOrEqual(Date.parse(times[1]!));
    expect(time).toBeGreaterThan(Date.parse(times[0]!));
  }
  expect((await client.lsnByTimestamp("timed", times[3]!)).kind).toBe("future");
  expect((await client.lsnByTimestamp("timed", "2001-01-01T00:00:00Z")).kind).toBe("past");
  expect(await client.deleteTimeline("timed", false)).toEqual({ deleted: ["timed"] });
});

test("layers are merged, and every moment that is kept reads as it was", async () => {
  await server.client.createTimeline({
    name: "early",
    ancestor_name: "main",
    ancestor_start_lsn: lsns[0]!,
  });
  await server.client.lease("main", lsns[1]!);
  await server.client.createSnapshot("main", { name: "monday", lsn: lsns[2]! });
  const merged = await server.client.compact("main");
  expect(merged.tiers).toBe(1);
  const moved = await server.client.gc("main", { gc_horizon: 0 });
  // And the base backup that main was booted from, for a while.
  const reasons = moved.pins.map(({ reason }) => reason).sort();
  expect(reasons).toEqual(["branch", "lease", "reader", "snapshot"]);
  const before = moved.physical_size;
  const reduced = await server.client.compact("main");
  expect(reduced.physical_size).toBeLessThan(before);
  expect(await server.client.check()).toMatchObject({ problems: [] });
  await server.client.createTimeline({ name: "now", ancestor_name: "main" });
  await server.client.createTimeline({
    name: "leased",
    ancestor_name: "main",
    ancestor_start_lsn: lsns[1]!,
  });
  const monday = { name: "monday", ancestor_name: "main", ancestor_start_snapshot: "monday" };
  await server.client.createTimeline(monday);
  for (const [name, round] of [
    ["early", 0],
    ["leased", 1],
    ["monday", 2],
    ["now", ROUNDS - 1],
  ] as const) {
    const compute = await bootOn(server, name);
    expect(await valueOf(compute.uri, SUM)).toBe(sums[round]);
    await rowsOf(compute.uri, "CREATE EXTENSION amcheck");
    await rowsOf(compute.uri, "SELECT bt_index_check(oid, true) FROM pg_class WHERE relam = 403");
    await haltOn(server, name);
  }
});

test("what is not kept is refused, with the cutoff", async () => {
  const { client } = server;
  const { min_readable_lsn: cutoff } = await client.timeline("main");
  expect(cutoff).toBe((await client.retention("main")).cutoff_lsn);
  const gone = Lsn.format(Lsn.of(Lsn.parse(lsns[2]!) + 64));
  const at = { name: "gone", ancestor_name: "main", ancestor_start_lsn: gone };
  await expect(client.createTimeline(at)).rejects.toThrow(/is older than what main keeps/);
  const sentence = new RegExp(`is older than what "main" keeps: its cutoff is ${cutoff}`);
  const page = { rel: "global/1262", block: 0 };
  await expect(client.page("main", page, gone)).rejects.toThrow(sentence);
  await expect(client.lease("main", gone)).rejects.toThrow(sentence);
  await expect(client.createSnapshot("main", { name: "x", lsn: gone })).rejects.toThrow(sentence);
  await expect(client.timestampOfLsn("main", gone)).rejects.toThrow(sentence);
  const found = await client.lsnByTimestamp("main", times[1]!);
  expect(found).toEqual({ lsn: cutoff, kind: "past" });
});

test("bytes by reason add up to what is stored; what a snapshot alone keeps goes with it", async () => {
  const { client } = server;
  const before = await client.retentionBytes("main");
  const { kept, pins } = before;
  const pinned = pins.reduce((sum, { bytes }) => sum + bytes!, 0);
  const all = kept!.window + kept!.superseded + pinned;
  expect(Math.abs(all - before.physical_size)).toBeLessThan(100);
  // A branch was made of it: it goes with neither alone.
  expect(pins.find(({ snapshot }) => snapshot === "monday")!.alone_bytes).toBe(0);
  await client.deleteTimeline("monday", false);
  const single = await client.retentionBytes("main");
  const alone = single.pins.find(({ snapshot }) => snapshot === "monday")!.alone_bytes!;
  expect(alone).toBeGreaterThan(0);
  await client.deleteSnapshot("main", "monday");
  const after = await client.compact("main");
  expect(after.physical_size).toBeLessThan(before.physical_size - alone / 2);
});

test("sizes: logical, physical, history, and the tree's", async () => {
  const info = await server.client.timelineSized("main");
  const { sizes, last_record_lsn: last, min_readable_lsn: cutoff } = info;
  const { logical, physical, layers, wal, history, synthetic } = sizes!;
  const databases = await valueOf(main.uri, "SELECT sum(pg_database_size(oid)) FROM pg_database");
  // pg_database_size counts files that are no relations' pages, and leaves shared relations out.
  expect(Math.abs(logical - Number(databases))).toBeLessThan(0.1 * logical);
  expect(physical).toBe(layers + wal);
  expect(history).toBe(Lsn.parse(last) - Lsn.parse(cutoff));
  expect(synthetic).toBeGreaterThan(logical);
  expect(synthetic).toBeLessThan(3 * logical);
});

test("snapshots, leases and the policy from the command line", async () => {
  const { client } = server;
  const [made, leased, policy] = await Promise.all([
    json("snapshot", "create", "main", "tuesday"),
    json("lease", "acquire", "main", "--owner", "report", "--for", "2h"),
    json("tenant", "retention", "--window", "14d", "--wal", "1G"),
  ]);
  expect(made).toMatchObject({ name: "tuesday", timeline_name: "main" });
  expect(await client.snapshots("main")).toEqual([made]);
  expect(leased).toMatchObject({ owner: "report" });
  expect(policy).toEqual({ window_ms: 14 * 86_400_000, wal_bytes: 1024 ** 3 });
  const released = await client.releaseLeases("main", { owner: "report" });
  expect(released).toEqual({ released: [leased] });
  const at = { ancestor_name: "main", ancestor_start_snapshot: "tuesday" };
  const branch = await client.createTimeline({ name: "tuesday", ...at });
  expect(branch.ancestor_lsn).toBe((made as { lsn: string }).lsn);
  expect(await client.leases("main")).toMatchObject([{ owner: "-" }]);
});

test("a server that is killed has the same cutoff, pins and pages", async () => {
  const before = await server.client.retention("main");
  await server.kill();
  await server.start();
  const last = before.last_record_lsn;
  await server.reached("main", ({ positions }) => Lsn.parse(positions.visible) >= Lsn.parse(last));
  const after = await server.client.retention("main");
  const kept = before.pins.filter(({ reason }) => reason !== "reader");
  expect([after.cutoff_lsn, after.pins]).toEqual([before.cutoff_lsn, kept]);
  expect(await valueOf(main.uri, SUM)).toBe(sums[ROUNDS - 1]);
});

test("a timeline with branches is not deleted; with them it is, and its space comes back", async () => {
  await expect(server.client.deleteTimeline("main", false)).rejects.toThrow(/has branches/);
  const { deleted } = await server.client.deleteTimeline("early", false);
  expect(deleted).toEqual(["early"]);
  const inUse = /a compute runs on "main"/;
  await expect(server.client.deleteTimeline("main", true)).rejects.toThrow(inUse);
  await haltOn(server, "main");
  const all = await server.client.deleteTimeline("main", true);
  expect([...all.deleted].sort()).toEqual(["leased", "main", "now", "tuesday"]);
  expect(await server.client.timelines()).toEqual([]);
  const [tenant] = fs.readdirSync(path.join(server.dataDir, "tenants"));
  expect(fs.readdirSync(path.join(server.dataDir, "tenants", tenant!, "timelines"))).toEqual([]);
});

test("a tenant is deleted with what it has, for good", async () => {
  const { client } = server;
  await client.createTimeline({ name: "again" });
  const [tenant] = await client.tenants();
  await expect(client.deleteTenant(tenant!.id, false)).rejects.toThrow(/has 1 timelines/);
  const gone = await client.deleteTenant(tenant!.id, true);
  expect(gone).toEqual({ deleted: tenant!.id, timelines: ["again"] });
  expect(await client.tenants()).toEqual([]);
  expect(fs.readdirSync(path.join(server.dataDir, "tenants"))).toEqual([]);
  await server.kill();
  await server.start();
  expect(await server.client.tenants()).toEqual([]);
});
