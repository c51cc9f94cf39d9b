// A scrub over real damage: it finds what is wrong and nothing else, repairs what is here, and deletes
// only what no manifest can ever name.

import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { readManifest } from "../../src/actors/backup-turn.ts";
import { localTenant } from "../../src/actors/scrub-local.ts";
import { scrubAll } from "../../src/actors/scrub.ts";
import { timelinePrefix } from "../../src/core/backup/names.ts";
import { ScrubReport } from "../../src/core/backup/scrub.ts";
import { type ObjectStorage, isObjectError } from "../../src/core/object-storage.ts";
import { LocalStorage } from "../../src/io/objects/local.ts";
import { MemoryStorage } from "../../src/io/objects/memory.ts";
import { flip, nameWith, namesOf } from "../support/damaged-storage.ts";
import { FaultyStorage } from "../support/faulty-storage.ts";
import { until } from "../support/replication.ts";
import { timelineTest } from "../support/timeline-test.ts";
import { MAIN, TENANT } from "../support/timeline-world.ts";

const t = timelineTest();
const PREFIX = timelinePrefix(TENANT, MAIN);
let beat: NodeJS.Timeout;
let root: string;

beforeEach(() => {
  root = fs.mkdtempSync(path.join(os.tmpdir(), "scrub-test-"));
  beat = setInterval(() => t.world.tenants.tell({ kind: "tick" }), 20);
});
afterEach(() => {
  clearInterval(beat);
  fs.rmSync(root, { recursive: true });
});

const uploaded = () => t.world.main.facts.positions.uploaded;

interface Options {
  readonly purge?: "purge";
  /** Hours after now. */
  readonly inHours?: number;
  readonly elsewhere?: true;
  readonly signal?: AbortSignal;
}

/** Objects are safe to delete after an hour. */
async function scrub(storage: ObjectStorage, options: Options = {}): Promise<ScrubReport> {
  const report = new ScrubReport();
  const { backup, directory, dataDir } = t.world.shared;
  await scrubAll({
    ...{ storage, report, safeMs: 3_600_000, purge: options.purge ?? "keep" },
    nowMs: Date.now() + (options.inHours ?? 0) * 3_600_000,
    local: async (tenant) =>
      options.elsewhere ? undefined : localTenant({ directory, backup: backup!, dataDir }, tenant),
    signal: options.signal ?? new AbortController().signal,
    onProgress: () => {},
  });
  return report;
}

/** Two layers, and some WAL behind them. */
async function backedUp(storage: ObjectStorage): Promise<void> {
  await t.reopen({ storage });
  t.addPages(20);
  const receiver = await t.takeIn();
  await t.seal();
  const sealed = t.wal.end;
  t.addPages(3, 100);
  receiver.sendFrom(t.wal, sealed);
  await receiver.untilDurable(t.wal.end);
  await until("all is uploaded", async () => {
    const { manifest } = await readManifest(storage, TENANT, MAIN);
    const settled = manifest?.layers.length === 2 && manifest.garbage.length === 0;
    return settled && uploaded() >= t.wal.end && manifest.timeline.sealedLsn >= sealed;
  });
}

const outcomes = ({ problems }: ScrubReport): readonly string[] =>
  problems.map(
    ({ kind, outcome, name }) =>
      `${kind} ${outcome} ${name.slice(PREFIX.length, PREFIX.length + 6)}`,
  );

const BACK_ENDS: readonly (readonly [string, () => ObjectStorage])[] = [
  ["memory", () => new MemoryStorage(Date.now)],
  ["a directory", () => new LocalStorage(root)],
];

