// A backup that is encrypted: nothing of a page is in object storage in the clear, another machine with
// the key takes the tenant over, one without it is refused before it has taken anything.

import { expect, test } from "vitest";
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
import { machines } from "../support/attached-world.ts";
import { uploadedWhole } from "../support/backed-up.ts";
import { timelineTest } from "../support/timeline-test.ts";
import { MAIN, TENANT, TimelineWorld } from "../support/timeline-world.ts";

const t = timelineTest();
const KEYS = parseMasterKeys(`k1:${"0f".repeat(32)}`, "test");
const { attach } = machines(t);

const encrypted = (below: ObjectStorage, masters: MasterKeys): ObjectStorage =>
  new EncryptedStorage(below, new TenantKeys(below, masters, "refused"));

test("only who has the master key can take it over; the others change nothing", async () => {
  const below = new MemoryStorage();
  const storage = encrypted(below, KEYS);
  await t.reopen({ storage });
  await uploadedWhole(t, storage, 65);
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
