// Damage: files that were changed, cut or removed behind our back, a disk that is full or fails, WAL of
// somebody else. Each ends at most what needs it, says which thing it is, and loses nothing else.

import fs from "node:fs";
import path from "node:path";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import type { TenantHandle } from "../../src/actors/directory.ts";
import { ask } from "../../src/actors/runtime.ts";
import type { TenantsMsg } from "../../src/actors/tenants.ts";
import { readErrorText } from "../../src/core/errors.ts";
import { parseTenantId } from "../../src/core/ids.ts";
import { Lsn } from "../../src/core/lsn.ts";
import type { Result } from "../../src/core/result.ts";
import { catalogPath, layersPath, timelinePath, walPath } from "../../src/store/data-dir.ts";
import { StoreFull } from "../../src/store/store-errors.ts";
import { until } from "../support/replication.ts";
import {
  BASE,
  MAIN,
  TENANT,
  TestReceiver,
  TimelineWorld,
  newWal,
  pageImage,
} from "../support/timeline-world.ts";
import { WalBuilder } from "../support/wal-builder.ts";

let dataDir: string;
let world: TimelineWorld;
let wal: WalBuilder;
let restore: (() => void)[] = [];

beforeEach(async () => {
  dataDir = fs.mkdtempSync("/tmp/timeline-test-");
  world = await TimelineWorld.create(dataDir);
  wal = newWal();
});
afterEach(async () => {
  for (const undo of restore.splice(0)) undo();
  await world.close();
  fs.rmSync(dataDir, { recursive: true, force: true });
});

async function reopen(): Promise<void> {
  await world.close();
  world = new TimelineWorld(dataDir);
  await world.loaded();
}

const seal = (): Promise<Result<undefined, string>> =>
  world.ask((reply) => ({ kind: "seal-now", reply }));

const errorOf = async (block: number): Promise<string> => {
  const [answer] = await world.read([block]);
  return answer?.kind === "error" ? readErrorText(answer.error) : `${answer?.kind}`;
};

/** Streams what `wal` has from `at` on, and waits for it. */
async function takeIn(at: Lsn): Promise<void> {
  const receiver = new TestReceiver(world);
  await receiver.attachAt(at);
  receiver.sendFrom(wal, at);
  await receiver.untilDurable(wal.end);
}

/** Two layers: pages 0 to 9, then pages 100 to 109 and everything else that is looked up at a start. */
async function twoLayers(): Promise<readonly [string, string]> {
  for (let i = 0; i < 10; i++) wal.add(pageImage(i, i));
  await takeIn(BASE);
  expect(await seal()).toMatchObject({ ok: true });
  const first = wal.end;
  for (let i = 100; i < 110; i++) wal.add({ ...pageImage(i, i), xid: 50_000 });
  await takeIn(first);
  expect(await seal()).toMatchObject({ ok: true });
  const directory = layersPath(timelinePath(dataDir, TENANT, MAIN));
  const [newer, older] = world.tenant.catalog
    .layers(MAIN)
    .map(({ file }) => path.join(directory, file));
  return [older!, newer!];
}

describe("a sealed layer", () => {
  const damages: readonly (readonly [string, (file: string) => void, RegExp])[] = [
    ["with a changed byte", (file) => changeByte(file, fs.statSync(file).size / 2), /checksum/],
    ["that was cut", (file) => fs.truncateSync(file, 4_096), /has 4096 bytes instead of/],
    ["that is missing", (file) => fs.rmSync(file), /the file is missing/],
  ];

  test.each(damages)(
    "%s: the reads that need it say so, all others are answered",
    async (_what, damage, why) => {
      const [older] = await twoLayers();
      await world.close();
      damage(older);
      world = new TimelineWorld(dataDir);
      await world.loaded();
      expect(world.main.facts.phase).toEqual({ kind: "active" });
      const said = await errorOf(5);
      expect(said).toMatch(why);
      expect(said).toContain(path.basename(older));
      expect(said).toMatch(/restore it from backup/);
      expect(await world.fill(105)).toBe(105);
      expect(world.main.store!.map.damaged).toEqual([
        { file: path.basename(older), reason: expect.stringMatching(why) },
      ]);
      // It goes on taking in WAL, and what is new can be read.
      const end = wal.end;
      wal.add(pageImage(5, 77));
      await takeIn(end);
      expect(await world.fill(5)).toBe(77);
      expect(world.crashes).toEqual([]);
    },
  );

  test("that nobody reads is found damaged after loading, is named, and is whole again when put back", async () => {
    const [older] = await twoLayers();
    await world.close();
    const bytes = fs.readFileSync(older);
    changeByte(older, bytes.length / 2);
    world = new TimelineWorld(dataDir);
    await world.loaded();
    const damaged = () => world.main.store!.map.damaged;
    await until("the damage is found", () => damaged().length > 0);
    expect(damaged()).toEqual([
      { file: path.basename(older), reason: "the file does not match its checksum" },
    ]);
    fs.writeFileSync(older, bytes);
    fs.utimesSync(older, 1, 1);
    expect(await world.fill(5)).toBe(5);
    expect(damaged()).toEqual([]);
  });

  test.each(damages)(
    "%s, that everything needs: the timeline is broken and names it",
    async (_what, damage, why) => {
      const [, newer] = await twoLayers();
      await world.close();
      damage(newer);
      world = new TimelineWorld(dataDir);
      await world.loaded();
      expect(world.main.facts.phase).toMatchObject({
        kind: "broken",
        reason: expect.stringMatching(why),
      });
      expect(await errorOf(105)).toContain(path.basename(newer));
      expect([world.crashes, world.fatal]).toEqual([[], []]);
    },
  );
});

