import { describe, expect, test } from "vitest";

import { decodeDbCopy } from "../../../src/core/db-copy.ts";
import { decodeOrigin } from "../../../src/protocol/ingest/origins.ts";
import { fsmBlock } from "../../../src/protocol/ingest/relations.ts";
import { RM, XLOG } from "../../../src/protocol/wal/rmgr.ts";
import type { BlockSpec, RecordSpec } from "../../../src/protocol/wal/writer.ts";
import { Harness, at, main, plainEnd } from "./model.ts";

const ref = (rel: number, block: number, fork = 0): BlockSpec => ({
  spc: 1663,
  db: 5,
  rel,
  fork,
  block,
});
const touch = (rel: number, block: number): RecordSpec => ({
  rmid: RM.BTREE,
  info: 0,
  blocks: [ref(rel, block)],
});
const mapPage = (rel: number, block: number, fork: number): RecordSpec => ({
  rmid: RM.XLOG,
  info: XLOG.FPI,
  blocks: [{ ...ref(rel, block, fork), image: { bytes: new Uint8Array(8192).fill(255) } }],
});
const create = (rel: number, fork = 0): RecordSpec => ({
  rmid: RM.SMGR,
  info: 0x10,
  main: main(1663, 5, rel, fork),
});
const truncate = (rel: number, blocks: number, flags: number): RecordSpec => ({
  rmid: RM.SMGR,
  info: 0x20,
  main: main(blocks, 1663, 5, rel, flags),
});

describe("relations", () => {
  test("creation gives size 0 and does not empty what exists", () => {
    const h = new Harness();
    h.add(create(9));
    expect(h.store.size(at.relSize(9))).toBe(0);
    h.add(touch(9, 4), create(9));
    expect(h.store.size(at.relSize(9))).toBe(5);
  });

  test("truncation lowers the size, and regrowth does not show old versions", () => {
    const h = new Harness();
    const before = h.add(touch(9, 4));
    h.add(truncate(9, 2, 1));
    expect(h.store.size(at.relSize(9))).toBe(2);
    expect(h.store.size(at.relSize(9), before)).toBe(5);
    h.add(touch(9, 4));
    expect(h.store.types(at.page(9), 3)).toEqual(["ZERO", "ZERO"]);
    expect(h.store.types(at.page(9), 4)).toEqual(["ZERO", "RECORD", "ZERO", "RECORD"]);
  });

  test("truncation never makes longer, and creates the main fork", () => {
    const h = new Harness();
    h.add(truncate(9, 7, 7));
    expect(h.store.size(at.relSize(9))).toBe(0);
    expect(h.store.size(at.relSize(9, 1))).toBeUndefined();
  });

  test("flags choose the forks", () => {
    const h = new Harness();
    h.add(touch(9, 4), truncate(9, 0, 2));
    expect(h.store.size(at.relSize(9))).toBe(5);
  });

  test("the visibility map's tail is cleared in the page that stays, in any case", () => {
    const h = new Harness();
    h.add(mapPage(9, 0, 2), mapPage(9, 1, 2), truncate(9, 6, 2));
    expect(h.store.size(at.relSize(9, 2))).toBe(1);
    const map = h.store.page(at.page(9, 2), 0);
    expect([...map.subarray(24, 28)]).toEqual([255, 0b1111, 0, 0]);
    expect(map.subarray(26).every((b) => b === 0)).toBe(true);
  });

  test("at a map page's boundary the page goes, beyond the map nothing happens", () => {
    const h = new Harness();
    h.add(mapPage(9, 0, 2), mapPage(9, 1, 2), truncate(9, 32_672, 2));
    expect(h.store.size(at.relSize(9, 2))).toBe(1);
    h.add(truncate(9, 40_000, 2));
    expect(h.store.size(at.relSize(9, 2))).toBe(1);
    expect(h.store.types(at.page(9, 2), 1)).toEqual(["IMAGE"]);
  });

  test("the free space map forgets the slots from the first removed block on", () => {
    const h = new Harness();
    h.add(mapPage(9, 0, 1), mapPage(9, 1, 1), mapPage(9, 2, 1), mapPage(9, 3, 1));
    h.add(truncate(9, 2, 4));
    expect(h.store.size(at.relSize(9, 1))).toBe(3);
    const leaves = h.store.page(at.page(9, 1), 2).subarray(28 + 4095);
    expect([...leaves.subarray(0, 4)]).toEqual([255, 255, 0, 0]);
    h.add(truncate(9, 0, 4));
    expect(h.store.size(at.relSize(9, 1))).toBe(2);
  });

  test("free space map pages lie where freespace.c puts them", () => {
    // From the drawing in its README: root, then each middle page before its leaves.
    expect([0, 1, 4068, 4069, 4070, 8138].map(fsmBlock)).toEqual([2, 3, 4070, 4072, 4073, 8142]);
  });
});

