// Retention with stock PostgreSQL: layers are merged while it writes, history goes, and what branches
// and leases need stays; what is deleted gives its space back.

import fs from "node:fs";
import path from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { Lsn } from "../../src/core/lsn.ts";
import { bootOn, haltOn, removeServer, rowsOf, valueOf } from "../support/computes.ts";
import { ServerUnderTest } from "../verify/server.ts";
import type { ComputeInfo } from "../../src/protocol/api-work.ts";

const FLUSHED = "SELECT pg_current_wal_flush_lsn()";
const SUM = "SELECT count(*) || ' ' || sum(n) || ' ' || sum(hashtext(filler)::bigint) FROM rows";
const ROUNDS = 4;

const server = new ServerUnderTest();
let main: ComputeInfo;
const sums: string[] = [];
const lsns: string[] = [];

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
    await server.client.checkpoint("main");
  }
});

afterAll(() => removeServer(server));

test("layers are merged, and every moment that is kept reads as it was", async () => {
  await server.client.createTimeline({
    name: "early",
    ancestor_name: "main",
    ancestor_start_lsn: lsns[0]!,
  });
  await server.client.lease("main", lsns[1]!);
  const merged = await server.client.compact("main");
  expect(merged.tiers).toBe(1);
  const moved = await server.client.gc("main", { gc_horizon: 0 });
  // And the base backup that main was booted from, for a while.
  const reasons = moved.pins.map(({ reason }) => reason).sort();
  expect(reasons).toEqual(["branch", "lease", "reader"]);
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
  for (const [name, round] of [
    ["early", 0],
    ["leased", 1],
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
  const at = { name: "gone", ancestor_name: "main", ancestor_start_lsn: lsns[2]! };
  await expect(server.client.createTimeline(at)).rejects.toThrow(/is older than what main keeps/);
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
  await haltOn(server, "main");
  const all = await server.client.deleteTimeline("main", true);
  expect([...all.deleted].sort()).toEqual(["leased", "main", "now"]);
  expect(await server.client.timelines()).toEqual([]);
  const [tenant] = fs.readdirSync(path.join(server.dataDir, "tenants"));
  expect(fs.readdirSync(path.join(server.dataDir, "tenants", tenant!, "timelines"))).toEqual([]);
});
