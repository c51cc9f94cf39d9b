// A restore drill over a real backup: a sound one passes; whatever keeps it from being restored is found, and
// named by its object.

import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { readManifest } from "../../src/actors/backup-turn.ts";
import { drillAndNote, spawnDriller } from "../../src/actors/driller.ts";
import { drillRecord } from "../../src/actors/drill-records.ts";
import { alarmsOf } from "../../src/app/status.ts";
import type { DrillOutcome } from "../../src/core/backup/drill.ts";
import { manifestName, tenantName, timelinePrefix } from "../../src/core/backup/names.ts";
import { ObjectError, type ObjectStorage } from "../../src/core/object-storage.ts";
import { EncryptedStorage } from "../../src/io/objects/encrypted.ts";
import { LocalStorage } from "../../src/io/objects/local.ts";
import { parseMasterKeys } from "../../src/io/objects/master-keys.ts";
import { TenantKeys } from "../../src/io/objects/tenant-keys.ts";
import type { LayerEntry } from "../../src/store/catalog-entries.ts";
import { type TimelineManifest, encodeManifest } from "../../src/store/manifest.ts";
import { uploadedOf } from "../support/backed-up.ts";
import { flip } from "../support/damaged-storage.ts";
import { until } from "../support/replication.ts";
import { timelineTest } from "../support/timeline-test.ts";
import { MAIN, TENANT } from "../support/timeline-world.ts";

const t = timelineTest();
const PREFIX = timelinePrefix(TENANT, MAIN);
let beat: NodeJS.Timeout;
let root: string;
let storage: ObjectStorage;

beforeEach(() => {
  root = fs.mkdtempSync(path.join(os.tmpdir(), "drill-test-"));
  storage = new LocalStorage(root);
  beat = setInterval(() => t.world.tenants.tell({ kind: "tick" }), 20);
});
afterEach(() => {
  clearInterval(beat);
  fs.rmSync(root, { recursive: true });
});

const ROOM = { usedBytes: 0, totalBytes: 2 ** 50 };

/** What a drill is given here. `from`: instead of where the backup goes. */
function depsOf(from = t.world.shared.backup!.options.storage, disk = ROOM) {
  const { backup, directory, dataDir, redo, clock, log } = t.world.shared;
  const options = { ...backup!.options, storage: from };
  const seen = Object.assign(Object.create(backup!) as NonNullable<typeof backup>, { options });
  return { directory, backup: seen, dataDir, redo, clock, log, disk: () => disk };
}

function drill(
  options: {
    readonly from?: ObjectStorage;
    readonly id?: typeof MAIN;
    readonly disk?: typeof ROOM;
  } = {},
): Promise<DrillOutcome> {
  const { from, id = MAIN, disk } = options;
  const signal = new AbortController().signal;
  const given = { seed: 1, signal, onBytes: () => {} };
  const timeline = t.world.tenant.timelines.get(id)!;
  return drillAndNote(depsOf(from, disk), t.world.tenant, timeline, given);
}

const record = (id = MAIN) => drillRecord(t.world.tenant, id);
const alarms = (): readonly string[] => alarmsOf(t.world.shared.directory);
const manifest = async (id = MAIN): Promise<TimelineManifest> =>
  (await readManifest(storage, TENANT, id)).manifest!;
const nameOf = ({ object }: LayerEntry): string => PREFIX + object!.name;

/** Three layers: the base, 20 pages, and the same pages again. The last is the newest. */
async function backedUp(given = storage): Promise<readonly LayerEntry[]> {
  await t.reopen({ storage: given });
  t.addPages(20);
  const receiver = await t.takeIn();
  await t.seal();
  const sealed = t.wal.end;
  t.addPages(20, 100);
  receiver.sendFrom(t.wal, sealed);
  await receiver.untilDurable(t.wal.end);
  await t.seal();
  const named = await until("all is uploaded", async () => {
    const { manifest: now } = await readManifest(given, TENANT, MAIN);
    const settled = now?.layers.length === 3 && now.garbage.length === 0;
    return (
      settled && now.timeline.sealedLsn >= t.wal.end && uploadedOf(t.world) >= t.wal.end && now
    );
  });
  return named.layers.toSorted((x, y) => x.sequence - y.sequence);
}

