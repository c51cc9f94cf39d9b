// A machine that has nothing takes a tenant over: what was called uploaded is read there, layers come
// when they are read, and whoever had the tenant before is fenced.

import fs from "node:fs";
import path from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { readManifest } from "../../src/actors/backup-turn.ts";
import type { Lsn } from "../../src/core/lsn.ts";
import type { ObjectStorage } from "../../src/core/object-storage.ts";
import { MemoryStorage } from "../../src/io/objects/memory.ts";
import { layersPath, timelinePath } from "../../src/store/data-dir.ts";
import { PAGE_BYTES } from "../../src/core/page.ts";
import { RM, XLOG } from "../../src/protocol/wal/rmgr.ts";
import type { RecordSpec } from "../../src/protocol/wal/writer.ts";
import { noise } from "../io/objects/conformance.ts";
import { attachedWorld } from "../support/attached-world.ts";
import { FaultyStorage } from "../support/faulty-storage.ts";
import { until } from "../support/replication.ts";
import { errorOf, timelineTest } from "../support/timeline-test.ts";
import { BASE, MAIN, REL, TENANT, TestReceiver, TimelineWorld } from "../support/timeline-world.ts";

const t = timelineTest();
let beat: NodeJS.Timeout;
let other: TimelineWorld | undefined;

beforeEach(() => {
  other = undefined;
  beat = setInterval(() => {
    for (const world of [t.world, other]) world?.tenants.tell({ kind: "tick" });
  }, 20);
});
afterEach(async () => {
  clearInterval(beat);
  await other?.close();
  fs.rmSync(`${t.dataDir}-new`, { recursive: true, force: true });
});

const uploadedOf = (world: TimelineWorld, id = MAIN): Lsn =>
  world.tenant.timelines.get(id)!.facts.positions.uploaded;

/** Another machine takes the tenant over. */
const attached = async (storage: ObjectStorage): Promise<TimelineWorld> =>
  (other = await attachedWorld(`${t.dataDir}-new`, storage));

/** Page `block`, last byte block + 1, and for the rest bytes that cannot be compressed. */
function noisyPage(block: number): RecordSpec {
  const { all } = noise(PAGE_BYTES, block + 1);
  all[PAGE_BYTES - 1] = block + 1;
  return { rmid: RM.XLOG, info: XLOG.FPI, blocks: [{ ...REL, block, image: { bytes: all } }] };
}

/** Backed up: `pages` pages in one layer of pages and one of the rest, and 5 more in WAL. */
async function backedUp(storage: ObjectStorage, pages = 5) {
  await t.reopen({ storage });
  for (let block = 0; block < pages; block++) t.wal.add(noisyPage(block));
  const receiver = await t.takeIn();
  await t.seal();
  await t.world.ask((reply) => ({ kind: "compact", reply }));
  const sealed = t.wal.end;
  t.addPages(5, 100);
  receiver.sendFrom(t.wal, sealed);
  await receiver.untilDurable(t.wal.end);
  await until("uploaded", () => uploadedOf(t.world) >= t.wal.end);
  return { receiver, sealed };
}

const sealedLayers = (world: TimelineWorld): number => {
  const directory = layersPath(timelinePath(world.shared.dataDir, TENANT, MAIN));
  return fs.readdirSync(directory).filter((name) => name.endsWith(".layer")).length;
};

test("what was uploaded is read elsewhere, and WAL goes on there", async () => {
  const storage = new MemoryStorage();
  const { sealed } = await backedUp(storage);
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
  const { sealed } = await backedUp(storage);
  const branch = await t.branchAt(sealed);
  await until("the branch is uploaded", () => uploadedOf(t.world, branch) >= sealed);
  const world = await attached(storage);
  await world.loaded(branch);
  expect(await world.fill(2, { id: branch })).toBe(3);
  expect(await world.fill(2)).toBe(102);
});

test("layers of pages come when they are read, once for many readers; a failure says so", async () => {
  const memory = new MemoryStorage();
  await backedUp(memory, 700);
  await until("layers are named", async () => {
    const { manifest } = await readManifest(memory, TENANT, MAIN);
    return manifest!.layers.some(({ kinds }) => kinds === 1) && manifest!.garbage.length === 0;
  });
  const storage = new FaultyStorage(memory);
  let fetches = 0;
  const world = await attached(storage);
  expect(sealedLayers(world)).toBe(1);
  const path = world.main.store!.map.layers.find(({ entry }) => entry.kinds === 1)!;
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
  expect(sealedLayers(world)).toBe(2);

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
  const { receiver } = await backedUp(storage);
  const before = t.wal.end;
  const world = await attached(storage);
  const names = new Set(storage.names);
  t.addPages(5, 50);
  receiver.sendFrom(t.wal, before);
  await receiver.untilDurable(t.wal.end);
  const fenced = () => t.world.lines.find(({ msg }) => /may not write it/.test(msg));
  const { reason } = await until("it is fenced", fenced);
  expect(reason).toMatch(/written the manifest|attached to another server/);
  expect(uploadedOf(t.world)).toBe(before);
  // Nothing that the new one relies on has gone.
  for (const name of names) expect(storage.names).toContain(name);
  expect(await world.fill(4)).toBe(104);
  expect(uploadedOf(world)).toBeGreaterThanOrEqual(0);
});

test("a tenant that is not there, and one that is here already, are refused", async () => {
  const storage = new MemoryStorage();
  await expect(attached(storage)).rejects.toThrow(`holds no backup of tenant ${TENANT}`);
  expect(fs.readdirSync(path.join(`${t.dataDir}-new`, "tenants"))).toEqual([]);
  expect(BASE).toBeGreaterThan(0);
});