/** A commit or abort with more than its time. */
function xactEnd(
  info: number,
  xid: number,
  parts: {
    readonly subxids?: readonly number[];
    readonly rels?: readonly number[];
    readonly prepared?: number;
    readonly origin?: readonly [number, number];
    readonly timeUs?: number;
  },
): RecordSpec {
  const { subxids = [], rels = [], prepared, origin, timeUs = 5_000_000 } = parts;
  const xinfo =
    (subxids.length > 0 ? 2 : 0) |
    (rels.length > 0 ? 4 : 0) |
    (prepared === undefined ? 0 : 16) |
    (origin === undefined ? 0 : 32);
  return {
    rmid: RM.XACT,
    info: info | 0x80,
    xid,
    ...(origin === undefined ? {} : { origin: origin[0] }),
    main: main(
      timeUs % 2 ** 32,
      Math.floor(timeUs / 2 ** 32),
      xinfo,
      ...(subxids.length > 0 ? [subxids.length, ...subxids] : []),
      ...(rels.length > 0 ? [rels.length, ...rels.flatMap((rel) => [1663, 5, rel])] : []),
      ...(prepared === undefined ? [] : [prepared]),
      ...(origin === undefined ? [] : [origin[1], 0, 0, 0]),
    ),
  };
}
const status = (h: Harness, xid: number): number => {
  const page = Math.floor(xid / 32_768);
  const bytes = h.store.page(at.slru(0, Math.floor(page / 32)), page % 32);
  return (bytes[(xid % 32_768) >> 2]! >> ((xid & 3) * 2)) & 3;
};

describe("transactions", () => {
  test("commit and abort set two bits; nextXid stays ahead in steps", () => {
    const h = new Harness();
    h.add(plainEnd(0x00, 701), plainEnd(0x20, 702), plainEnd(0x00, 703));
    expect([700, 701, 702, 703, 704].map((x) => status(h, x))).toEqual([0, 1, 2, 1, 0]);
    expect(h.checkpoint().nextXid).toBe(1024);
    expect(h.store.types(at.checkpoint)).toHaveLength(2);
  });

  test("subtransactions share the fate of their parent, on every page", () => {
    const h = new Harness();
    const subxids = [32_766, 32_767, 32_768, 65_536, 65_537];
    h.add(xactEnd(0x00, 32_700, { subxids }));
    expect([32_700, ...subxids].map((x) => status(h, x))).toEqual([1, 1, 1, 1, 1, 1]);
    expect(h.checkpoint().nextXid).toBe(65_536 + 1024);
    h.add(xactEnd(0x20, 65_600, { subxids: [65_601] }));
    expect([65_600, 65_601].map((x) => status(h, x))).toEqual([2, 2]);
    expect(h.store.size(at.slruSize(0, 0))).toBe(3);
  });

  test("replaying a commit again changes nothing", () => {
    const h = new Harness();
    const first = h.add(xactEnd(0x00, 900, { subxids: [901] }));
    h.add(xactEnd(0x00, 900, { subxids: [901] }));
    expect(h.store.page(at.slru(0, 0), 0)).toEqual(h.store.page(at.slru(0, 0), 0, first));
  });

  test("a commit drops all forks of the relations it names, and forgives missing ones", () => {
    const h = new Harness();
    const before = h.add(create(9), create(9, 1), create(9, 2), create(9, 3), create(10));
    h.add(xactEnd(0x20, 701, { rels: [9, 77] }));
    expect([0, 1, 2, 3].map((fork) => h.store.size(at.relSize(9, fork)))).toEqual([
      undefined,
      undefined,
      undefined,
      undefined,
    ]);
    expect(h.store.size(at.relSize(9, 2), before)).toBe(0);
    expect(h.store.size(at.relSize(10))).toBe(0);
    expect(h.store.types(at.relSize(77))).toEqual([]);
    h.add(touch(9, 0));
    expect(h.store.types(at.page(9), 0)).toEqual(["ZERO", "RECORD"]);
  });

  function prepareBody(xid: number, subxids: readonly number[]): Uint8Array {
    const head = main(0x57f94534, 0, xid, 5, 0, 0, 10, subxids.length, 0, 0, 0, 0, 0);
    const tail = main(0, 0, 0, 0, new TextEncoder().encode("gid\0"), 0, ...subxids);
    return Uint8Array.of(...head, 0, 0, 4, 0, ...tail);
  }

  test("a prepared transaction is kept until it is finished", () => {
    const h = new Harness();
    const body = prepareBody(801, [2_000]);
    const prepared = h.add({ rmid: RM.XACT, info: 0x10, xid: 801, main: body });
    expect(h.store.read(at.twoPhase(801), 0)).toEqual({
      kind: "value",
      value: body,
      lsn: prepared,
    });
    expect(h.checkpoint().nextXid).toBe(2_048);
    h.add(xactEnd(0x30, 0, { prepared: 801 }));
    expect(h.store.read(at.twoPhase(801), 0).kind).toBe("tombstone");
    expect(status(h, 801)).toBe(1);
    h.add(xactEnd(0x40, 0, { prepared: 802 }));
    expect(status(h, 802)).toBe(2);
    expect(h.store.types(at.twoPhase(802))).toEqual([]);
  });

  test("origins go forward with commits, and anywhere when forced", () => {
    const h = new Harness();
    const origin = (): number | undefined => {
      const outcome = h.store.read(at.origin(3), 0);
      return outcome.kind === "value" ? decodeOrigin(outcome.value) : undefined;
    };
    h.add(xactEnd(0x00, 701, { origin: [3, 500] }));
    expect(origin()).toBe(500);
    h.add(xactEnd(0x00, 702, { origin: [3, 400] }));
    expect(origin()).toBe(500);
    h.add({ rmid: RM.REPLORIGIN, info: 0, main: main(100, 0, Uint8Array.of(3, 0, 1, 0)) });
    expect(origin()).toBe(100);
    h.add({ rmid: RM.REPLORIGIN, info: 0x10, main: Uint8Array.of(3, 0) });
    expect(origin()).toBeUndefined();
  });

  test("assignments and running transactions raise nextXid", () => {
    const h = new Harness();
    h.add({ rmid: RM.XACT, info: 0x50, xid: 701, main: main(701, 2, 5_000, 6_000) });
    expect(h.checkpoint().nextXid).toBe(6_144);
    h.add({ rmid: RM.STANDBY, info: 0x10, main: main(1, 0, 0, 9_000, 8_990, 8_999, 8_990) });
    expect(h.checkpoint()).toMatchObject({ nextXid: 9_216, oldestActiveXid: 8_990 });
  });

  test("nextXid crosses into the next epoch and skips the special ids", () => {
    const h = new Harness({ nextXid: 2 ** 32 - 10 });
    h.add(plainEnd(0x00, 2 ** 32 - 1));
    expect(h.checkpoint().nextXid).toBe(2 ** 32 + 3);
    h.add(plainEnd(0x00, 5));
    expect(h.checkpoint().nextXid).toBe(2 ** 32 + 1_024);
  });

  test("the bootstrap transaction has a status like any other", () => {
    const h = new Harness();
    h.add(plainEnd(0x00, 1));
    expect(status(h, 1)).toBe(1);
    expect(h.checkpoint().nextXid).toBe(700);
  });
});

