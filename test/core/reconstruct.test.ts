import fc from "fast-check";
import { describe, expect, test } from "vitest";

import { Lsn } from "../../src/core/lsn.ts";
import { CLOG_COMMITTED, SMALL_OP_BYTES, writeClogSet } from "../../src/core/page-op.ts";
import { Chain, type ChainOutcome } from "../../src/core/reconstruct.ts";
import type { RedoRecord } from "../../src/core/redo-request.ts";
import { VERSION, VERSION_FLAG, type Version, type VersionType } from "../../src/core/version.ts";
import { restorePage } from "../../src/protocol/restore-page.ts";

function version(type: VersionType, lsn: number, payload: Uint8Array, flags = 0): Version {
  // In the middle of other bytes, as in an arena.
  const bytes = Uint8Array.of(1, 2, 3, ...payload, 9);
  const at = { type, flags, lsn: Lsn.of(lsn), bytes, start: 3, length: payload.length };
  return { ...at, holeOffset: 0, holeLength: type === VERSION.IMAGE ? 8192 - payload.length : 0 };
}
const zero = (lsn: number): Version => version(VERSION.IMAGE, lsn, new Uint8Array(0));
const full = (lsn: number, fill: number, flags = 0): Version =>
  version(VERSION.IMAGE, lsn, new Uint8Array(8192).fill(fill), flags);
const record = (lsn: number, text: string, flags = 0): Version =>
  version(VERSION.RECORD, lsn, new TextEncoder().encode(text), flags);
function commit(lsn: number, xid: number): Version {
  const op = new Uint8Array(SMALL_OP_BYTES);
  writeClogSet(op, CLOG_COMMITTED, xid);
  return version(VERSION.OP, lsn, op);
}
const value = (lsn: number, text: string): Version =>
  version(VERSION.VALUE, lsn, new TextEncoder().encode(text));
const tombstone = (lsn: number): Version => version(VERSION.TOMBSTONE, lsn, new Uint8Array(0));

const chain = new Chain(restorePage);

/** The records of each step as objects. */
function stepsOf(outcome: ChainOutcome): readonly (readonly RedoRecord[])[] {
  if (outcome.kind !== "redo") throw new Error(outcome.kind);
  return outcome.steps.map((records) => [...records]);
}

/** Offers newest to oldest until told to stop; destroys each version's bytes afterwards, as a store may. */
function read(versions: readonly Version[], page = new Uint8Array(8192), at = 1_000): ChainOutcome {
  chain.begin(Lsn.of(at), page);
  for (const v of versions) {
    const more = chain.offer(v);
    v.bytes.fill(0xee);
    if (!more) break;
  }
  return chain.outcome();
}

describe("outcomes", () => {
  test("nothing", () => expect(read([])).toEqual({ kind: "none" }));
  test("a value is a copy, and hides what is older", () => {
    const want = { kind: "value", value: new TextEncoder().encode("new"), lsn: 20 };
    expect(read([value(20, "new"), value(10, "old")])).toEqual(want);
  });
  test("a tombstone hides what is older", () => {
    expect(read([tombstone(20), value(10, "old")])).toEqual({ kind: "tombstone", lsn: 20 });
  });
  test("an image is written to the page, with its LSN if asked", () => {
    const page = new Uint8Array(8192);
    expect(read([full(0x2_0000_0008, 7)], page, 0x3_0000_0000)).toEqual({ kind: "page" });
    expect(page).toEqual(new Uint8Array(8192).fill(7));
    read([full(0x2_0000_0008, 7, VERSION_FLAG.STAMP_LSN)], page, 0x3_0000_0000);
    expect([...page.subarray(0, 9)]).toEqual([2, 0, 0, 0, 8, 0, 0, 0, 7]);
  });
  test("a hole is zeros even if the page was used before", () => {
    const page = new Uint8Array(8192).fill(5);
    read([zero(10)], page);
    expect(page).toEqual(new Uint8Array(8192));
  });
  test("records over an image need redo, oldest first, in memory that stays", () => {
    const page = new Uint8Array(8192);
    const outcome = read([record(30, "third"), record(20, "second"), full(10, 7)], page);
    const text = new TextEncoder();
    const steps = [
      [
        { lsn: 20, bytes: text.encode("second") },
        { lsn: 30, bytes: text.encode("third") },
      ],
    ];
    read([commit(5, 1), zero(1)]);
    expect(outcome).toMatchObject({ kind: "redo", base: page });
    expect(stepsOf(outcome)).toEqual(steps);
    expect(page[100]).toBe(7);
  });
  test("an initialising record needs no base", () => {
    const outcome = read([record(30, "b"), record(20, "a", VERSION_FLAG.WILL_INIT), zero(10)]);
    expect(outcome).toMatchObject({ kind: "redo", base: undefined });
    expect(stepsOf(outcome)).toMatchObject([[{ lsn: 20 }, { lsn: 30 }]]);
  });
  test("changes without beginning are corrupt, as are mixtures", () => {
    expect(read([record(20, "a")])).toMatchObject({ kind: "corrupt" });
    expect(read([commit(20, 1)])).toMatchObject({ kind: "corrupt" });
    expect(read([commit(20, 1), record(10, "a"), zero(5)])).toMatchObject({ kind: "corrupt" });
    expect(read([commit(20, 1), record(10, "a", VERSION_FLAG.WILL_INIT)])).toMatchObject({
      kind: "corrupt",
    });
    expect(read([commit(20, 1), value(10, "x")])).toMatchObject({ kind: "corrupt" });
  });
  test("a version of the future is our fault, as is going on after the end", () => {
    chain.begin(Lsn.of(10), new Uint8Array(8192));
    expect(() => chain.offer(zero(11))).toThrow(/I7/);
    chain.begin(Lsn.of(10), new Uint8Array(8192));
    expect(chain.offer(zero(10))).toBe(false);
    expect(() => chain.offer(zero(9))).toThrow(/ended/);
  });
});

