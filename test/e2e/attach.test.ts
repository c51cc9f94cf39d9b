// `pageserver tenant attach` and `restore` on an empty machine, as a person types them: what stock
// PostgreSQL wrote is there again, pages and rows.

import { afterAll, beforeAll, expect, test } from "vitest";
import { Lsn } from "../../src/core/lsn.ts";
import type { ComputeInfo } from "../../src/protocol/api-work.ts";
import { type Ran, runCli } from "../cli/run-cli.ts";
import { bootOn, haltOn, removeServer, rowsOf, valueOf } from "../support/computes.ts";
import { type BackupPlace, openPlace } from "../verify/backup-place.ts";
import { relationOf } from "../verify/load.ts";
import { sumOfPages } from "../verify/page-sums.ts";
import { ServerUnderTest } from "../verify/server.ts";

const SUM = "SELECT count(*) || ' ' || sum(n) || ' ' || sum(hashtext(filler)::bigint) FROM rows";
const NOW = `SELECT to_char(clock_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')`;
const OTHER = "c".repeat(32);

let place: BackupPlace;
let server: ServerUnderTest;
let tenant = "";
let timeline = "";
/** Rows at `time`, and at the end. */
let then = "";
let last = "";
let time = "";
let end: Lsn;
let pages: () => Promise<string>;
let sum = "";

const cli = (...args: readonly string[]): Promise<Ran> =>
  runCli(args, { PAGESERVER_API: server.client.url });

const restoredRows = async (name: string): Promise<string> => {
  const compute = await bootOn(server, name);
  const found = await valueOf(compute.uri, SUM);
  await rowsOf(compute.uri, "SELECT bt_index_check(oid, true) FROM pg_class WHERE relam = 403");
  await haltOn(server, name);
  return found;
};

/** Some layers, WAL behind them, and a branch of later than `time`. */
async function work({ uri }: ComputeInfo): Promise<void> {
  await rowsOf(uri, "CREATE EXTENSION amcheck");
  await rowsOf(uri, "CREATE TABLE rows (id int PRIMARY KEY, n int, filler text)");
  const fill = "SELECT i, i, repeat(md5(i::text), 4) FROM generate_series(1, 20000) i";
  await rowsOf(uri, `INSERT INTO rows ${fill}`);
  await server.client.checkpoint("main");
  then = await valueOf(uri, SUM);
  time = await valueOf(uri, NOW);
  await rowsOf(uri, "SELECT pg_sleep(0.05)");
  await rowsOf(uri, "UPDATE rows SET n = n + 1 WHERE id % 3 = 0");
  await server.client.compact("main");
  await rowsOf(uri, "DELETE FROM rows WHERE id % 7 = 0");
  last = await valueOf(uri, SUM);
}

beforeAll(async () => {
  place = await openPlace("local");
  server = new ServerUnderTest(undefined, place.environment);
  await server.start();
  await server.client.createTimeline({ name: "main" });
  const compute = await bootOn(server, "main");
  await work(compute);
  const { rel } = await relationOf((text) => valueOf1(compute.uri, text), "rows");
  await haltOn(server, "main");
  await server.client.createTimeline({ name: "later", ancestor_name: "main" });
  const whole = ({ positions }: { positions: { uploaded: string; visible: string } }): boolean =>
    positions.uploaded === positions.visible;
  const info = await server.reached("main", whole);
  await server.reached("later", whole);
  ({ tenant_id: tenant, timeline_id: timeline } = info);
  end = Lsn.parse(info.positions.visible);
  pages = () => sumOfPages({ port: server.port, tenant, timeline }, [rel], end);
  sum = await pages();
});

/** One row, as psql prints it. */
const valueOf1 = async (uri: string, text: string): Promise<string> =>
  (await rowsOf(uri, text)).map((row) => row.join("|")).join("\n");

afterAll(async () => {
  await removeServer(server);
  await place.end();
});

test("attach: what was uploaded is read at once on an empty machine, and computes start there", async () => {
  await server.lose();
  await server.start();
  const { code, out, err } = await cli("tenant", "attach", tenant, "--json");
  expect([code, err]).toEqual([0, ""]);
  expect(JSON.parse(out)).toMatchObject({ kind: "attach", target: tenant, state: "done" });
  expect(await pages()).toBe(sum);
  expect(await restoredRows("main")).toBe(last);

  const again = await cli("tenant", "attach", tenant);
  expect(again).toMatchObject({ code: 1, out: "" });
  expect(again.err).toContain(`tenant ${tenant} is here already; delete it here first`);
  const none = await cli("tenant", "attach", OTHER);
  expect(none).toMatchObject({ code: 1, out: "" });
  expect(none.err).toContain(`holds no backup of tenant ${OTHER}`);
});

test("restore --at: everything is fetched, with progress, and a branch shows the moment", async () => {
  await server.lose();
  await server.start();
  const { code, out, err } = await cli("tenant", "restore", tenant, "--at", time);
  expect(err).toMatch(/^ {2}ok {2}take over {2}2 of 2 timelines/m);
  expect(err).toMatch(/^ {2}ok {2}load /m);
  expect(err).toMatch(/^ {2}ok {2}fetch {2}[\d.]+ [KM]iB/m);
  expect(out).toContain(`restored tenant ${tenant}\n  branch "main-restored"`);
  expect(code).toBe(0);
  expect(await server.client.check()).toMatchObject({ problems: [] });
  expect(await restoredRows("main-restored")).toBe(then);
  expect(await restoredRows("main")).toBe(last);
});
