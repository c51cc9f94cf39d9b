import { describe, expect, test } from "vitest";

import { Lsn } from "../../../src/core/lsn.ts";
import { RM } from "../../../src/protocol/wal/rmgr.ts";
import type { RecordSpec } from "../../../src/protocol/wal/writer.ts";
import { Harness, at, main } from "./model.ts";

const MEMBERS = 1;
const OFFSETS = 2;

const zero = (rmid: number, info: number, page: number): RecordSpec => ({
  rmid,
  info,
  main: main(page),
});
const createMulti = (
  multi: number,
  offset: number,
  members: readonly (readonly [number, number])[],
): RecordSpec => ({
  rmid: RM.MULTIXACT,
  info: 0x20,
  main: main(multi, offset, members.length, ...members.flat()),
});

const readPage = (h: Harness, slru: number, page: number, lsn?: Lsn): Uint8Array =>
  h.store.page(at.slru(slru, Math.floor(page / 32)), page % 32, lsn);

function offsetOf(h: Harness, multi: number): number {
  const view = new DataView(readPage(h, OFFSETS, Math.floor(multi / 2048)).buffer);
  return view.getUint32((multi % 2048) * 4, true);
}

/** Straight from the macros of multixact.c: MXOffsetToMemberPage, …MemberOffset, …FlagsOffset, …FlagsBitShift. */
function memberOf(h: Harness, offset: number): readonly [number, number] {
  const view = new DataView(readPage(h, MEMBERS, Math.floor(offset / 1636)).buffer);
  const flagsOffset = (Math.floor(offset / 4) % 409) * 20;
  const flags = view.getUint32(flagsOffset, true);
  return [
    view.getUint32(flagsOffset + 4 + (offset % 4) * 4, true),
    (flags >>> ((offset % 4) * 8)) & 255,
  ];
}

describe("clog", () => {
  test("a zeroed page begins a segment, or extends one", () => {
    const h = new Harness();
    h.add(zero(RM.CLOG, 0x00, 32), zero(RM.CLOG, 0x00, 33));
    expect(h.store.size(at.slruSize(0, 1))).toBe(2);
    expect(h.store.size(at.slruSize(0, 0))).toBeUndefined();
    expect(h.store.types(at.slru(0, 1), 0)).toEqual(["ZERO"]);
  });

  test("zeroing wipes an existing page", () => {
    const h = new Harness();
    const commit = { rmid: RM.XACT, info: 0, xid: 701, main: main(0, 0) };
    const end = h.add(commit);
    expect(readPage(h, 0, 0).some((b) => b !== 0)).toBe(true);
    h.add(zero(RM.CLOG, 0x00, 0));
    expect(readPage(h, 0, 0).every((b) => b === 0)).toBe(true);
    expect(readPage(h, 0, 0, end).some((b) => b !== 0)).toBe(true);
  });

  const truncate = (page: number, oldestXid: number): RecordSpec => ({
    rmid: RM.CLOG,
    info: 0x10,
    main: main(page, oldestXid, 5),
  });
  const segments = (h: Harness, slru: number, among: readonly number[]): readonly number[] =>
    among.filter((segment) => h.store.size(at.slruSize(slru, segment)) !== undefined);

  test("truncation drops segments wholly before the page, and no others", () => {
    const h = new Harness({ nextXid: 100 * 32_768 });
    h.add(...[0, 31, 32, 63, 64, 99].map((page) => zero(RM.CLOG, 0x00, page)));
    h.add(truncate(63, 63 * 32_768 + 5));
    expect(segments(h, 0, [0, 1, 2, 3])).toEqual([1, 2, 3]);
    expect(h.checkpoint()).toMatchObject({ oldestXid: 63 * 32_768 + 5, oldestXidDb: 5 });
    h.add(truncate(64, 64 * 32_768));
    expect(segments(h, 0, [0, 1, 2, 3])).toEqual([2, 3]);
  });

  test("nothing is dropped when the counter seems to have wrapped around", () => {
    const h = new Harness({ nextXid: 10 * 32_768 });
    h.add(zero(RM.CLOG, 0x00, 0), truncate(40, 40 * 32_768));
    expect(segments(h, 0, [0])).toEqual([0]);
  });

  test("ids are a circle: segments behind the wrap are older", () => {
    const h = new Harness({ nextXid: 2 ** 32 + 5 * 32_768 });
    const top = 131_072; // pages
    h.add(zero(RM.CLOG, 0x00, top - 40), zero(RM.CLOG, 0x00, 0));
    h.add(truncate(top - 2, (top - 2) * 32_768));
    expect(segments(h, 0, [0, (top - 64) / 32, (top - 32) / 32])).toEqual([0]);
  });
});

