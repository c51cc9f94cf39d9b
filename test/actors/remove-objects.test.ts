// What is deleted goes from object storage, too: whole or not at all, whatever crashes, and never what
// another server has taken over.

import { expect, test } from "vitest";
import { ask } from "../../src/actors/runtime.ts";
import type { TenantMsg } from "../../src/actors/tenant.ts";
import { removingOf } from "../../src/actors/tenant-objects.ts";
import type { TenantsMsg } from "../../src/actors/tenants.ts";
import type { AdminError } from "../../src/core/admin-error.ts";
import { tenantName, timelinePrefix } from "../../src/core/backup/names.ts";
import type { TimelineId } from "../../src/core/ids.ts";
import type { Result } from "../../src/core/result.ts";
import { MemoryStorage } from "../../src/io/objects/memory.ts";
import { noteTenantRemoval, tenantRemovals } from "../../src/store/data-dir.ts";
import { decodeTenant, encodeTenant } from "../../src/store/manifest.ts";
import { machines } from "../support/attached-world.ts";
import { backedUp, uploadedOf } from "../support/backed-up.ts";
import { FaultyStorage } from "../support/faulty-storage.ts";
import { until } from "../support/replication.ts";
import { timelineTest } from "../support/timeline-test.ts";
import { MAIN, TENANT, TimelineWorld } from "../support/timeline-world.ts";

const t = timelineTest();
machines(t);

const deleteTimeline = (timeline: TimelineId) =>
  ask<TenantMsg, Result<readonly string[], AdminError>>(
    t.world.tenant.ref,
    (reply) => ({ kind: "remove", timeline, recursive: false, reply }),
    10_000,
  );
const deleteTenant = (keepBackup = false) =>
  ask<TenantsMsg, Result<undefined, AdminError> | undefined>(
    t.world.tenants,
    (reply) => ({ kind: "delete", id: TENANT, keepBackup, reply }),
    10_000,
  );
const of = (storage: MemoryStorage, id: TimelineId): readonly string[] =>
  storage.names.filter((name) => name.startsWith(timelinePrefix(TENANT, id)));
async function tenantObject(storage: MemoryStorage) {
  const { bytes, version } = await storage.get(tenantName(TENANT));
  return { manifest: decodeTenant(bytes, "tenant.json"), version };
}

/** Main and a branch of it, both in object storage. */
async function withBranch() {
  const storage = new MemoryStorage();
  const faulty = new FaultyStorage(storage);
  const { sealed } = await backedUp(t, faulty);
  const branch = await t.branchAt(sealed);
  await until("the branch is uploaded", () => uploadedOf(t.world, branch) >= sealed);
  await until("it is listed", async () =>
    (await tenantObject(storage)).manifest.timelines.includes(branch),
  );
  return { storage, faulty, branch };
}

test("a deleted timeline's objects go, and nothing of the others", async () => {
  const { storage, branch } = await withBranch();
  expect(of(storage, branch)).not.toEqual([]);
  expect(await deleteTimeline(branch)).toMatchObject({ ok: true });
  // Acknowledged: no machine that takes the tenant over from now on brings it back.
  expect((await tenantObject(storage)).manifest.timelines).toEqual([MAIN]);
  await until("its objects are gone", () => of(storage, branch).length === 0);
  expect(of(storage, MAIN)).not.toEqual([]);
  await until("it is forgotten", () => removingOf(t.world.tenant.catalog).length === 0);
  expect(t.world.main.backup!()?.state).toBe("backing-up");
});

test("object storage that is away, and a restart: they go when they can", async () => {
  const { storage, faulty, branch } = await withBranch();
  faulty.down = true;
  const message = expect.stringMatching(
    /^"branch": deleted here, but not in the backup: .*; it is tried again, and until then an attach elsewhere brings it back$/,
  );
  expect(await deleteTimeline(branch)).toEqual({
    ok: false,
    error: { kind: "unavailable", message },
  });
  expect(t.world.tenant.timelines.has(branch)).toBe(false);
  await until("it is tried", () => t.world.lines.some(({ msg }) => /cannot be removed/.test(msg)));
  expect(of(storage, branch)).not.toEqual([]);
  await t.reopen({ storage });
  await until("its objects are gone", () => of(storage, branch).length === 0);
});