describe.each(BACK_ENDS)("over %s", (_name, make) => {
  test("what is sound is called so, and counted", async () => {
    const storage = make();
    await backedUp(storage);
    const report = await scrub(storage);
    expect(report.problems).toEqual([]);
    expect(report).toMatchObject({ tenants: 1, timelines: 1 });
    expect(report.objects).toBe((await namesOf(storage)).length);
    expect(report.bytes).toBeGreaterThan(1000);
  });

  test("layers and WAL that are damaged or gone are written again from here, and are right then", async () => {
    const storage = make();
    await backedUp(storage);
    const [first, second] = (await namesOf(storage)).filter((name) => name.includes("/layers/"));
    const wal = await nameWith(storage, "/wal/");
    await flip(storage, first!, 100);
    await storage.deleteMany([second!]);
    await flip(storage, wal, -10);
    const elsewhere = await scrub(storage, { elsewhere: true });
    expect(outcomes(elsewhere).toSorted()).toEqual([
      "corrupt remains layers",
      "corrupt remains wal/00",
      "missing remains layers",
    ]);
    const report = await scrub(storage);
    expect(report.outcomes).toMatchObject({ repaired: 3, remains: 0 });
    expect((await scrub(storage, { elsewhere: true })).problems).toEqual([]);
  });

  test("what is not here, or damaged here too, stays a problem, and nothing is written over", async () => {
    const storage = make();
    await backedUp(storage);
    const layer = await nameWith(storage, "/layers/");
    await flip(storage, layer, 100);
    const before = (await storage.get(layer)).bytes;
    const file = t.world.main.store!.map.layers.find(({ entry }) =>
      layer.endsWith(entry.object!.name),
    )!.layer.path;
    const bytes = fs.readFileSync(file);
    bytes[bytes.length >> 1]! ^= 1;
    const kept = `${file}.kept`;
    fs.renameSync(file, kept);
    fs.writeFileSync(file, bytes);
    expect(outcomes(await scrub(storage))).toEqual(["corrupt remains layers"]);
    fs.rmSync(file);
    expect(outcomes(await scrub(storage))).toEqual(["corrupt remains layers"]);
    expect((await storage.get(layer)).bytes).toEqual(before);
    fs.renameSync(kept, file);
    expect(outcomes(await scrub(storage))).toEqual(["corrupt repaired layers"]);
  });

  test("orphans are told by age and generation, and go only on request; what is foreign stays", async () => {
    const storage = make();
    await backedUp(storage);
    const layer = (await nameWith(storage, "/layers/")).slice(PREFIX.length);
    const parts = layer.split("-");
    const withGeneration = (generation: string): string =>
      [...parts.slice(0, 5), generation, "0badc0de"].join("-");
    const [mine, stale, newer] = ["00000001", "00000000", "00000009"].map(withGeneration);
    for (const name of [mine!, stale!, newer!]) await storage.put(PREFIX + name, Buffer.from("x"));
    const gone = timelinePrefix(TENANT, "d".repeat(32) as typeof MAIN);
    await storage.put(gone + mine!, Buffer.from("x"));
    await storage.put("holiday.jpg", Buffer.from("x"));

    const young = await scrub(storage, { purge: "purge" });
    expect(young.kinds).toMatchObject({ orphaned: 2, "wrong-generation": 2, foreign: 1 });
    expect(young.outcomes).toMatchObject({ "too-young": 3, remains: 2, deleted: 0 });
    const old = await scrub(storage, { inHours: 2 });
    expect(old.outcomes).toMatchObject({ "too-young": 0, remains: 5, deleted: 0 });
    const elsewhere = await scrub(storage, { inHours: 2, purge: "purge", elsewhere: true });
    expect(elsewhere.outcomes).toMatchObject({ remains: 5, deleted: 0 });
    expect(elsewhere.problems[0]!.detail + elsewhere.problems[1]!.detail).toContain(
      "purge on the server",
    );
    const purged = await scrub(storage, { inHours: 2, purge: "purge" });
    expect(purged.outcomes).toMatchObject({ remains: 2, deleted: 3 });
    const left = await scrub(storage, { inHours: 2 });
    expect(left.problems.map(({ name }) => name).toSorted()).toEqual(
      ["holiday.jpg", PREFIX + newer!].toSorted(),
    );
    expect(t.world.lines.filter(({ msg }) => /backup fails/.test(msg))).toEqual([]);
  });

  test("a manifest that is damaged, gone or of another generation is named, and its objects are left", async () => {
    const storage = make();
    await backedUp(storage);
    await t.world.close();
    const name = `${PREFIX}manifest.json`;
    const { bytes } = await storage.get(name);
    const before = (await namesOf(storage)).length;
    await flip(storage, name, 200);
    const damaged = await scrub(storage, { inHours: 9, purge: "purge", elsewhere: true });
    expect(outcomes(damaged)).toEqual(["corrupt remains manife"]);
    expect(damaged.problems[0]!.detail).toMatch(/it fails its checksum; restore it from an older/);
    await storage.deleteMany([name]);
    const missing = await scrub(storage, { inHours: 9, purge: "purge", elsewhere: true });
    expect(outcomes(missing)).toEqual(["missing remains manife"]);
    expect(await namesOf(storage)).toHaveLength(before - 1);
    await storage.put(name, bytes);
    expect((await scrub(storage, { elsewhere: true })).problems).toEqual([]);
    await t.reopen();
  });
});