/** Writes the manifest as `change` makes it. */
async function forge(change: (now: TimelineManifest) => Partial<TimelineManifest>): Promise<void> {
  const now = await manifest();
  await storage.put(manifestName(TENANT, MAIN), encodeManifest({ ...now, ...change(now) }));
}

test("a sound backup passes; what was verified outlives a restart, and nothing is left in the scratch folder", async () => {
  await backedUp();
  const outcome = await drill();
  expect(outcome).toMatchObject({ problems: [], skipped: 0, layers: 3 });
  // 8 of 20 pages of two layers, in the backup and here, as of two LSNs; the newest LSN may be one of them.
  expect(outcome.pages).toBeGreaterThan(32);
  const { sealedLsn } = (await manifest()).timeline;
  expect(outcome.upTo).toBe(sealedLsn);
  expect(record()).toMatchObject({ verified: { lsn: sealedLsn }, problems: [] });
  expect(fs.existsSync(path.join(t.dataDir, "cache", "drill"))).toBe(false);
  const before = record();
  await t.reopen({ storage });
  expect(record()).toEqual(before);
  expect(alarms()).toEqual([]);
});

test("a damaged layer is corrupt, is an alarm with the remedy, and leaves what was verified before", async () => {
  const [, pages] = await backedUp();
  await drill();
  const { verified } = record()!;
  await flip(storage, nameOf(pages!), 100);
  const outcome = await drill();
  expect(outcome.problems).toMatchObject([{ kind: "corrupt", name: nameOf(pages!) }]);
  expect(record()).toMatchObject({ verified, problems: outcome.problems });
  const [alarm] = alarms();
  expect(alarm).toContain(
    `timeline "main": a restore drill of its backup failed: ${nameOf(pages!)}`,
  );
  expect(alarm).toContain(`run pageserver scrub ${TENANT}`);
  await flip(storage, nameOf(pages!), 100);
  expect((await drill()).problems).toEqual([]);
  expect(alarms()).toEqual([]);
});

test("a layer that is gone is missing", async () => {
  const [, , newest] = await backedUp();
  await storage.deleteMany([nameOf(newest!)]);
  expect((await drill()).problems).toMatchObject([{ kind: "missing", name: nameOf(newest!) }]);
});

test("a layer's object that holds another layer is corrupt", async () => {
  const [, pages, newest] = await backedUp();
  await storage.put(nameOf(newest!), (await storage.get(nameOf(pages!))).bytes);
  expect((await drill()).problems).toMatchObject([{ kind: "corrupt", name: nameOf(newest!) }]);
});

test("a manifest that gives a layer another one's object and checksum is found out by the layer itself", async () => {
  const [, pages, newest] = await backedUp();
  const { object, bytes, crc } = pages!;
  await forge(({ layers }) => ({
    layers: layers.map((one) => (one.file === newest!.file ? { ...one, object, bytes, crc } : one)),
  }));
  const { problems } = await drill();
  expect(problems).toMatchObject([{ kind: "wrong", name: nameOf(pages!) }]);
  expect(problems[0]!.detail).toMatch(/the layer says firstLsn \d+, the manifest says \d+/);
});

test("a manifest that leaves a layer out is found out by the pages", async () => {
  const [, , newest] = await backedUp();
  await forge(({ layers }) => ({ layers: layers.filter(({ file }) => file !== newest!.file) }));
  const { problems } = await drill();
  expect(problems.length).toBeGreaterThan(0);
  expect(new Set(problems.map(({ kind }) => kind))).toEqual(new Set(["differs"]));
  expect(problems[0]!.detail).toMatch(/page 1663\/5\/16384.0 block \d+ at .* differs/);
});

test("a manifest or list that is damaged, gone or another timeline's is named", async () => {
  await backedUp();
  const name = manifestName(TENANT, MAIN);
  const { bytes } = await storage.get(name);
  await flip(storage, name, 300);
  expect((await drill()).problems).toMatchObject([{ kind: "corrupt", name }]);
  await storage.deleteMany([name]);
  expect((await drill()).problems).toMatchObject([{ kind: "missing", name }]);
  await storage.put(name, bytes);
  const list = await storage.get(tenantName(TENANT));
  await storage.deleteMany([tenantName(TENANT)]);
  expect((await drill()).problems).toMatchObject([{ kind: "missing", name: tenantName(TENANT) }]);
  await storage.put(tenantName(TENANT), list.bytes);
  expect((await drill()).problems).toEqual([]);
});