test("a crash after the list was written leaves what no list names; it goes on from there", async () => {
  const { storage, faulty, branch } = await withBranch();
  let calls = 0;
  faulty.decide = (call) => (call === "deleteMany" && calls++ < 1 ? "fail-before" : "none");
  const before = of(storage, branch);
  expect(await deleteTimeline(branch)).toMatchObject({ ok: true });
  await until("it is tried", () => t.world.lines.some(({ msg }) => /cannot be removed/.test(msg)));
  expect((await tenantObject(storage)).manifest.timelines).toEqual([MAIN]);
  expect(of(storage, branch)).toEqual(before);
  await t.reopen({ storage });
  await until("its objects are gone", () => of(storage, branch).length === 0);
});

test("a server that has lost the tenant removes nothing", async () => {
  const { storage, branch } = await withBranch();
  const { manifest, version } = await tenantObject(storage);
  const taken = { ...manifest, generation: manifest.generation + 1, claim: "beef" };
  await storage.compareAndSwap(tenantName(TENANT), encodeTenant(taken), version);
  const before = of(storage, branch);
  const message = expect.stringMatching(/not in the backup: .* attached to another server since/);
  expect(await deleteTimeline(branch)).toMatchObject({ ok: false, error: { message } });
  const left = () => t.world.lines.find(({ msg }) => /left to the server that has/.test(msg));
  await until("it says so", left);
  expect(of(storage, branch)).toEqual(before);
  expect(await deleteTenant()).toMatchObject({ ok: true });
  await until("it says so", () => t.world.lines.some(({ msg }) => /of a deleted tenant/.test(msg)));
  expect(of(storage, branch)).toEqual(before);
  expect((await tenantObject(storage)).manifest).toEqual(taken);
  expect(tenantRemovals(t.dataDir)).toEqual([]);
});

test("a deleted tenant's objects go, its own last; or stay when they are to be kept", async () => {
  const { storage, faulty } = await withBranch();
  const deleted: string[] = [];
  const deleteMany = faulty.deleteMany.bind(faulty);
  faulty.deleteMany = (names) => {
    deleted.push(...names);
    return deleteMany(names);
  };
  expect(await deleteTenant()).toMatchObject({ ok: true });
  const ofTenant = () => storage.names.filter((name) => name.includes(TENANT));
  await until("its objects are gone", () => ofTenant().length === 0);
  expect(deleted.at(-1)).toBe(tenantName(TENANT));
  await until("it is forgotten", () => tenantRemovals(t.dataDir).length === 0);
});

test("a tenant whose backup is kept can be attached again", async () => {
  const { storage } = await withBranch();
  const before = storage.names;
  expect(await deleteTenant(true)).toMatchObject({ ok: true });
  expect(tenantRemovals(t.dataDir)).toEqual([]);
  expect(storage.names).toEqual(before);
});

test("a crash between the note and the deletion deletes nothing; one after it goes on", async () => {
  const { storage } = await withBranch();
  const { generation, claim } = (await tenantObject(storage)).manifest;
  await t.world.close();
  noteTenantRemoval(t.dataDir, TENANT, JSON.stringify({ generation, claim }));
  t.world = new TimelineWorld(t.dataDir, { storage });
  await t.world.loaded();
  expect(tenantRemovals(t.dataDir)).toEqual([]);
  expect(of(storage, MAIN)).not.toEqual([]);

  // Without a place for backups it cannot go on; with one it does.
  await t.reopen();
  expect(await deleteTenant()).toMatchObject({ ok: true });
  expect(tenantRemovals(t.dataDir)).toHaveLength(1);
  expect(of(storage, MAIN)).not.toEqual([]);
  await t.world.close();
  t.world = new TimelineWorld(t.dataDir, { storage });
  await until("its objects are gone", () => of(storage, MAIN).length === 0);
});
