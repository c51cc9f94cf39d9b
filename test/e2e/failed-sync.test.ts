// A disk whose fsync fails: what is durable is unknown then, so the page server ends at once, whatever it
// was syncing, and says why. The next start goes on with everything that had been acknowledged.

import fs from "node:fs";
import { afterAll, beforeAll, expect, test } from "vitest";
import { Lsn } from "../../src/core/lsn.ts";
import type { ComputeInfo } from "../../src/protocol/api-work.ts";
import { bootOn, haltOn, rowsOf, valueOf } from "../support/computes.ts";
import { type FaultyDisk, startOnFaultyDisk } from "../support/faulty-disk.ts";
import type { ServerUnderTest } from "../verify/server.ts";

const FLUSHED = "SELECT pg_current_wal_flush_lsn()";
/** Time to end in, ms. */
const END_MS = 20_000;

let disk: FaultyDisk;
let server: ServerUnderTest;
let compute: ComputeInfo;
let flag: string;

beforeAll(async () => {
  disk = await startOnFaultyDisk("FAIL_SYNC_FLAG");
  ({ server, compute, flag } = disk);
});
afterAll(() => disk?.remove());

/** Everything that the compute has flushed is durable here. */
async function caughtUp(): Promise<void> {
  const end = Lsn.parse(await valueOf(compute.uri, FLUSHED));
  await server.reached("main", ({ positions }) => Lsn.parse(positions.durable) >= end);
}

/** Something syncs, and cannot: the process ends, and says why. Then the disk is well again. */
async function strike(sync: () => Promise<unknown>, what: RegExp): Promise<void> {
  fs.writeFileSync(flag, "");
  const syncing = sync().catch(() => undefined);
  expect(await server.hasEnded(END_MS), "it ends").toBe(true);
  await syncing;
  expect(server.tail()).toMatch(what);
  fs.rmSync(flag);
  await server.start();
}

test("it ends when WAL, a layer or the catalog cannot be synced, and goes on after a start", async () => {
  await rowsOf(compute.uri, "INSERT INTO t SELECT generate_series(1, 1000)");
  await caughtUp();
  await strike(
    () => rowsOf(compute.uri, "INSERT INTO t SELECT generate_series(1001, 2000)"),
    /syncing WAL in .* failed: EIO.*check the disk, then start again/,
  );
  await caughtUp();
  // The thread that seals is at work by then: no WAL that comes by itself is synced before the layer.
  await server.client.checkpoint("main");
  await rowsOf(compute.uri, "CREATE TABLE more (n int)");
  await caughtUp();
  await strike(() => server.client.checkpoint("main"), /syncing .*\.layer.* failed: EIO/);
  await caughtUp();
  await strike(
    () => server.client.createTimeline({ name: "other", ancestor_name: "main" }),
    /catalog failed: .*check the disk, then start again/,
  );
  await caughtUp();
  expect((await server.client.check()).problems).toEqual([]);
  await haltOn(server, "main");
  const again = await bootOn(server, "main");
  expect(await valueOf(again.uri, "SELECT count(*) || ' ' || sum(n) FROM t")).toBe("2000 2001000");
});
