// Deleting timelines and tenants over real files: a crash at any step leaves all of it or nothing, and
// what is left over is removed at the next start.

import fs from "node:fs";
import path from "node:path";
import { expect, test } from "vitest";
import { ask } from "../../src/actors/runtime.ts";
import type { TenantMsg } from "../../src/actors/tenant.ts";
import type { TenantsMsg } from "../../src/actors/tenants.ts";
import type { AdminError } from "../../src/core/admin-error.ts";
import type { TimelineId } from "../../src/core/ids.ts";
import type { Result } from "../../src/core/result.ts";
import {
  deleteTenantDirectory,
  tenantPath,
  tenantsPath,
  timelinePath,
} from "../../src/store/data-dir.ts";
import { until } from "../support/replication.ts";
import { timelineTest } from "../support/timeline-test.ts";
import { MAIN, TENANT, TimelineWorld } from "../support/timeline-world.ts";

const t = timelineTest();

const deleteTenant = (id = TENANT) =>
  ask<TenantsMsg, Result<undefined, AdminError> | undefined>(
    t.world.tenants,
    (reply) => ({ kind: "delete", id, reply }),
    10_000,
  );
const deleteTimeline = (timeline: TimelineId, recursive: boolean) =>
  ask<TenantMsg, Result<readonly string[], AdminError>>(
    t.world.tenant.ref,
    (reply) => ({ kind: "remove", timeline, recursive, reply }),
    10_000,
  );
const create = () =>
  ask<TenantsMsg, unknown>(
    t.world.tenants,
    (reply) => ({ kind: "create", id: TENANT, reply }),
    10_000,
  );
const names = (): readonly string[] => fs.readdirSync(tenantsPath(t.dataDir));

/** Files below the data directory that this process has open, deleted or not. */
const opened = (): readonly string[] =>
  fs.readdirSync("/proc/self/fd").flatMap((fd) => {
    try {
      const target = fs.readlinkSync(`/proc/self/fd/${fd}`);
      return target.startsWith(t.dataDir) ? [target] : [];
    } catch {
      return []; // closed meanwhile
    }
  });

test("a tenant goes with all of its files at once, and its id may come again", async () => {
  t.addPages(50);
  await t.takeIn();
  await t.seal();
  await t.world.fill(0);
  expect(await deleteTenant()).toEqual({ ok: true, value: undefined });
  expect(names()).toEqual([]);
  expect(opened(), "space that is not given back").toEqual([]);
  expect(t.world.shared.directory.tenants.size + t.world.shared.directory.unusable.size).toBe(0);
  expect(await deleteTenant()).toMatchObject({ ok: false, error: { kind: "not-found" } });
  expect(await create()).toMatchObject({ id: TENANT });
  expect(t.world.tenant.timelines.size).toBe(0);
  expect(names()).toEqual([TENANT]);
});

test("a deletion that a crash cut short is finished at the next start", async () => {
  await t.world.close();
  const left = deleteTenantDirectory(t.dataDir, TENANT)!;
  expect(fs.existsSync(path.join(left, "catalog"))).toBe(true);
  t.world = new TimelineWorld(t.dataDir);
  await until("the rest is gone", () => names().length === 0);
  expect(t.world.shared.directory.tenants.size).toBe(0);
});

test("a tenant of the same id can be deleted while what is left of an earlier one is there", async () => {
  fs.mkdirSync(`${tenantPath(t.dataDir, TENANT)}.deleted-1`);
  expect(await deleteTenant()).toMatchObject({ ok: true });
  expect(names()).toEqual([`${TENANT}.deleted-1`]);
});

test("a damaged tenant can be deleted, too", async () => {
  await t.world.close();
  fs.writeFileSync(path.join(tenantPath(t.dataDir, TENANT), "catalog"), "x".repeat(9_000));
  t.world = new TimelineWorld(t.dataDir);
  await until("it is broken", () =>
    t.world.shared.directory.unusable.get(TENANT)?.startsWith("it is broken"),
  );
  expect(await deleteTenant()).toMatchObject({ ok: true });
  expect(names()).toEqual([]);
});

test("a timeline: not while it has branches; with them, and nothing of it stays open", async () => {
  t.addPages(50);
  await t.takeIn();
  await t.seal();
  const branch = await t.branchAt(t.wal.end);
  await t.world.fill(0, { id: branch });
  const refused = { message: expect.stringContaining('"branch"') as string };
  expect(await deleteTimeline(MAIN, false)).toMatchObject({ ok: false, error: refused });
  expect(await deleteTimeline(MAIN, true)).toEqual({ ok: true, value: ["branch", "main"] });
  expect(opened().filter((file) => file.includes("/timelines/"))).toEqual([]);
  expect(fs.readdirSync(path.join(tenantPath(t.dataDir, TENANT), "timelines"))).toEqual([]);
});

test("before the catalog's transaction a crash deletes nothing, after it everything", async () => {
  t.addPages(1, 7);
  await t.takeIn();
  // Its actors have ended, and the transaction has not come: as a kill leaves it.
  await t.reopen();
  expect(await t.world.fill(0)).toBe(7);
  t.world.tenant.catalog.change((change) => change.removeTimeline(MAIN));
  const files = timelinePath(t.dataDir, TENANT, MAIN);
  await t.world.close();
  expect(fs.existsSync(files)).toBe(true);
  t.world = new TimelineWorld(t.dataDir);
  await until("the tenant is open", () => t.world.shared.directory.tenants.get(TENANT));
  expect(fs.existsSync(files)).toBe(false);
  expect(t.world.tenant.catalog.timelines()).toEqual([]);
});