test("a layer that this server could still name is not deleted, however old", async () => {
  const memory = new MemoryStorage(Date.now);
  const storage = new FaultyStorage(memory);
  await backedUp(storage);
  // A layer is put while a manifest is being written: for days, as far as the scrub's clock goes.
  let release = (): void => undefined;
  const gate = new Promise<void>((resolve) => (release = resolve));
  storage.before = (call) => (call === "compareAndSwap" ? gate : undefined);
  const from = t.wal.end;
  t.addPages(3, 50);
  const receiver = await t.attached(from);
  receiver.sendFrom(t.wal, from);
  await receiver.untilDurable(t.wal.end);
  const before = new Set(memory.names);
  await t.seal();
  const newLayer = () =>
    memory.names.find((name) => name.includes("/layers/") && !before.has(name));
  const put = await until("the layer is put", newLayer);
  const scrubbing = scrub(memory, { inHours: 90, purge: "purge" });
  await new Promise((resolve) => setTimeout(resolve, 100));
  release();
  const report = await scrubbing;
  const found = report.problems.filter(({ name }) => name === put);
  expect(found).toMatchObject([{ kind: "orphaned", outcome: "remains" }]);
  await until("it is named", async () => {
    const { manifest } = await readManifest(memory, TENANT, MAIN);
    return manifest!.layers.some(({ object }) => put.endsWith(object!.name));
  });
  expect((await scrub(memory)).problems).toEqual([]);
});

test("a scrub that is cut short anywhere leaves what the next one finishes", async () => {
  const memory = new MemoryStorage(Date.now);
  await backedUp(memory);
  const layer = await nameWith(memory, "/layers/");
  const orphan = `${layer.slice(0, -8)}0badc0de`;
  await memory.put(orphan, Buffer.from("x"));
  await flip(memory, layer, 100);
  const named = (await readManifest(memory, TENANT, MAIN)).manifest!.layers.map(({ file }) => file);
  for (let calls = 0; ; calls++) {
    const storage = new FaultyStorage(memory);
    storage.decide = () => (storage.calls > calls ? "fail-before" : "none");
    try {
      await scrub(storage, { inHours: 2, purge: "purge" });
      break;
    } catch (error) {
      if (!isObjectError(error, "unavailable")) throw error;
    }
  }
  expect((await scrub(memory, { elsewhere: true })).problems).toEqual([]);
  expect(memory.names).not.toContain(orphan);
  const { manifest } = await readManifest(memory, TENANT, MAIN);
  expect(manifest!.layers.map(({ file }) => file)).toEqual(named);
});

test("a cancelled scrub ends", async () => {
  const storage = new MemoryStorage(Date.now);
  await backedUp(storage);
  const abort = new AbortController();
  abort.abort(new Error("cancelled on request"));
  await expect(scrub(storage, { signal: abort.signal })).rejects.toThrow("cancelled on request");
});