test("another master key, or none, restores nothing", async () => {
  const key = (id: string, digit: string) => parseMasterKeys(`${id}:${digit.repeat(64)}`, "test");
  const withKey = (masters: ReturnType<typeof key>): ObjectStorage =>
    new EncryptedStorage(storage, new TenantKeys(storage, masters, "refused"));
  const right = withKey(key("k1", "a"));
  await backedUp(right);
  expect(await drill({ from: right })).toMatchObject({ problems: [] });
  const name = manifestName(TENANT, MAIN);
  for (const wrong of [withKey(key("k2", "b")), withKey(key("k1", "b"))]) {
    expect((await drill({ from: wrong })).problems).toMatchObject([{ kind: "corrupt", name }]);
  }
});

test("a layer that a newer manifest names no more is no problem when it is gone", async () => {
  const [, , newest] = await backedUp();
  const whole = storage;
  const { layers, timeline, wal, ...rest } = await manifest();
  const left = layers.filter(({ file }) => file !== newest!.file);
  const next = encodeManifest({ ...rest, timeline, wal, layers: left });
  let reads = 0;
  const replaced = Object.assign(Object.create(whole) as ObjectStorage, {
    get: async (name: string) => {
      const found = await whole.get(name);
      return name !== manifestName(TENANT, MAIN) || ++reads === 1
        ? found
        : { ...found, bytes: next };
    },
  });
  await storage.deleteMany([nameOf(newest!)]);
  const outcome = await drill({ from: replaced });
  expect(outcome.problems).toEqual([]);
  expect(outcome.skipped).toBeGreaterThan(0);
});

test("a storage that is away, and a disk without room, are a drill that failed, and no problem of the backup", async () => {
  await backedUp();
  await drill();
  const { verified } = record()!;
  const away = Object.assign(Object.create(storage) as ObjectStorage, {
    get: () => Promise.reject(new ObjectError("unavailable", "object storage is away")),
  });
  await expect(drill({ from: away })).rejects.toThrow("object storage is away");
  expect(record()).toMatchObject({ verified, problems: [], failure: "object storage is away" });
  const full = drill({ disk: { usedBytes: 100, totalBytes: 200 } });
  await expect(full).rejects.toThrow(/wants .* of free disk, there are .*: free disk space/);
  expect(alarms()).toEqual([]);
});

test("a branch is restored with its ancestor's layers", async () => {
  await backedUp();
  const id = await t.branchAt(t.wal.end);
  await until("it is backed up", async () => {
    const { manifest: now } = await readManifest(storage, TENANT, id);
    return now !== undefined && uploadedOf(t.world, id) > 0;
  });
  expect(await drill({ id })).toMatchObject({ problems: [] });
  expect(record(id)).toMatchObject({ verified: { lsn: t.wal.end } });
  const [, pages] = (await manifest()).layers.toSorted((x, y) => x.sequence - y.sequence);
  await flip(storage, nameOf(pages!), 100);
  expect((await drill({ id })).problems).toMatchObject([{ kind: "corrupt", name: nameOf(pages!) }]);
});

test("on a schedule: what is due is drilled, and what a crash left in the scratch folder goes", async () => {
  await backedUp();
  const scratch = path.join(t.dataDir, "cache", "drill");
  fs.mkdirSync(scratch, { recursive: true });
  fs.writeFileSync(path.join(scratch, "left"), "x");
  const restart = { crashesMax: 0, windowMs: 1, backOffMs: 1, backOffMsMax: 1 };
  const deps = { ...depsOf(), everyMs: 3_600_000 };
  const driller = spawnDriller(t.world.system.root, restart, deps);
  await until("the scratch folder is gone", () => !fs.existsSync(scratch));
  driller.ref.tell({ kind: "look" });
  const first = await until("it is drilled", record);
  expect(first.verified).toBeDefined();
  await until("it is over", () => deps.backup.drills.running === undefined);
  expect(deps.backup.drills).toMatchObject({ done: 1, failed: 0 });
  driller.ref.tell({ kind: "look" });
  await driller.stop();
  expect(record()).toBe(first);
});