describe("a catalog", () => {
  const other = parseTenantId("d".repeat(32));

  test.each([
    ["that is no LMDB file", (file: string) => fs.writeFileSync(file, "rubbish".repeat(1_000))],
    [
      "that is gone",
      (file: string) => {
        fs.rmSync(file);
        fs.rmSync(`${file}-lock`, { force: true });
      },
    ],
  ])(
    "%s: its tenant says so, nothing of it is removed, its neighbour works",
    async (_what, damage) => {
      const [older, newer] = await twoLayers();
      await create(other);
      await world.close();
      damage(catalogPath(dataDir, TENANT));
      world = new TimelineWorld(dataDir);
      const { directory } = world.shared;
      await until("the neighbour is there", () => directory.tenants.get(other));
      await until("it is given up", () => directory.unusable.get(TENANT)?.includes("is broken"));
      expect(directory.unusable.get(TENANT)).toContain(catalogPath(dataDir, TENANT));
      expect(directory.unusable.get(TENANT)).toMatch(/corrupt: .*restore it from backup/);
      expect([older, newer].map((file) => fs.existsSync(file))).toEqual([true, true]);
      expect(await create(other), "asked again").toBeDefined();
      expect(world.fatal).toEqual([]);
    },
  );

  const create = (id: typeof TENANT): Promise<TenantHandle | undefined | "timed-out"> =>
    ask<TenantsMsg, TenantHandle | undefined>(
      world.tenants,
      (reply) => ({ kind: "create", id, reply }),
      5_000,
    );
});

describe("WAL files", () => {
  const walDirectory = (): string => walPath(timelinePath(dataDir, TENANT, MAIN));
  const segment = (): string => `${walDirectory()}/000000010000000000000002`;
  const inSegment = (lsn: number): number => lsn % (16 * 1024 * 1024);

  const damages: readonly (readonly [string, () => void, RegExp])[] = [
    [
      "with a changed byte",
      () => changeByte(segment(), inSegment(wal.records[5]!.startLsn + 200)),
      /CRC/,
    ],
    [
      "with a hole",
      () => fillZeros(segment(), inSegment(wal.records[5]!.startLsn), 8_192),
      /record/,
    ],
    ["that are gone", () => fs.rmSync(segment()), /no more of it/],
  ];

  test.each(damages)(
    "%s are no end of WAL: the timeline is broken there, nothing is cut",
    async (what, damage, why) => {
      for (let i = 0; i < 10; i++) wal.add(pageImage(i, i));
      await takeIn(BASE);
      await world.close();
      damage();
      const bytes = what === "that are gone" ? undefined : fs.readFileSync(segment());
      const ends = what === "that are gone" ? BASE : wal.records[5]!.startLsn;
      world = new TimelineWorld(dataDir);
      await world.loaded();
      const reason = JSON.stringify(world.main.facts.phase);
      expect(reason).toMatch(why);
      expect(reason).toContain(
        `was durable up to ${Lsn.format(wal.end)}, and ends at ${Lsn.format(ends)}`,
      );
      expect(reason).toContain(walDirectory());
      expect(world.main.facts.positions.visible).toBe(ends);
      if (bytes === undefined) return;
      expect(await world.fill(4)).toBe(4);
      await world.close();
      expect(fs.readFileSync(segment()).equals(bytes), "left as they are").toBe(true);
      // Whoever decides to go on without what is behind, can: the source sends it again.
      fs.rmSync(`${walDirectory()}/durable`);
      world = new TimelineWorld(dataDir);
      await world.loaded();
      await takeIn(ends);
      expect(await world.fill(9)).toBe(9);
    },
  );

  test("that end where the process was killed are whole: what was not durable may come again", async () => {
    for (let i = 0; i < 4; i++) wal.add(pageImage(i, i));
    const receiver = new TestReceiver(world);
    await receiver.attachAt(BASE);
    const cut = wal.records[2]!.startLsn + 4_000;
    receiver.send(BASE, wal.bytes().subarray(0, cut - BASE));
    await receiver.untilDurable(wal.records[1]!.endLsn);
    await reopen();
    expect(world.main.facts.phase).toEqual({ kind: "active" });
    await takeIn(wal.records[1]!.endLsn);
    expect(await world.fill(3)).toBe(3);
  });
});