describe("multixacts", () => {
  test("creation sets its offset, the next one's, and the members", () => {
    const h = new Harness();
    const end = h.add(
      createMulti(1, 1, [
        [701, 0],
        [702, 5],
      ]),
    );
    expect([0, 1, 2, 3].map((m) => offsetOf(h, m))).toEqual([0, 1, 3, 0]);
    expect([1, 2, 3].map((o) => memberOf(h, o))).toEqual([
      [701, 0],
      [702, 5],
      [0, 0],
    ]);
    const next = { nextMulti: 2, nextMultiOffset: 3, nextXid: 1_024 };
    expect(h.checkpoint()).toMatchObject(next);
    expect(h.store.types(at.slru(OFFSETS, 0), 0)).toEqual(["ZERO", "OP"]);
    h.add(
      createMulti(1, 1, [
        [701, 0],
        [702, 5],
      ]),
    );
    expect(readPage(h, MEMBERS, 0)).toEqual(readPage(h, MEMBERS, 0, end));
  });

  test("members run over pages, and over the end of the numbers", () => {
    const h = new Harness({ nextMulti: 10, nextMultiOffset: 2 ** 32 - 1640 });
    const count = 1_640 + 1_700;
    const members = Array.from({ length: count }, (_, i) => [1_000 + i, i % 6] as const);
    const first = 2 ** 32 - 1_640;
    h.add(createMulti(10, first, members));
    for (const i of [0, 1, 1_639, 1_640, 1_641, 3_275, 3_276, count - 1]) {
      expect(memberOf(h, (first + i) % 2 ** 32)).toEqual(members[i]);
    }
    expect(offsetOf(h, 11)).toBe(1_700);
    expect(h.checkpoint().nextMultiOffset).toBe(1_700);
  });

  test("an offset of 0 is never given: the next multixact skips it", () => {
    const h = new Harness();
    h.add(createMulti(5, 2 ** 32 - 1, [[701, 0]]));
    expect(offsetOf(h, 6)).toBe(1);
  });

  test("the last multixact of a page sets the first offset of the next, making the page", () => {
    const h = new Harness({ nextMulti: 2_047 });
    h.add(createMulti(2_047, 100, [[701, 0]]));
    expect([offsetOf(h, 2_047), offsetOf(h, 2_048)]).toEqual([100, 101]);
    expect(h.store.size(at.slruSize(OFFSETS, 0))).toBe(2);
    // An older minor version zeroes the page only now, and that must not undo it.
    h.add(zero(RM.MULTIXACT, 0x00, 1));
    expect(offsetOf(h, 2_048)).toBe(101);
  });

  test("a page that was zeroed in time is not spared from zeroing again", () => {
    const h = new Harness({ nextMulti: 2_047 });
    h.add(zero(RM.MULTIXACT, 0x00, 1), createMulti(2_047, 100, [[701, 0]]));
    expect(offsetOf(h, 2_048)).toBe(101);
    h.add(createMulti(2_048, 101, [[701, 0]]), zero(RM.MULTIXACT, 0x00, 1));
    expect(offsetOf(h, 2_048)).toBe(0);
  });

  test("after the highest multixact comes the first", () => {
    const h = new Harness({ nextMulti: 2 ** 32 - 1 });
    h.add(createMulti(2 ** 32 - 1, 100, [[701, 0]]));
    expect([offsetOf(h, 2 ** 32 - 1), offsetOf(h, 1)]).toEqual([100, 101]);
    expect(h.checkpoint().nextMulti).toBe(0);
  });

  const truncate = (oldest: number, startMember: number, endMember: number): RecordSpec => ({
    rmid: RM.MULTIXACT,
    info: 0x30,
    main: main(5, 1, oldest, startMember, endMember),
  });
  const left = (h: Harness, slru: number, among: readonly number[]): readonly number[] =>
    among.filter((segment) => h.store.size(at.slruSize(slru, segment)) !== undefined);

  test("truncation drops offsets before the oldest and members before theirs", () => {
    const perSegment = 32 * 2_048;
    const h = new Harness({ nextMulti: 4 * perSegment, nextMultiOffset: 10 });
    for (const segment of [0, 1, 2, 3]) {
      h.add(zero(RM.MULTIXACT, 0x00, segment * 32), zero(RM.MULTIXACT, 0x10, segment * 32));
    }
    h.add(truncate(2 * perSegment + 1, 5, 52_352 + 7));
    expect(left(h, OFFSETS, [0, 1, 2, 3])).toEqual([2, 3]);
    expect(left(h, MEMBERS, [0, 1, 2, 3])).toEqual([1, 2, 3]);
    expect(h.checkpoint()).toMatchObject({ oldestMulti: 2 * perSegment + 1, oldestMultiDb: 5 });
    // The first of a segment: the one before it decides.
    h.add(truncate(3 * perSegment, 0, 0));
    expect(left(h, OFFSETS, [2, 3])).toEqual([2, 3]);
  });

  test("member segments are dropped around the end of the circle", () => {
    const last = 82_040;
    const h = new Harness();
    for (const segment of [0, 1, 2, last]) h.add(zero(RM.MULTIXACT, 0x10, segment * 32));
    h.add(truncate(1, last * 52_352, 52_352 + 1));
    expect(left(h, MEMBERS, [0, 1, 2, last])).toEqual([1, 2]);
  });

  test("member status beyond PostgreSQL's is corrupt", () => {
    const h = new Harness();
    expect(() => h.add(createMulti(1, 1, [[701, 6]]))).toThrow(/status 6/);
  });
});
