// Layers leave the local disk when object storage has them for certain, and come back when they are
// needed; whatever happens in between, nothing is missing and nothing is left behind.

import fs from "node:fs";
import { expect, test } from "vitest";
import { readManifest } from "../../src/actors/backup-turn.ts";
import { type EvictionState, spawnEvictor } from "../../src/actors/evictor.ts";
import type { Evicted } from "../../src/actors/timeline-residence.ts";
import { checkTenant } from "../../src/app/check.ts";
import { dumpKey } from "../../src/app/dump.ts";
import { keptFor } from "../../src/app/kept.ts";
import type { EvictionPolicy } from "../../src/core/backup/evict.ts";
import { manifestName } from "../../src/core/backup/names.ts";
import { MemoryStorage } from "../../src/io/objects/memory.ts";
import { encodeManifest } from "../../src/store/manifest.ts";
import { RM } from "../../src/protocol/wal/rmgr.ts";
import { machines } from "../support/attached-world.ts";
import {
  PAGES_OF_A_FILE,
  backedUp,
  noisyPage,
  pageLayer,
  sealedFiles,
  untilPagesAreNamed,
  uploadedOf,
} from "../support/backed-up.ts";
import { FaultyStorage } from "../support/faulty-storage.ts";
import { until } from "../support/replication.ts";
import { timelineTest } from "../support/timeline-test.ts";
import { MAIN, REL, TENANT } from "../support/timeline-world.ts";

const t = timelineTest();
const time = machines(t);

const evict = (files: readonly string[]): Promise<Evicted> =>
  t.world.ask<Evicted>((reply) => ({ kind: "evict", files, reply }));
const mayGo = () => t.world.main.evictable!();
const residence = () => t.world.main.residence!()!;
const untilMayGo = (): Promise<unknown> => until("a layer may go", () => mayGo().length > 0);

/** One layer of pages that object storage has, and that is the only one that may go. */
async function withPages(storage = new MemoryStorage()) {
  const faulty = new FaultyStorage(storage);
  const { receiver, sealed } = await backedUp(t, faulty, PAGES_OF_A_FILE);
  await untilPagesAreNamed(storage);
  await untilMayGo();
  const { entry, layer } = pageLayer(t.world);
  return { receiver, sealed, entry, layer, faulty, storage };
}

test("a layer that object storage has leaves the disk, and comes back once when it is read", async () => {
  const { entry, layer } = await withPages();
  expect(mayGo().map(({ file }) => file)).toEqual([entry.file]);
  const before = residence();
  expect(before).toMatchObject({ remoteLayers: 0, remoteBytes: 0, evictedLayers: 0 });
  expect(await evict([entry.file, "another.layer"])).toEqual({ layers: 1, bytes: entry.bytes });
  expect(fs.existsSync(layer.path)).toBe(false);
  expect(sealedFiles(t.world)).not.toContain(entry.file);
  expect(residence()).toMatchObject({
    ...{ remoteLayers: 1, remoteBytes: entry.bytes, evictedLayers: 1, evictedBytes: entry.bytes },
    localBytes: before.localBytes - entry.bytes,
  });
  expect(mayGo()).toEqual([]);
  const fills = await Promise.all([6, 300, 699].map((block) => t.world.fill(block)));
  expect(fills).toEqual([7, 301 & 255, 700 & 255]);
  expect(residence()).toMatchObject({ remoteLayers: 0, fetchedLayers: 1 });
  expect(mayGo().map(({ file }) => file)).toEqual([entry.file]);
});

test("what is not uploaded stays, and may go when it is", async () => {
  const faulty = new FaultyStorage(new MemoryStorage());
  faulty.down = true;
  await t.reopen({ storage: faulty });
  for (let block = 0; block < PAGES_OF_A_FILE; block++) t.wal.add(noisyPage(block));
  await t.takeIn();
  await t.seal();
  await t.world.ask((reply) => ({ kind: "compact", reply }));
  const { file } = pageLayer(t.world).entry;
  expect(mayGo()).toEqual([]);
  expect(await evict([file])).toEqual({ layers: 0, bytes: 0 });
  expect(sealedFiles(t.world)).toContain(file);
  faulty.down = false;
  await until("it may go", () => mayGo().some((one) => one.file === file), 30_000);
});

test("a server that was fenced lets nothing go any more", async () => {
  const { entry, storage, receiver } = await withPages();
  // Somebody else has taken the timeline over.
  const { manifest, version } = await readManifest(storage, TENANT, MAIN);
  const taken = encodeManifest({ ...manifest!, generation: 2, writer: "beef" });
  await storage.compareAndSwap(manifestName(TENANT, MAIN), taken, version!);
  const from = t.wal.end;
  t.addPages(3, 30);
  receiver.sendFrom(t.wal, from);
  await until("it is fenced", () => t.world.main.backup!()?.state === "fenced");
  expect(mayGo()).toEqual([]);
  expect(await evict([entry.file])).toEqual({ layers: 0, bytes: 0 });
  expect(sealedFiles(t.world)).toContain(entry.file);
});

