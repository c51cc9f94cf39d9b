// Backups that cannot be used as they are: each is refused with one sentence that names the thing and the
// remedy, nothing of it is changed, and nothing half made stays here.

import fs from "node:fs";
import fsp from "node:fs/promises";
import path from "node:path";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { manifestName } from "../../src/core/backup/names.ts";
import { MemoryStorage } from "../../src/io/objects/memory.ts";
import { machines } from "../support/attached-world.ts";
import { uploadedWhole } from "../support/backed-up.ts";
import { flip, nameWith } from "../support/damaged-storage.ts";
import { until } from "../support/replication.ts";
import { errorOf, timelineTest } from "../support/timeline-test.ts";
import { MAIN, TENANT, TimelineWorld } from "../support/timeline-world.ts";

const t = timelineTest();
const MANIFEST = manifestName(TENANT, MAIN);
let storage: MemoryStorage;
const both = machines(t);

// Backed up, in a layer and some WAL, and stopped.
beforeEach(async () => {
  storage = new MemoryStorage(Date.now);
  await t.reopen({ storage });
  await uploadedWhole(t, storage);
  await t.world.close();
});
afterEach(() => {
  vi.restoreAllMocks();
  t.world = new TimelineWorld(t.dataDir);
});

const attach = (): Promise<TimelineWorld> => both.attach(storage);
const nothingHere = (): void => {
  const here = fs.readdirSync(both.dataDir, { recursive: true });
  expect(here).toEqual(["tenants"]);
};
const everything = () =>
  Promise.all(storage.names.map(async (name) => [name, (await storage.get(name)).bytes] as const));

test("a manifest of a newer version: no attach takes it, no server writes over it", async () => {
  const { bytes } = await storage.get(MANIFEST);
  const newer = Buffer.from(bytes).toString().replace('"format":1', '"format":9');
  await storage.put(MANIFEST, Buffer.from(newer));
  const before = await everything();
  const sentence =
    "has format 9, this program reads 1 and 2; use the version of pageserver that wrote it";
  await expect(attach()).rejects.toThrow(sentence);
  nothingHere();
  t.world = new TimelineWorld(t.dataDir, { storage });
  await t.world.loaded();
  const failing = () => t.world.main.backup?.()?.state === "failing";
  await until("the backup fails", failing);
  expect(t.world.main.backup!()!.reason).toContain(sentence);
  expect(await t.world.fill(1)).toBe(34);
  await t.world.close();
  expect(await everything()).toEqual(before);
});

test("WAL that is corrupt in object storage: named, and nothing half made stays", async () => {
  await flip(storage, await nameWith(storage, "/wal/"), 50);
  await expect(attach()).rejects.toThrow(
    /wal\/.* in memory is corrupt: its checksum is wrong; restore it from an older version of it/,
  );
  nothingHere();
});

const noSpace = (): Error => Object.assign(new Error("ENOSPC: no space"), { code: "ENOSPC" });

test("a full disk while a tenant is attached: nothing half made stays, and then it goes", async () => {
  const open = fs.openSync;
  vi.spyOn(fs, "openSync").mockImplementation((file, ...rest) => {
    if (/attaching-.*\/wal\/[0-9A-F]{24}$/.test(String(file))) throw noSpace();
    return open(file, ...rest);
  });
  await expect(attach()).rejects.toThrow(/no space left to write .*; free disk space/);
  nothingHere();
  vi.restoreAllMocks();
  const world = await attach();
  expect(await world.fill(1)).toBe(34);
});

test("a full disk while a layer is fetched: that read says so, and later ones go", async () => {
  const world = await attach();
  const layer =
    world.main.store!.map.layers.find(({ entry }) => entry.kinds === 1) ??
    world.main.store!.map.layers[0]!;
  world.shared.files.close(layer.layer.path);
  fs.rmSync(layer.layer.path, { force: true });
  const open = fsp.open;
  vi.spyOn(fsp, "open").mockImplementation((file, ...rest) =>
    String(file).endsWith(".fetching") ? Promise.reject(noSpace()) : open(file, ...rest),
  );
  expect(errorOf(await world.read([19]))).toMatch(/no space left to write .*; free disk space/);
  vi.restoreAllMocks();
  expect(await world.fill(19)).toBe(20);
  expect(
    fs.readdirSync(path.dirname(layer.layer.path)).filter((f) => f.endsWith(".fetching")),
  ).toEqual([]);
});
