// Computes that show one moment of a timeline: read-only, for as long as they run, whatever is written
// and collected meanwhile.

import pg from "pg";
import { afterAll, beforeAll, expect, test } from "vitest";
import type { ComputeInfo } from "../../src/protocol/api-work.ts";
import { Lsn } from "../../src/core/lsn.ts";
import { bootOn, removeServer, rowsOf, valueOf } from "../support/computes.ts";
import { until } from "../support/replication.ts";
import { ServerUnderTest } from "../verify/server.ts";

const server = new ServerUnderTest();
let main: ComputeInfo;

beforeAll(async () => {
  await server.start();
  await server.client.createTimeline({ name: "main" });
  main = await bootOn(server, "main");
  await rowsOf(
    main.uri,
    "CREATE TABLE t AS SELECT g AS id, 'old' AS state FROM generate_series(1, 3000) g",
  );
  await rowsOf(main.uri, "CREATE INDEX ON t (id)");
});

afterAll(() => removeServer(server));

const STATES = "SELECT state, count(*) FROM t GROUP BY state ORDER BY state";

async function show(moment: { readonly lsn?: string }, diskless = true): Promise<ComputeInfo> {
  const request = { timeline: "main", read_only: true, diskless, ...moment };
  const job = await server.done(await server.client.startCompute(request));
  return job.result!.compute!;
}

const leases = async (): Promise<readonly string[]> =>
  (await server.client.leases("main")).map(({ lsn }) => lsn);

test("the past stays as it was, takes no writes, and is kept until it is stopped", async () => {
  const then = await show({});
  const lsn = then.start_lsn!;
  expect(await rowsOf(then.uri, "SELECT count(*) FROM t")).toEqual([["3000"]]);

  // Main moves on, and what it leaves behind is collected.
  await rowsOf(main.uri, "UPDATE t SET state = 'new' WHERE id <= 1000");
  await rowsOf(main.uri, "VACUUM t");
  await server.client.checkpoint("main");
  await until("the cutoff to pass it", async () => {
    const { cutoff_lsn: cutoff } = await server.client.gc("main", { window_ms: 0, gc_horizon: 0 });
    return Lsn.parse(cutoff) > Lsn.parse(lsn);
  });
  await server.client.compact("main");
  const now = await show({});
  expect(now.start_lsn).not.toBe(lsn);
  expect(await rowsOf(then.uri, STATES)).toEqual([["old", "3000"]]);
  expect(await rowsOf(now.uri, STATES)).toEqual([
    ["new", "1000"],
    ["old", "2000"],
  ]);
  expect(await valueOf(then.uri, "SELECT state FROM t WHERE id = 500")).toBe("old");

  const readOnly = "in a read-only transaction";
  await expect(rowsOf(then.uri, "DELETE FROM t")).rejects.toThrow(readOnly);
  await expect(rowsOf(then.uri, "CREATE TABLE x ()")).rejects.toThrow(readOnly);
  await expect(rowsOf(then.uri, "SET transaction_read_only = off")).rejects.toThrow(
    "during recovery",
  );

  // One a moment; and the one that writes is another matter.
  await expect(show({ lsn })).rejects.toThrow(`a compute shows "main" at ${lsn} already`);
  expect([...(await leases())].sort()).toEqual([lsn, now.start_lsn!].sort());
  const { pins } = await server.client.retention("main");
  expect(pins.map((pin) => pin.lsn)).toContain(lsn);
  const listed = await server.client.computes();
  expect(listed.filter((one) => one.read_only === true)).toHaveLength(2);
  await rowsOf(main.uri, "INSERT INTO t VALUES (0, 'last')");

  await server.done(await server.client.stopCompute("main", lsn));
  expect(await leases()).toEqual([now.start_lsn]);
  await expect(server.client.stopCompute("main", lsn)).rejects.toThrow(`a compute at ${lsn}`);
  await expect(show({ lsn })).rejects.toThrow("older than what");

  // It is found again after a restart, and goes on.
  await server.kill();
  await server.start();
  expect(await valueOf(now.uri, "SELECT sum(id) FROM t")).toBe("4501500");
  // A promotion would write what is nobody's history: it ends the server instead.
  const client = new pg.Client(now.uri);
  client.on("error", () => undefined);
  await client.connect();
  await client.query("SELECT pg_promote(false)");
  await until("its end", async () => {
    const computes = await server.client.computes();
    return computes.find((one) => one.read_only)?.state === "stopped";
  });
  expect(await leases()).toEqual([now.start_lsn]);
  await server.done(await server.client.stopCompute("main", now.start_lsn));
  expect(await leases()).toEqual([]);
  expect(await valueOf(main.uri, "SELECT count(*) FROM t")).toBe("3001");
});

test("a moment that is still to come is refused", async () => {
  await expect(show({ lsn: "7F/0" })).rejects.toThrow("above the last durable record");
  await expect(server.client.startCompute({ timeline: "main", lsn: "0/1" })).rejects.toThrow(
    "say read_only",
  );
  const both = { timeline: "main", read_only: true, replace: true };
  await expect(server.client.startCompute(both)).rejects.toThrow("replace is for the compute");
});
