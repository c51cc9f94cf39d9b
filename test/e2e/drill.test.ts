// `pageserver drill` against the whole program: pages that take WAL redo are restored and compared, damage is
// found and named, a scrub repairs it, and the figures are where somebody watches them.

import { afterAll, beforeAll, expect, test } from "vitest";
import type { DrillInfo } from "../../src/protocol/api-backup.ts";
import type { Job } from "../../src/protocol/api-work.ts";
import { runCli } from "../cli/run-cli.ts";
import { bootOn, haltOn, removeServer, rowsOf } from "../support/computes.ts";
import { flip, namesOf } from "../support/damaged-storage.ts";
import { type BackupPlace, openPlace } from "../verify/backup-place.ts";
import { ServerUnderTest } from "../verify/server.ts";

let place: BackupPlace;
let server: ServerUnderTest;

beforeAll(async () => {
  place = await openPlace("local");
  // None by itself: one at a time is made, and these are asked for.
  const never = { PAGESERVER_BACKUP_DRILL_EVERY: "0" };
  server = new ServerUnderTest(undefined, { ...place.environment, ...never });
  await server.start();
  await server.client.createTimeline({ name: "main" });
  const { uri } = await bootOn(server, "main");
  await rowsOf(uri, "CREATE TABLE rows AS SELECT n, md5(n::text) FROM generate_series(1, 20000) n");
  await rowsOf(uri, "UPDATE rows SET n = n + 1 WHERE n % 3 = 0");
  await rowsOf(uri, "CREATE INDEX ON rows (n)");
  await haltOn(server, "main");
  await server.client.checkpoint("main");
  await server.reached("main", ({ backup, layers, positions }) => {
    const whole = positions.uploaded === positions.durable && backup?.lag_bytes === 0;
    return whole && layers > 1 && backup.layers_waiting === 0;
  });
}, 180_000);

afterAll(async () => {
  await removeServer(server);
  await place.end();
});

async function drill(...args: readonly string[]) {
  const ran = await runCli(["drill", "--json", ...args], { PAGESERVER_API: server.client.url });
  return { ...ran, report: JSON.parse(ran.out) as DrillInfo };
}

async function ended(job: Job): Promise<Job> {
  let now = job;
  while (now.state === "running") now = await server.client.job(now.id, 10_000);
  return now;
}

test("a sound backup passes, by redo too; the figures are in status, metrics and the timeline", async () => {
  const before = (await server.client.status()).redo.pages;
  const { code, report } = await drill("--seed", "5");
  expect({ code, report }).toMatchObject({ code: 0, report: { problems: 0, seed: 5 } });
  const [main] = report.timelines;
  expect(main).toMatchObject({ name: "main", problems: [] });
  expect(main!.pages).toBeGreaterThan(10);
  expect((await server.client.status()).redo.pages).toBeGreaterThan(before);
  const { backup, tenant_id, timeline_id } = await server.client.timeline("main");
  expect(backup!.drill).toMatchObject({ verified_lsn: main!.verified_lsn, problems: [] });
  const metrics = await server.client.metrics();
  const labels = `{tenant="${tenant_id}",timeline="${timeline_id}"}`;
  expect(metrics).toContain(`pageserver_backup_drill_problems${labels} 0\n`);
  for (const name of ["verified_lsn", "age_seconds"]) {
    expect(metrics).toContain(`pageserver_backup_drill_${name}${labels} `);
  }
}, 120_000);

test("damage is found, is an alarm, and is gone after a scrub", async () => {
  const layers = (await namesOf(place.storage)).filter((name) => name.includes("/layers/"));
  for (const name of layers) await flip(place.storage, name, 2_000);
  const found = await drill();
  expect(found.code).toBe(1);
  expect(found.err).toMatch(/\d+ problems in the backup/);
  for (const { kind, name } of found.report.timelines[0]!.problems) {
    expect(kind).toBe("corrupt");
    expect(layers).toContain(name);
  }
  const [alarm] = (await server.client.status()).alarms;
  expect(alarm).toContain('timeline "main": a restore drill of its backup failed: ');
  const scrubbed = await ended(await server.client.scrub({}));
  expect(scrubbed.result?.scrub).toMatchObject({ remaining: 0 });
  const again = await server.client.drill({});
  await expect(server.client.drill({})).rejects.toThrow(/drill of all tenants is under way/);
  expect((await ended(again)).result?.drill).toMatchObject({ problems: 0 });
  expect((await server.client.status()).alarms).toEqual([]);
}, 120_000);

test("a tenant that is not here, and what is no seed, are refused", async () => {
  const nobody = "0".repeat(32);
  await expect(server.client.drill({ tenant_id: nobody })).rejects.toThrow(`tenant ${nobody}`);
  const { code, err } = await runCli(["drill", "--seed", "x"]);
  expect(code).toBe(2);
  expect(err).toContain("it must be a number from 0 to 4294967295");
}, 60_000);
