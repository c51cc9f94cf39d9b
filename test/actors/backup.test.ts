// A timeline's backup: what is called uploaded is in object storage, nothing else is kept there, and a
// server that was replaced writes nothing more.

import fs from "node:fs";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { timelinePrefix, tenantName } from "../../src/core/backup/names.ts";
import type { Lsn } from "../../src/core/lsn.ts";
import { MemoryStorage } from "../../src/io/objects/memory.ts";
import { decodeTenant } from "../../src/store/manifest.ts";
import { readManifest } from "../../src/actors/backup-turn.ts";
import { FaultyStorage } from "../support/faulty-storage.ts";
import { until } from "../support/replication.ts";
import { timelineTest } from "../support/timeline-test.ts";
import { MAIN, TENANT, TimelineWorld } from "../support/timeline-world.ts";

const t = timelineTest();

// The scheduler's beat, quicker.
let beat: NodeJS.Timeout;
let others: TimelineWorld[] = [];
beforeEach(() => {
  others = [];
  beat = setInterval(() => {
    for (const world of [t.world, ...others]) world.tenants.tell({ kind: "tick" });
  }, 20);
});
afterEach(() => clearInterval(beat));

const uploaded = (): Lsn => t.world.main.facts.positions.uploaded;
const untilUploaded = (lsn: Lsn): Promise<unknown> => until("uploaded", () => uploaded() >= lsn);

async function manifestOf(storage: MemoryStorage) {
  const { manifest } = await readManifest(storage, TENANT, MAIN);
  if (manifest === undefined) throw new Error("there is no manifest");
  return manifest;
}

/** Objects of the timeline that its manifest does not name. */
async function unnamed(storage: MemoryStorage): Promise<readonly string[]> {
  const { layers, wal } = await manifestOf(storage);
  const prefix = timelinePrefix(TENANT, MAIN);
  const named = new Set([...layers.map(({ object }) => object!.name), ...wal.map((w) => w.name)]);
  return storage.names
    .filter((name) => name.startsWith(prefix) && !name.endsWith("manifest.json"))
    .map((name) => name.slice(prefix.length))
    .filter((name) => !named.has(name));
}

async function backedUpWorld(storage = new MemoryStorage()) {
  const faulty = new FaultyStorage(storage);
  await t.reopen({ storage: faulty });
  return { storage, faulty };
}

describe("backup", () => {
  test("what is durable is uploaded, and the source hears of it as applied", async () => {
    const { storage } = await backedUpWorld();
    t.addPages(20);
    const receiver = await t.takeIn();
    await untilUploaded(t.wal.end);
    const manifest = await manifestOf(storage);
    expect(manifest.wal.at(-1)!.to).toBe(t.wal.end);
    expect(manifest.layers).toHaveLength(1);
    await until("the source hears of it", () => {
      const told = receiver.told.findLast((msg) => msg.kind === "progress");
      return told?.kind === "progress" && told.positions.applied === t.wal.end;
    });
    const name = tenantName(TENANT);
    const tenant = decodeTenant((await storage.get(name)).bytes, name);
    expect(tenant).toMatchObject({ generation: 1, timelines: [MAIN] });
  });

  test("sealed and merged layers take the place of WAL and of older ones; the rest is deleted", async () => {
    const { storage } = await backedUpWorld();
    t.addPages(20);
    const receiver = await t.takeIn();
    await untilUploaded(t.wal.end);
    await t.seal();
    await until("the layer is named", async () => (await manifestOf(storage)).layers.length === 2);
    await until("WAL goes", async () => (await manifestOf(storage)).wal.length === 0);
    const from = t.wal.end;
    t.addPages(20, 100);
    receiver.sendFrom(t.wal, from);
    await receiver.untilDurable(t.wal.end);
    await t.seal();
    expect(await t.world.ask((reply) => ({ kind: "compact", reply }))).toMatchObject({ ok: true });
    await until("one layer", async () => (await manifestOf(storage)).layers.length === 1);
    await until("the rest is gone", async () => (await unnamed(storage)).length === 0);
    expect(uploaded()).toBe(t.wal.end);
    const { object } = (await manifestOf(storage)).layers[0]!;
    const noted = () => t.world.main.store!.map.layers[0]!.entry.object;
    await until("the catalog notes it", () => noted()?.name === object!.name);
  });

  test("goes on after a restart, and when object storage was away", async () => {
    const { storage, faulty } = await backedUpWorld();
    t.addPages(5);
    const receiver = await t.takeIn();
    await untilUploaded(t.wal.end);
    const first = uploaded();
    faulty.down = true;
    t.addPages(5, 50);
    receiver.sendFrom(t.wal, first);
    await receiver.untilDurable(t.wal.end);
    await until("it says so", () => t.world.lines.some(({ msg }) => /backup fails/.test(msg)));
    expect(uploaded()).toBe(first);
    faulty.down = false;
    await t.reopen({ storage });
    await untilUploaded(t.wal.end);
    expect((await manifestOf(storage)).generation).toBe(1);
  });

  test("a write whose success was reported as failure is found, not fought", async () => {
    const { storage, faulty } = await backedUpWorld();
    let lies = 3;
    faulty.decide = (call) => (call === "compareAndSwap" && lies-- > 0 ? "fail-after" : "none");
    t.addPages(5);
    await t.takeIn();
    await until("uploaded", () => uploaded() >= t.wal.end, 30_000);
    expect(lies).toBeLessThan(3);
    expect((await manifestOf(storage)).wal.at(-1)!.to).toBe(t.wal.end);
  });

  test("a copy of the data directory is fenced before it calls anything uploaded", async () => {
    const { storage } = await backedUpWorld();
    t.addPages(5);
    const receiver = await t.takeIn();
    await untilUploaded(t.wal.end);
    const copy = `${t.dataDir}-copy`;
    try {
      await t.world.close();
      fs.cpSync(t.dataDir, copy, { recursive: true });
      t.world = new TimelineWorld(t.dataDir, { storage });
      await t.world.loaded();
      const before = t.wal.end;
      t.addPages(5, 80);
      const again = await t.attached(before);
      again.sendFrom(t.wal, before);
      await untilUploaded(t.wal.end);
      const stale = new TimelineWorld(copy, { storage });
      others = [stale];
      await stale.loaded();
      const isFenced = () => stale.lines.find(({ msg }) => /may not write it/.test(msg));
      const { reason } = await until("it is fenced", isFenced);
      expect(reason).toMatch(/it is an old copy; remove it and attach the tenant anew/);
      expect(stale.main.facts.positions.uploaded).toBe(0);
      await stale.close();
    } finally {
      fs.rmSync(copy, { recursive: true, force: true });
    }
    expect(receiver.refused).toBeUndefined();
  });

  test("the backup of another data directory is not touched", async () => {
    const { storage } = await backedUpWorld();
    t.addPages(1);
    await t.takeIn();
    await untilUploaded(t.wal.end);
    const before = storage.names;
    const other = `${t.dataDir}-other`;
    const world = await TimelineWorld.create(other, { storage });
    others = [world];
    const isFenced = () => world.lines.find(({ msg }) => /may not write it/.test(msg));
    const { reason } = await until("it is fenced", isFenced);
    expect(reason).toMatch(/holds a backup of tenant a+ that another data directory made/);
    expect(storage.names).toEqual(before);
    await world.close();
    fs.rmSync(other, { recursive: true, force: true });
  });
});
