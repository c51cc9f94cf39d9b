// Damage on disk: each kind is named in an error, never a crash and never another page.

import fs from "node:fs";
import { open } from "lmdb";
import { expect, test } from "vitest";
import { KIND } from "../../src/core/key.ts";
import { LSN_INVALID, LSN_MAX, type Lsn } from "../../src/core/lsn.ts";
import { Catalog } from "../../src/store/catalog.ts";
import { StoreCorrupt } from "../../src/store/store-errors.ts";
import type { TimelineStore } from "../../src/store/timeline-store.ts";
import { inScratch } from "./scratch.ts";
import { StoreFixture, seal, timelineId } from "./store-fixture.ts";

const BLOCKS = 3_000;
const GROUP = { kind: KIND.PAGE, a: 1663, b: 5, c: 16384, d: 0 } as const;

/** Two sealed layers with a version of every block each; returns the newer one's path. */
async function twoLayers(fixture: StoreFixture): Promise<string> {
  const store = fixture.create(0);
  for (const lsn of [100, 200]) {
    const id = store.sink.groups.id(GROUP.kind, GROUP.a, GROUP.b, GROUP.c, GROUP.d);
    for (let block = 0; block < BLOCKS; block++) {
      store.sink.putOp(id, block, lsn, new Uint8Array(100).fill(lsn));
    }
    store.freeze(lsn as Lsn, LSN_INVALID);
    await seal(store);
  }
  const [newest] = fixture.catalog.layers(timelineId(0));
  return `${fixture.timelineDirectory(0)}/layers/${newest!.file}`;
}

/** Newest version's LSN of each block: 200 everywhere, or the read's error. */
function readAll(store: TimelineStore): { right: number; wrong: number; corrupt: Set<string> } {
  const corrupt = new Set<string>();
  let right = 0;
  let wrong = 0;
  for (let block = 0; block < BLOCKS; block++) {
    let lsn = 0;
    try {
      store.visit(GROUP, block, LSN_MAX, LSN_INVALID, (version) => {
        lsn = version.lsn;
        return false;
      });
      if (lsn === 200) right++;
      else wrong++;
    } catch (cause) {
      expect(cause).toBeInstanceOf(StoreCorrupt);
      corrupt.add((cause as StoreCorrupt).message);
    }
  }
  return { right, wrong, corrupt };
}

function overwrite(path: string, at: number, bytes: Uint8Array): void {
  const fd = fs.openSync(path, "r+");
  fs.writeSync(fd, bytes, 0, bytes.length, at);
  fs.closeSync(fd);
}

const damages: readonly (readonly [string, (size: number) => readonly [number, Uint8Array]])[] = [
  ["a byte", (size) => [Math.floor(size / 2), Uint8Array.of(0x5a)]],
  ["512 bytes", (size) => [Math.floor(size / 2), garbage(512)]],
  ["a page of zeros", (size) => [Math.floor(size / 3 / 4096) * 4096, new Uint8Array(4096)]],
  ["LMDB's meta pages", () => [0, garbage(8192)]],
  ["everything", (size) => [0, garbage(size)]],
];

function garbage(length: number): Uint8Array {
  return Uint8Array.from({ length }, (_, i) => (Math.imul(i + 1, 0x9e3779b1) >>> 24) & 255);
}

for (const [name, damage] of damages) {
  test(`${name} overwritten while the program was down: reads fail by name`, () =>
    inScratch(async (directory) => {
      const fixture = new StoreFixture(directory);
      const path = await twoLayers(fixture);
      await fixture.reopen();
      const [at, bytes] = damage(fs.statSync(path).size);
      overwrite(path, at, bytes);
      const { right, wrong, corrupt } = readAll(fixture.store(0));
      expect([right, wrong]).toEqual([0, 0]);
      expect([...corrupt]).toEqual([
        `${path} is corrupt: the file does not match its checksum; restore it from backup`,
      ]);
      await fixture.close();
    }));
}

for (const [name, bytes] of [
  ["a page", garbage(4096)],
  ["a page of zeros", new Uint8Array(4096)],
] as const) {
  test(`${name} overwritten under an open file: reads fail by name, or are right`, () =>
    inScratch(async (directory) => {
      const fixture = new StoreFixture(directory);
      const path = await twoLayers(fixture);
      const store = fixture.store(0);
      store.visit(GROUP, 0, LSN_MAX, LSN_INVALID, () => false);
      overwrite(path, Math.floor(fs.statSync(path).size / 2 / 4096) * 4096, bytes);
      const { wrong, corrupt } = readAll(store);
      expect(wrong).toBe(0);
      expect(corrupt.size).toBeGreaterThan(0);
      for (const message of corrupt) expect(message).toContain(path);
      await fixture.close();
    }));
}

test("a corrupt file that was put back is read again", () =>
  inScratch(async (directory) => {
    const fixture = new StoreFixture(directory);
    const path = await twoLayers(fixture);
    await fixture.reopen();
    const good = fs.readFileSync(path);
    overwrite(path, 9_000, garbage(100));
    expect(readAll(fixture.store(0)).right).toBe(0);
    const reported: string[] = [];
    await fixture.store(0).verifyFiles((error) => reported.push(error.message));
    expect(reported).toHaveLength(1);
    overwrite(path, 0, good);
    fs.utimesSync(path, 1, 1);
    expect(readAll(fixture.store(0)).right).toBe(BLOCKS);
    await fixture.close();
  }));

test("a missing, a shortened and an emptied file are named", () =>
  inScratch(async (directory) => {
    const fixture = new StoreFixture(directory);
    const path = await twoLayers(fixture);
    const size = fs.statSync(path).size;
    for (const [change, reason] of [
      [() => fs.truncateSync(path, size - 4096), "bytes instead of"],
      [() => fs.truncateSync(path, 0), "0 bytes instead of"],
      [() => fs.rmSync(path), "missing"],
    ] as const) {
      await fixture.reopen();
      change();
      const { wrong, right, corrupt } = readAll(fixture.store(0));
      expect([wrong, right]).toEqual([0, 0]);
      expect([...corrupt].join()).toContain(reason);
    }
    await fixture.close();
  }));

test("a damaged value of the catalog is named", () =>
  inScratch(async (directory) => {
    const fixture = new StoreFixture(directory);
    fixture.create(0);
    await fixture.close();
    const path = `${directory}/catalog`;
    const bytes = fs.readFileSync(path);
    for (let at = 0; (at = bytes.indexOf("timeline-0", at)) >= 0; at++) bytes.write("T", at);
    fs.writeFileSync(path, bytes);
    const catalog = new Catalog(path);
    expect(() => catalog.timelines()).toThrow(/timeline\/0+ fails its checksum/);
    await catalog.close();
  }));

test("garbage, half a file or another format in the catalog's place are named", () =>
  inScratch(async (directory) => {
    const path = `${directory}/catalog`;
    for (const bytes of [garbage(40_960), garbage(100), new Uint8Array(8192)]) {
      fs.writeFileSync(path, bytes);
      expect(() => new Catalog(path)).toThrow("is not an LMDB file");
    }
    fs.rmSync(path);
    const other = open<string, string>({ path, noSubdir: true, encoding: "string" });
    other.putSync("format", "a1b2c3d4 2");
    await other.close();
    expect(() => new Catalog(path)).toThrow(StoreCorrupt);
  }));
