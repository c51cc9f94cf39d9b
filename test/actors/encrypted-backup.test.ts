// A backup that is encrypted: nothing of a page is in object storage in the clear, another machine with
// the key takes the tenant over, one without it is refused before it has taken anything.

import fs from "node:fs";
import { afterEach, beforeEach, expect, test } from "vitest";
import { readManifest } from "../../src/actors/backup-turn.ts";
import { manifestName, tenantName } from "../../src/core/backup/names.ts";
import type { ObjectStorage } from "../../src/core/object-storage.ts";
import { EncryptedStorage } from "../../src/io/objects/encrypted.ts";
import {
  type MasterKeys,
  NO_MASTER_KEYS,
  parseMasterKeys,
} from "../../src/io/objects/master-keys.ts";
import { MemoryStorage } from "../../src/io/objects/memory.ts";
import { TenantKeys } from "../../src/io/objects/tenant-keys.ts";
import { attachedWorld } from "../support/attached-world.ts";
import { until } from "../support/replication.ts";
import { timelineTest } from "../support/timeline-test.ts";
import { MAIN, TENANT, TimelineWorld } from "../support/timeline-world.ts";

const t = timelineTest();
const KEYS = parseMasterKeys(`k1:${"0f".repeat(32)}`, "test");
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

const encrypted = (below: ObjectStorage, masters: MasterKeys): ObjectStorage =>
  new EncryptedStorage(below, new TenantKeys(below, masters, "refused"));

/** Another machine takes the tenant over. */
const attach = async (storage: ObjectStorage): Promise<TimelineWorld> =>
  (other = await attachedWorld(`${t.dataDir}-new`, storage));

test("only who has the master key can take it over; the others change nothing", async () => {
  const below = new MemoryStorage();
  const storage = encrypted(below, KEYS);
  await t.reopen({ storage });
  t.addPages(20, 65);
  const receiver = await t.takeIn();
  await t.seal();
  const sealed = t.wal.end;
  t.addPages(2, 97);
  receiver.sendFrom(t.wal, sealed);
  await receiver.untilDurable(t.wal.end);
  await until("all is uploaded", async () => {
    const { manifest } = await readManifest(storage, TENANT, MAIN);
    const named = (manifest?.timeline.sealedLsn ?? 0) >= sealed && manifest!.garbage.length === 0;
    return named && t.world.main.facts.positions.uploaded >= t.wal.end;
  });
  await t.world.close();
  for (const name of below.names) {
    const bytes = Buffer.from((await below.get(name)).bytes);
    expect(bytes.includes("a".repeat(64)), name).toBe(false);
    expect(bytes.includes(`"sealedLsn"`), name).toBe(false);
  }
  const before = await Promise.all(
    [tenantName(TENANT), manifestName(TENANT, MAIN)].map((name) => below.get(name)),
  );
  const names = below.names;
  await expect(attach(encrypted(below, NO_MASTER_KEYS))).rejects.toThrow(
    /is encrypted with master key "k1", and none was given/,
  );
  const wrong = parseMasterKeys(`k1:${"1f".repeat(32)}`, "test");
  await expect(attach(encrypted(below, wrong))).rejects.toThrow("by that name is another one");
  const after = [tenantName(TENANT), manifestName(TENANT, MAIN)].map((name) => below.get(name));
  expect(await Promise.all(after)).toEqual(before);
  expect(below.names).toEqual(names);

  const world = await attach(encrypted(below, KEYS));
  expect(world.main.facts.positions.visible).toBe(t.wal.end);
  expect(await Promise.all([0, 1, 2, 19].map((block) => world.fill(block)))).toEqual([
    97, 98, 67, 84,
  ]);
  t.world = new TimelineWorld(t.dataDir);
});