test("a crash between two steps of leaving leaves no orphan and no missing layer", async () => {
  const { entry, layer, faulty } = await withPages();
  expect(entry.object).toBeDefined();
  await t.world.close();
  fs.renameSync(layer.path, `${layer.path}.evicted`); // as far as it came
  time.pause();
  await t.reopen({ storage: faulty });
  time.goOn();
  const left = fs.readdirSync(t.layersOf()).filter((name) => name.includes("evicted"));
  expect(left).toEqual([]);
  expect(t.world.main.store!.map.damaged).toEqual([]);
  expect(await t.world.fill(6)).toBe(7);
  expect(sealedFiles(t.world)).toContain(entry.file);
});

test("merging newer layers fetches the older one where a page builds on it", async () => {
  const { entry, receiver } = await withPages();
  await evict([entry.file]);
  // Records without images: each builds on the page in the layer that is away.
  for (let i = 0; i < 4; i++) {
    const from = t.wal.end;
    t.wal.add({ rmid: RM.BTREE, info: 0, blocks: [{ ...REL, block: 6, data: new Uint8Array(4) }] });
    receiver.sendFrom(t.wal, from);
    await receiver.untilDurable(t.wal.end);
    await t.seal();
  }
  const { store } = t.world.main;
  await until("they are merged", () => store!.tiers.length <= 2, 20_000);
  expect(residence()).toMatchObject({ evictedLayers: 1, fetchedLayers: 1 });
  expect(t.world.main.merge!().failure).toBeUndefined();
  await until("uploaded", () => uploadedOf(t.world) >= t.wal.end);
});

test("a check counts what is away, or fetches it; a dump fetches what it needs", async () => {
  const { entry } = await withPages();
  await evict([entry.file]);
  const { shared, tenant } = t.world;
  const counted = await checkTenant(shared, tenant, "count");
  expect(counted).toMatchObject({ ok: true, value: { remote_layers: 1, problems: [] } });
  const target = { kind: "rel", rel: REL, block: 300 } as const;
  const { versions } = await dumpKey(t.world.main, target, t.wal.end);
  expect(versions.map(({ layer }) => layer)).toEqual([entry.file]);
  await evict([entry.file]);
  const all = await checkTenant(shared, tenant, "fetch");
  expect(all).toMatchObject({ ok: true, value: { remote_layers: 0, problems: [] } });
  expect(sealedFiles(t.world)).toContain(entry.file);
});

test("why history is kept is not known of layers that are away, until they are fetched", async () => {
  const { entry, layer, receiver } = await withPages();
  const { shared, tenant, main } = t.world;
  await evict([entry.file]);
  expect(await keptFor(shared, tenant, main, "leave")).toBe("away");
  expect(sealedFiles(t.world)).not.toContain(entry.file);
  const known = await keptFor(shared, tenant, main, "fetch");
  expect(known).toMatchObject({ supersededBytes: 0, pins: new Map() });
  expect(sealedFiles(t.world)).toContain(entry.file);
  await evict([entry.file]);
  expect(await keptFor(shared, tenant, main, "leave")).toEqual(known); // it is remembered

  // Other layers: it is walked anew. And one was lost that nobody has missed yet.
  const from = t.wal.end;
  t.addPages(1, 9);
  receiver.sendFrom(t.wal, from);
  await receiver.untilDurable(t.wal.end);
  await t.seal();
  expect(residence().remoteLayers).toBe(1);
  expect(await t.world.fill(300)).toBe(301 & 255);
  expect(residence().remoteLayers).toBe(0);
  fs.rmSync(layer.path);
  shared.files.close(layer.path);
  expect(await keptFor(shared, tenant, main, "leave")).toBe("away");
  expect(await keptFor(shared, tenant, main, "fetch")).toMatchObject({ pins: new Map() });
  expect(sealedFiles(t.world)).toContain(entry.file);
});

test("the evictor drains the disk down to the low mark, and says when it cannot", async () => {
  const { entry } = await withPages();
  const state: EvictionState = { layers: 0, bytes: 0, short: undefined };
  const bytes = (value: number) => ({ of: "bytes", value }) as const;
  const policy: { -readonly [K in keyof EvictionPolicy]: EvictionPolicy[K] } = {
    ...{ marks: { high: bytes(1), low: bytes(0) }, ageMs: undefined },
    floorBytes: residence().localBytes,
  };
  const { directory, log, clock } = t.world.shared;
  const disk = () => ({ usedBytes: 0, totalBytes: 1 });
  const restart = { crashesMax: 0, windowMs: 1, backOffMs: 0, backOffMsMax: 0 };
  const evictor = spawnEvictor(t.world.system.root, restart, {
    ...{ directory, log, clock, state, disk, policy },
  });
  evictor.tell({ kind: "look" });
  await until("it says so", () => state.short);
  expect(state.short).toMatch(/too much on the disk, and no more layers may leave it/);
  expect(sealedFiles(t.world)).toContain(entry.file);
  policy.floorBytes = 0;
  evictor.tell({ kind: "look" });
  await until("it is gone", () => state.layers === 1);
  expect(sealedFiles(t.world)).not.toContain(entry.file);
  expect(state.bytes).toBe(entry.bytes);
  evictor.stop();
});
