// What is read is in the manifest as heat, and whoever attaches the tenant fetches the hot layers first.

import fs from "node:fs";
import fc from "fast-check";
import { expect, test } from "vitest";
import { readManifest } from "../../src/actors/backup-turn.ts";
import { manifestName } from "../../src/core/backup/names.ts";
import { planWarmUp } from "../../src/core/backup/warm-up.ts";
import { MemoryStorage } from "../../src/io/objects/memory.ts";
import { decodeManifest, encodeManifest } from "../../src/store/manifest.ts";
import { machines } from "../support/attached-world.ts";
import {
  PAGES_OF_A_FILE,
  backedUp,
  pageLayer,
  sealedFiles,
  untilPagesAreNamed,
} from "../support/backed-up.ts";
import { FaultyStorage } from "../support/faulty-storage.ts";
import { until } from "../support/replication.ts";
import { timelineTest } from "../support/timeline-test.ts";
import { MAIN, TENANT, type TimelineWorld } from "../support/timeline-world.ts";

const t = timelineTest();
const both = machines(t);

test("a layer that is read has its heat in the manifest, and is fetched after an attach, or the restart after it", async () => {
  const storage = new MemoryStorage();
  const { receiver } = await backedUp(t, storage, PAGES_OF_A_FILE);
  await untilPagesAreNamed(storage);
  const { file } = pageLayer(t.world).entry;
  for (let i = 0; i < 20; i++) await t.world.read([300 + i]);
  const from = t.wal.end;
  t.addPages(1, 7);
  receiver.sendFrom(t.wal, from);
  const found = async () => {
    const { manifest } = await readManifest(storage, TENANT, MAIN);
    return manifest?.heat?.some((one) => one.file === file && one.heat >= 3) === true;
  };
  await until("its heat is in the manifest", found);

  const cold = await both.attach(storage, 0);
  expect(cold.shared.backup!.warmUps.size).toBe(0);
  expect(sealedFiles(cold)).not.toContain(file);
  await cold.close();
  fs.rmSync(both.dataDir, { recursive: true });

  // It cannot be had; and after a restart that goes on where the attach was.
  const faulty = new FaultyStorage(storage);
  const { name } = pageLayer(t.world).entry.object!;
  const original = faulty.getStream.bind(faulty);
  faulty.getStream = (wanted, from) => {
    if (wanted.endsWith(name)) throw new Error("it is away");
    return original(wanted, from);
  };
  const { bytes } = pageLayer(t.world).entry;
  const warm = await both.attach(faulty, 2 * bytes);
  const factsOf = (world: TimelineWorld) => world.shared.backup!.warmUps.get(TENANT);
  await until("it is tried", () => factsOf(warm)?.failed === 1);
  expect(sealedFiles(warm)).not.toContain(file);
  await warm.close();
  const again = await both.reopen(storage);
  await until("it is here", () => factsOf(again)?.doneLayers === 1);
  expect(factsOf(again)).toMatchObject({ layers: 1, doneBytes: bytes, failed: 0 });
  expect(sealedFiles(again)).toContain(file);
  await until("that is noted", () => {
    const noted = again.tenant.catalog.setting("warm-up");
    return Array.isArray(noted) && noted.length === 0;
  });
});

test("manifests without heat are written as ever; both are read, and a later format is refused by name", async () => {
  const storage = new MemoryStorage();
  await backedUp(t, storage);
  const { manifest } = await readManifest(storage, TENANT, MAIN);
  const { heat: _none, ...old } = manifest!;
  const bytes = encodeManifest(old);
  expect(Buffer.from(bytes).toString()).toMatch(/^\{"format":1,/);
  expect(decodeManifest(bytes, "m").heat).toBeUndefined();
  const heat = [{ file: "a.layer", heat: 5 }];
  const hot = encodeManifest({ ...old, heat });
  expect(Buffer.from(hot).toString()).toMatch(/^\{"format":2,/);
  expect(decodeManifest(hot, "m").heat).toEqual(heat);
  const later = Buffer.from(Buffer.from(hot).toString().replace('"format":2', '"format":3'));
  const name = manifestName(TENANT, MAIN);
  expect(() => decodeManifest(later, name)).toThrow(
    `${name} has format 3, this program reads 1 and 2; use the version of pageserver that wrote it`,
  );
});

test("the hottest first, as far as the budget goes", () => {
  const layer = fc.record({ bytes: fc.integer({ min: 1, max: 100 }), heat: fc.nat({ max: 8 }) });
  fc.assert(
    fc.property(fc.array(layer), fc.nat({ max: 1_000 }), (layers, budget) => {
      const plan = planWarmUp(layers, budget);
      const sum = plan.reduce((total, { bytes }) => total + bytes, 0);
      expect(sum).toBeLessThanOrEqual(budget);
      expect(plan.every(({ heat }) => heat > 0)).toBe(true);
      plan.forEach((one, i) => expect(one.heat).toBeLessThanOrEqual(plan[i - 1]?.heat ?? 8));
      const left = layers.filter((one) => one.heat > 0 && !plan.includes(one));
      for (const one of left) expect(sum + one.bytes).toBeGreaterThan(budget);
    }),
  );
});
