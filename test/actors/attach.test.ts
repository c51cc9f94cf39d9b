// A machine that has nothing takes a tenant over: what was called uploaded is read there, layers come
// when they are read, and whoever had the tenant before is fenced.

import fs from "node:fs";
import path from "node:path";
import { expect, test } from "vitest";
import { readManifest } from "../../src/actors/backup-turn.ts";
import { MemoryStorage } from "../../src/io/objects/memory.ts";
import { machines } from "../support/attached-world.ts";
import {
  PAGES_OF_A_FILE,
  backedUp,
  pageLayer,
  sealedFiles,
  untilPagesAreNamed,
  uploadedOf,
} from "../support/backed-up.ts";
import { FaultyStorage } from "../support/faulty-storage.ts";
import { until } from "../support/replication.ts";
import { errorOf, timelineTest } from "../support/timeline-test.ts";
import { BASE, MAIN, TENANT, TestReceiver, TimelineWorld } from "../support/timeline-world.ts";

const t = timelineTest();
const both = machines(t);
const attached = both.attach;

test("what was uploaded is read elsewhere, and WAL goes on there", async () => {
  const storage = new MemoryStorage();
  const { sealed } = await backedUp(t, storage);
  await until("layers are named", async () => {
    const { manifest } = await readManifest(storage, TENANT, MAIN);
    return manifest!.timeline.sealedLsn >= sealed;
  });
  const expected = await Promise.all([0, 1, 4].map((block) => t.world.fill(block)));
  await t.world.close();
  fs.rmSync(t.dataDir, { recursive: true });
  const world = await attached(storage);
  expect(world.main.facts.positions.visible).toBe(t.wal.end);
  expect(await Promise.all([0, 1, 4].map((block) => world.fill(block)))).toEqual(expected);
  expect(await world.fill(4, { lsn: sealed })).toBe(5);

  const from = t.wal.end;
  t.addPages(2, 200);
  const receiver = new TestReceiver(world);
  await receiver.attachAt(from);
  receiver.sendFrom(t.wal, from);
  await receiver.untilDurable(t.wal.end);
  await until("uploaded", () => uploadedOf(world) >= t.wal.end);
  const { manifest } = await readManifest(storage, TENANT, MAIN);
  expect(manifest).toMatchObject({ generation: 2 });
  t.world = new TimelineWorld(t.dataDir);
});

test("branches come along, and read what their ancestor has", async () => {
  const storage = new MemoryStorage();
  const { sealed } = await backedUp(t, storage);
  const branch = await t.branchAt(sealed);
  await until("the branch is uploaded", () => uploadedOf(t.world, branch) >= sealed);
  const world = await attached(storage);
  await world.loaded(branch);
  expect(await world.fill(2, { id: branch })).toBe(3);
  expect(await world.fill(2)).toBe(102);
});

test("layers of pages come when they are read, once for many readers; a failure says so", async () => {
  const memory = new MemoryStorage();
  await backedUp(t, memory, PAGES_OF_A_FILE);
  await untilPagesAreNamed(memory);
  const storage = new FaultyStorage(memory);
  let fetches = 0;
  const world = await attached(storage);
  expect(sealedFiles(world)).toHaveLength(1);
  const path = pageLayer(world);
  const object = path.entry.object!.name;
  storage.before = (_call, name) => void (name.endsWith(object) && fetches++);
  const original = storage.getStream.bind(storage);
  storage.getStream = (name, from) => {
    if (name.endsWith(object)) fetches++;
    return original(name, from);
  };
  const fills = await Promise.all([6, 7, 300, 699].map((block) => world.fill(block)));
  expect(fills).toEqual([7, 8, 301 & 255, 700 & 255]);
  expect(fetches).toBe(1);
  expect(sealedFiles(world)).toHaveLength(2);

  // Lost again, and object storage does not have it either.
  world.shared.files.close(path.layer.path);
  fs.rmSync(path.layer.path);
  const prefix = memory.names.find((name) => name.endsWith(object))!;
  const kept = (await memory.get(prefix)).bytes;
  await memory.put(prefix, kept.subarray(0, kept.length - 1));
  expect(errorOf(await world.read([400]))).toMatch(/is not here: .* is corrupt: it is cut short/);
  await memory.put(prefix, kept);
  expect(await world.fill(400)).toBe(401 & 255);
});

test("the server that had the tenant before is fenced before it calls anything uploaded", async () => {
  const storage = new MemoryStorage();
  const { receiver } = await backedUp(t, storage);
  const before = t.wal.end;
  const world = await attached(storage);
  const names = new Set(storage.names);
  t.addPages(5, 50);
  receiver.sendFrom(t.wal, before);
  const fenced = () => t.world.lines.find(({ msg }) => /may not write it/.test(msg));
  const { reason } = await until("it is fenced", fenced);
  expect(reason).toMatch(/written the manifest|attached to another server/);
  expect(uploadedOf(t.world)).toBe(before);
  // Nothing that the new one relies on has gone.
  for (const name of names) expect(storage.names).toContain(name);
  expect(await world.fill(4)).toBe(104);
  expect(uploadedOf(world)).toBeGreaterThanOrEqual(0);

  // It takes in no WAL any more, says so, and tells its source nothing; what it has is read.
  expect(receiver.refused).toMatchObject({ reason, retry: false });
  const { received } = t.world.main.facts.positions;
  const told = receiver.told.length;
  const after = t.wal.end;
  t.addPages(5, 60);
  receiver.sendFrom(t.wal, after);
  expect(await receiver.attach()).toEqual({ ok: false, error: reason });
  expect(t.world.main.facts.positions.received).toBe(received);
  expect(receiver.told).toHaveLength(told);
  expect([104, 54]).toContain(await t.world.fill(4));
});

test("a server that has nothing to upload finds out, too, that it was replaced", async () => {
  const storage = new MemoryStorage();
  await backedUp(t, storage);
  const { entry } = t.world.main;
  const source = { kind: "primary", conninfo: "host=127.0.0.1 port=1", slot: "s" } as const;
  t.world.tenant.catalog.change((change) => change.putTimeline({ ...entry, source }));
  t.world.main.ref.tell({ kind: "source-changed" });
  await until("nothing is left to be uploaded", async () => {
    const { manifest } = await readManifest(storage, TENANT, MAIN);
    const { layersWaiting, lagBytes } = t.world.main.backup!()!;
    const named = manifest!.timeline.source !== undefined && manifest!.garbage.length === 0;
    return named && layersWaiting + lagBytes === 0;
  });
  await attached(storage);
  const { catalog } = t.world.tenant;
  const { backup } = t.world.shared;
  await backup!.tenant(TENANT, catalog).look();
  const isFenced = () => t.world.main.backup!()?.state === "fenced";
  await until("it is fenced", isFenced);
  const { receiver } = t.world.main.facts;
  expect(receiver).toMatchObject({ connection: "refused", ends: [] });
  expect(receiver!.reason).toMatch(
    /attached to another server since .*; stop this one, or take it/,
  );
  // It stays so, whatever is said of where WAL comes from.
  t.world.main.ref.tell({ kind: "source-changed" });
  await t.world.ask((reply) => ({ kind: "wake", reply }));
  expect(t.world.main.facts.receiver).toMatchObject({ connection: "refused" });
});

test("a tenant that is not there, and one that is here already, are refused", async () => {
  const storage = new MemoryStorage();
  await expect(attached(storage)).rejects.toThrow(`holds no backup of tenant ${TENANT}`);
  expect(fs.readdirSync(path.join(both.dataDir, "tenants"))).toEqual([]);
  expect(BASE).toBeGreaterThan(0);
});