test("operations apply oldest first: the last status wins, for any history", () => {
  const steps = fc.array(
    fc.record({ xid: fc.nat({ max: 40 }), status: fc.integer({ min: 1, max: 3 }) }),
  );
  fc.assert(
    fc.property(steps, fc.nat({ max: 60 }), (history, cut) => {
      const versions = [zero(1)];
      const model = new Map<number, number>();
      history.forEach(({ xid, status }, i) => {
        const op = new Uint8Array(SMALL_OP_BYTES);
        writeClogSet(op, status, xid);
        versions.unshift(version(VERSION.OP, 10 + i, op));
        if (i < cut) model.set(xid, status);
      });
      const page = new Uint8Array(8192).fill(1);
      const at = 9 + cut;
      expect(
        read(
          versions.filter((v) => v.lsn <= at),
          page,
          at,
        ).kind,
      ).toBe("page");
      const found = Array.from({ length: 41 }, (_, x) => (page[x >> 2]! >> ((x & 3) * 2)) & 3);
      expect(found).toEqual(Array.from({ length: 41 }, (_, x) => model.get(x) ?? 0));
    }),
  );
});

test("many large records outgrow the scratch memory", () => {
  const big = Array.from({ length: 40 }, (_, i) => record(100 - i, `${i}:`.repeat(2_000)));
  const outcome = read([...big, zero(1)]);
  const texts = stepsOf(outcome)[0]!.map((r) => new TextDecoder().decode(r.bytes));
  expect(texts).toEqual(Array.from({ length: 40 }, (_, i) => `${39 - i}:`.repeat(2_000)));
});

test("records of one read outlive the reads behind it, which share their memory", () => {
  const reads = Array.from({ length: 200 }, (_, n) =>
    read([record(90, `${n}:`.repeat(100 + n)), record(80, `${n}`), zero(1)]),
  );
  reads.forEach((outcome, n) => {
    const texts = stepsOf(outcome)[0]!.map((r) => new TextDecoder().decode(r.bytes));
    expect(texts).toEqual([`${n}`, `${n}:`.repeat(100 + n)]);
  });
});

describe("pages of a database made by copying files", () => {
  test("records of source and copy are separate steps, the source's first", () => {
    const page = new Uint8Array(8192);
    chain.begin(Lsn.of(100), page);
    expect(chain.offer(record(90, "own"))).toBe(true);
    chain.enterSource(Lsn.of(50));
    expect(chain.offer(record(50, "source 2"))).toBe(true);
    expect(chain.offer(record(40, "source 1"))).toBe(true);
    expect(chain.offer(full(30, 3))).toBe(false);
    const outcome = chain.outcome();
    expect(stepsOf(outcome)).toMatchObject([[{ lsn: 40 }, { lsn: 50 }], [{ lsn: 90 }]]);
  });
  test("an untouched copy of a copy has empty steps of its own", () => {
    chain.begin(Lsn.of(100), new Uint8Array(8192));
    chain.enterSource(Lsn.of(50));
    chain.enterSource(Lsn.of(40));
    chain.offer(record(40, "x", VERSION_FLAG.WILL_INIT));
    const outcome = chain.outcome();
    expect(outcome).toMatchObject({ base: undefined });
    expect(stepsOf(outcome)).toMatchObject([[{ lsn: 40 }], [], []]);
  });
  test("what the source did later is not seen", () => {
    chain.begin(Lsn.of(100), new Uint8Array(8192));
    chain.enterSource(Lsn.of(50));
    expect(() => chain.offer(zero(51))).toThrow(/I7/);
  });
});