describe("WAL of somebody else", () => {
  const refusals: readonly (readonly [string, () => Uint8Array, RegExp])[] = [
    ["of another cluster", () => ofTwoSegments({ systemId: 42n }), /system/],
    ["on another PostgreSQL timeline", () => ofTwoSegments({ tli: 9 }), /timeline/],
    ["of another version", () => ofTwoSegments({ version: 14 }), /magic/],
    ["of zeros", () => ofTwoSegments({}).fill(0, 100, 20_000), /magic D110, found 0/],
  ];

  test.each(refusals)(
    "%s is refused, what came before stays, good WAL goes on",
    async (_what, make, why) => {
      const receiver = new TestReceiver(world);
      await receiver.attachAt(BASE);
      receiver.send(BASE, make());
      const refused = await receiver.untilRefused();
      expect(refused.reason).toMatch(why);
      expect(refused.reason, "names the place").toMatch(/WAL at [0-9A-F]+\/[0-9A-F]+/);
      expect(world.main.facts.phase).toEqual({ kind: "active" });
      for (let i = 0; i < 10; i++) wal.add(pageImage(i, i));
      const at = world.main.facts.positions.visible;
      if (at !== BASE) return; // its records were sound, only the next page was not
      await takeIn(BASE);
      expect(await world.fill(9)).toBe(9);
    },
  );

  /** Records over some pages, the bytes of one builder. */
  function ofTwoSegments(over: { systemId?: bigint; tli?: number; version?: 14 }): Uint8Array {
    const built = new WalBuilder({ start: BASE, ...over });
    built.add(pageImage(0, 1));
    built.switchSegment();
    built.add(pageImage(1, 2));
    return built.bytes();
  }
});

describe("a full disk", () => {
  test("WAL waits, reads go on, and it goes on by itself when there is room: nothing is lost", async () => {
    wal.add(pageImage(0, 1));
    await takeIn(BASE);
    const end = wal.end;
    wal.add(pageImage(1, 2));
    const receiver = new TestReceiver(world);
    await receiver.attachAt(end);
    failing("writeSync", "ENOSPC");
    receiver.sendFrom(wal, end);
    await until("it waits", () => world.main.facts.stalled);
    expect(world.main.facts.stalled).toMatch(
      /no space left to write .*000000010000000000000002; free disk space, then it goes on by itself/,
    );
    expect(await world.fill(0)).toBe(1);
    for (let i = 0; i < 5; i++) world.main.ref.tell({ kind: "tick" });
    expect(await world.fill(0)).toBe(1);
    const told = world.lines.filter(({ msg }) => msg.includes("stalled"));
    expect(told, "said once, not at every tick").toHaveLength(1);
    for (const undo of restore.splice(0)) undo();
    world.main.ref.tell({ kind: "tick" });
    await receiver.untilDurable(wal.end);
    expect(world.main.facts.stalled).toBeUndefined();
    await reopen();
    expect(await world.fill(1)).toBe(2);
  });

  test("keeps a timeline from being deleted: it lives on, and is deleted when there is room", async () => {
    wal.add(pageImage(0, 1));
    await takeIn(BASE);
    const remove = (): Promise<unknown> =>
      new Promise((answer) =>
        world.tenant.ref.tell({
          ...{ kind: "remove", timeline: MAIN, recursive: false, reply: { answer } },
        }),
      );
    const { catalog } = world.tenant;
    const change = vi.spyOn(catalog, "change").mockImplementation(() => {
      throw new StoreFull(catalog.path, undefined);
    });
    expect(await remove()).toMatchObject({ ok: false, error: { kind: "unavailable" } });
    change.mockRestore();
    await world.loaded();
    expect(await world.fill(0)).toBe(1);
    expect(await remove()).toEqual({ ok: true, value: ["main"] });
    expect(catalog.timelines()).toEqual([]);
  });

  test("that fails otherwise stops the process: nobody is told that anything is durable", async () => {
    const receiver = new TestReceiver(world);
    await receiver.attachAt(BASE);
    wal.add(pageImage(0, 1));
    failing("fdatasync", "EIO");
    receiver.sendFrom(wal);
    await until("it is fatal", () => world.fatal.length > 0);
    expect(world.fatal[0]!.message).toMatch(/EIO.*check the disk, then start again/);
    expect(receiver.durable).toBeLessThan(wal.end);
  });
});

function failing(name: "writeSync" | "fdatasync", code: string): void {
  const real = fs[name];
  const error = Object.assign(new Error(code), { code });
  const fake = (...args: unknown[]): number => {
    if (name === "writeSync") throw error;
    (args.at(-1) as (e: Error) => void)(error);
    return 0;
  };
  Object.assign(fs, { [name]: fake });
  restore.push(() => Object.assign(fs, { [name]: real }));
}

function changeByte(file: string, at: number): void {
  const fd = fs.openSync(file, "r+");
  const byte = Buffer.alloc(1);
  const offset = Math.floor(at);
  fs.readSync(fd, byte, 0, 1, offset);
  byte[0]! ^= 0x10;
  fs.writeSync(fd, byte, 0, 1, offset);
  fs.closeSync(fd);
}

function fillZeros(file: string, at: number, length: number): void {
  const fd = fs.openSync(file, "r+");
  fs.writeSync(fd, Buffer.alloc(length), 0, length, at);
  fs.closeSync(fd);
}