describe("databases", () => {
  const relmap = (db: number, fill: number): RecordSpec => ({
    rmid: RM.RELMAP,
    info: 0,
    main: main(db, 1663, 512, new Uint8Array(512).fill(fill)),
  });

  test("a copied database has the source's sizes and map, and says where its pages are", () => {
    const h = new Harness();
    h.add(relmap(5, 7), touch(9, 3), create(10, 3));
    // What was in the target's directory goes.
    h.add({ rmid: RM.BTREE, info: 0, blocks: [{ ...ref(44, 0), db: 6 }] });
    const end = h.add({ rmid: RM.DBASE, info: 0x00, main: main(6, 1663, 5, 1663) });
    expect(h.store.size(at.relSize(9, 0, 6))).toBe(4);
    expect(h.store.size(at.relSize(10, 3, 6))).toBe(0);
    expect(h.store.size(at.relSize(44, 0, 6))).toBeUndefined();
    expect(h.store.read(at.relmap(6), 0)).toMatchObject({ value: new Uint8Array(512).fill(7) });
    const copy = h.store.read(at.dbCopy(6), 0);
    if (copy.kind !== "value") throw new Error(copy.kind);
    expect(decodeDbCopy(copy.value)).toEqual({ srcSpc: 1663, srcDb: 5, lsn: end });
    // Growing goes on from the copied size.
    h.add({ rmid: RM.BTREE, info: 0, blocks: [{ ...ref(9, 3), db: 6 }] });
    expect(h.store.types(at.page(9, 0, 6), 3)).toEqual(["RECORD"]);
  });

  test("a dropped database is gone with everything in it", () => {
    const h = new Harness();
    const before = h.add(relmap(5, 7), touch(9, 3), { ...touch(9, 0) });
    h.add({ rmid: RM.DBASE, info: 0x20, main: main(5, 2, 1663, 4_000) });
    expect(h.store.size(at.relSize(9))).toBeUndefined();
    expect(h.store.size(at.relSize(9), before)).toBe(4);
    expect(h.store.read(at.relmap(5), 0).kind).toBe("tombstone");
    h.add(touch(9, 0));
    expect(h.store.types(at.page(9), 0)).toEqual(["ZERO", "RECORD", "ZERO", "RECORD"]);
  });

  test("WAL-logged creation does nothing until the map comes", () => {
    const h = new Harness();
    const keys = h.store.versions.size;
    h.add({ rmid: RM.DBASE, info: 0x10, main: main(6, 1663) });
    expect(h.store.versions.size).toBe(keys);
    h.add(relmap(6, 1));
    expect(h.store.read(at.relmap(6), 0).kind).toBe("value");
  });
});
