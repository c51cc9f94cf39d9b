import fc from "fast-check";
import { describe, expect, test } from "vitest";

import { Arena } from "../../../src/core/arena.ts";
import { Lsn, WAL_PAGE_BYTES, WAL_SEGMENT_BYTES } from "../../../src/core/lsn.ts";
import { VERSION_FLAG } from "../../../src/core/version.ts";
import { WalDecoder } from "../../../src/protocol/wal/decoder.ts";
import { WalCorrupt } from "../../../src/protocol/wal/format.ts";
import { RM, XLOG } from "../../../src/protocol/wal/rmgr.ts";
import { WalBuilder, decodeAll, fill, heap, snapshot } from "../../support/wal-builder.ts";

const SEGMENT = WAL_SEGMENT_BYTES;
/** What a decoder must say of everything a builder has put down. */
const expected = (builder: WalBuilder): unknown[] =>
  builder.records.map((r) => ({
    startLsn: r.startLsn,
    endLsn: r.endLsn,
    prevLsn: r.prevLsn,
    bytes: Buffer.from(r.bytes).toString("hex"),
  }));
const decoded = (result: ReturnType<typeof decodeAll>): unknown[] =>
  result.records.map(({ startLsn, endLsn, prevLsn, bytes }) => ({
    startLsn,
    endLsn,
    prevLsn,
    bytes,
  }));

/** Streams that start anywhere legal, cross pages and a segment end, switch, and are torn. */
const streams = fc
  .record({
    start: fc.oneof(
      fc.constant(3 * SEGMENT),
      fc.constant(3 * SEGMENT + 40),
      fc.constant(3 * SEGMENT - WAL_PAGE_BYTES),
      fc.nat(WAL_PAGE_BYTES / 8 - 6).map((n) => 3 * SEGMENT - WAL_PAGE_BYTES + 24 + n * 8),
    ),
    steps: fc.array(
      fc.record({
        kind: fc.constantFrom("add", "add", "add", "add", "switch", "tear"),
        size: fc.oneof(fc.nat(300), fc.nat(20_000)),
      }),
      { maxLength: 12 },
    ),
  })
  .map(({ start, steps }) => {
    const builder = new WalBuilder({ start: Lsn.of(start) });
    steps.forEach(({ kind, size }, i) => {
      const left = Math.ceil(builder.end / SEGMENT) * SEGMENT - builder.end;
      if (kind === "switch" && left < 4 * WAL_PAGE_BYTES) builder.switchSegment(i);
      else if (kind === "tear") builder.tear(heap(size + WAL_PAGE_BYTES, i));
      else builder.add(heap(size, i));
    });
    return builder;
  });

const options = (builder: WalBuilder): { version: 15; start: Lsn } => ({
  version: 15,
  start: builder.start,
});

describe("laws", () => {
  test("any cut of the bytes gives the same records", () => {
    const cuts = fc.array(fc.oneof(fc.integer({ min: 1, max: 40 }), fc.nat(9000)), {
      maxLength: 60,
    });
    fc.assert(
      fc.property(streams, cuts, (builder, pieces) => {
        const result = decodeAll(options(builder), builder.bytes(), pieces);
        expect(result.error).toBeUndefined();
        expect(decoded(result)).toEqual(expected(builder));
        expect(result.decoder.position).toBe(builder.end);
        expect(result.decoder.lastEnd).toBe(builder.records.at(-1)?.endLsn ?? builder.start);
      }),
      { numRuns: 150 },
    );
  });

  test("a byte at a time gives the same records", () => {
    const builder = new WalBuilder({ start: Lsn.of(3 * SEGMENT - 2 * WAL_PAGE_BYTES + 24) });
    for (let i = 0; i < 40; i++) builder.add(heap(i * 23, i));
    builder.tear(heap(30_000));
    builder.add(heap(20));
    const bytes = builder.bytes();
    const result = decodeAll(options(builder), bytes, new Array(bytes.length).fill(1));
    expect(result.error).toBeUndefined();
    expect(decoded(result)).toEqual(expected(builder));
  });

  test("decoding resumes from the end of any record", () => {
    fc.assert(
      fc.property(streams, fc.nat(), (builder, pick) => {
        if (builder.records.length < 2) return;
        const index = pick % (builder.records.length - 1);
        const { startLsn, endLsn } = builder.records[index]!;
        const torn = builder.records.findIndex(
          (r, i) => i > index && r.spec.info === XLOG.OVERWRITE_CONTRECORD,
        );
        if (torn >= 0 && torn !== index + 1) return;
        const result = decodeAll(
          { version: 15, start: endLsn, previous: startLsn },
          builder.bytes().subarray(endLsn - builder.start),
        );
        expect(result.error).toBeUndefined();
        expect(decoded(result)).toEqual(expected(builder).slice(index + 1));
      }),
      { numRuns: 60 },
    );
  });

  test("a flipped bit is found, or changes nothing that is delivered", () => {
    fc.assert(
      fc.property(streams, fc.nat(), fc.nat(7), fc.nat(9000), (builder, where, bit, cut) => {
        const bytes = builder.bytes();
        if (bytes.length === 0) return;
        bytes[where % bytes.length]! ^= 1 << bit;
        const result = decodeAll(options(builder), bytes, [cut]);
        if (result.error !== undefined) expect(result.error).toBeInstanceOf(WalCorrupt);
        expect(decoded(result)).toEqual(expected(builder).slice(0, result.records.length));
        if (result.error === undefined && result.decoder.lastEnd >= builder.end) {
          expect(result.records.length).toBe(builder.records.length);
        }
      }),
      { numRuns: 300 },
    );
  });

  test("noise is corrupt or incomplete, never anything else", () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 400 }), fc.boolean(), (noise, behindHeader) => {
        const start = Lsn.of(3 * SEGMENT + (behindHeader ? 40 : 0));
        const result = decodeAll({ version: 15, start }, noise);
        if (result.error !== undefined) expect(result.error).toBeInstanceOf(WalCorrupt);
        expect(result.records).toEqual([]);
      }),
    );
  });
});

describe("fields", () => {
  test("block references, images, origin and main data", () => {
    const builder = new WalBuilder({ start: Lsn.of(SEGMENT), previous: Lsn.of(0) });
    const image = fill(8000);
    builder.add({
      rmid: RM.BTREE,
      info: 0x31,
      xid: 4_000_000_000,
      origin: 9,
      toplevelXid: 5,
      main: fill(300),
      blocks: [
        { spc: 1663, db: 5, rel: 16384, block: 4_000_000_000, data: fill(3) },
        { spc: 1663, db: 5, rel: 16384, fork: 2, block: 1, willInit: true },
        {
          id: 7,
          spc: 1664,
          db: 0,
          rel: 1262,
          fork: 1,
          block: 2,
          image: { bytes: image, holeOffset: 100, holeLength: 192, apply: false },
          data: fill(5),
        },
        {
          id: 32,
          spc: 1664,
          db: 0,
          rel: 1262,
          block: 3,
          image: {
            bytes: fill(50),
            compression: VERSION_FLAG.ZSTD,
            holeOffset: 24,
            holeLength: 4000,
          },
        },
      ],
    });
    const { records, error } = decodeAll({ version: 15, start: Lsn.of(SEGMENT) }, builder.bytes());
    expect(error).toBeUndefined();
    const none = { hasImage: false, applyImage: false, compression: 0, image: "" };
    const noHole = { holeOffset: 0, holeLength: 0 };
    const toHex = (b: Uint8Array): string => Buffer.from(b).toString("hex");
    const first = { spc: 1663, db: 5, rel: 16384 };
    const second = { spc: 1664, db: 0, rel: 1262 };
    expect(records[0]).toMatchObject({
      rmid: RM.BTREE,
      info: 0x31,
      xid: 4_000_000_000,
      origin: 9,
      main: toHex(fill(300)),
      startLsn: SEGMENT + 40,
      prevLsn: 0,
      blocks: [
        {
          ...none,
          ...noHole,
          ...first,
          id: 0,
          fork: 0,
          block: 4_000_000_000,
          willInit: false,
          data: toHex(fill(3)),
        },
        { ...none, ...noHole, ...first, id: 1, fork: 2, block: 1, willInit: true, data: "" },
        {
          ...second,
          id: 7,
          fork: 1,
          block: 2,
          hasImage: true,
          applyImage: false,
          compression: 0,
          holeOffset: 100,
          holeLength: 192,
          image: toHex(image),
          data: toHex(fill(5)),
        },
        {
          ...second,
          id: 32,
          fork: 0,
          block: 3,
          hasImage: true,
          applyImage: true,
          compression: VERSION_FLAG.ZSTD,
          holeOffset: 24,
          holeLength: 4000,
          image: toHex(fill(50)),
          data: "",
        },
      ],
    });
  });

  test("what a record leaves in the reused object does not leak into the next", () => {
    const builder = new WalBuilder({ start: Lsn.of(SEGMENT) });
    const at = { spc: 1, db: 2, rel: 3, block: 4 };
    builder.add({
      rmid: RM.HEAP,
      info: 0,
      origin: 3,
      main: fill(9),
      blocks: [{ ...at, willInit: true, image: { bytes: fill(8192) }, data: fill(4) }],
    });
    builder.add({ rmid: RM.HEAP, info: 0, blocks: [at] });
    builder.add({ rmid: RM.XLOG, info: XLOG.NOOP });
    const { records } = decodeAll(options(builder), builder.bytes());
    expect(records[1]).toMatchObject({
      origin: 0,
      main: "",
      blocks: [{ willInit: false, hasImage: false, applyImage: false, image: "", data: "" }],
    });
    expect(records[2]).toMatchObject({ blocks: [], main: "" });
  });

  test("14 numbers the bits of an image differently", () => {
    const image = { bytes: fill(60), compression: VERSION_FLAG.PGLZ };
    const builder = new WalBuilder({ start: Lsn.of(SEGMENT), version: 14 });
    builder.add({ rmid: 0, info: 0xb0, blocks: [{ spc: 1, db: 2, rel: 3, block: 4, image }] });
    const { records, error } = decodeAll({ version: 14, start: builder.start }, builder.bytes());
    expect(error).toBeUndefined();
    expect(records[0]!.blocks[0]).toMatchObject({ applyImage: true, compression: 4 });
    expect(decodeAll({ version: 15, start: builder.start }, builder.bytes()).error).toMatchObject({
      message: "WAL at 0/1000000: page header: expected magic D110, found D10D",
    });
  });
});

describe("positions", () => {
  test("a record that ends at a page's end is stamped with the page boundary", () => {
    const builder = new WalBuilder({ start: Lsn.of(SEGMENT) });
    builder.add(heap(WAL_PAGE_BYTES - 40 - 24 - 20 - 5));
    expect(builder.end).toBe(SEGMENT + WAL_PAGE_BYTES);
    builder.add(heap(10));
    const { records, decoder } = decodeAll(options(builder), builder.bytes());
    expect(records[0]!.endLsn).toBe(SEGMENT + WAL_PAGE_BYTES);
    expect(records[1]!.startLsn).toBe(SEGMENT + WAL_PAGE_BYTES + 24);
    expect(decoder.lastStart).toBe(SEGMENT + WAL_PAGE_BYTES + 24);
  });

  test("after a switch the rest of the segment is passed over unread", () => {
    const start = Lsn.of(2 * SEGMENT - 2 * WAL_PAGE_BYTES);
    const builder = new WalBuilder({ start });
    builder.add(heap(10));
    builder.switchSegment(0xa5);
    builder.add(heap(10));
    const bytes = builder.bytes();
    const { records, decoder } = decodeAll(options(builder), bytes.subarray(0, 300));
    expect(records).toHaveLength(2);
    expect(decoder.lastEnd).toBe(2 * SEGMENT);
    expect(decoder.position).toBe(start + 300);
    decoder.feed(bytes, 300);
    expect(decoder.lastEnd).toBe(builder.end);
  });

  test("a switch that ends exactly at a segment's end skips nothing", () => {
    const builder = new WalBuilder({ start: Lsn.of(2 * SEGMENT - 24) });
    builder.switchSegment();
    builder.add(heap(10));
    expect(builder.records[0]!.endLsn).toBe(2 * SEGMENT);
    const result = decodeAll(options(builder), builder.bytes());
    expect(decoded(result)).toEqual(expected(builder));
  });

  test("a new arena in the middle of a record gets the whole record", () => {
    const builder = new WalBuilder({ start: Lsn.of(SEGMENT) });
    builder.add(heap(20_000));
    const bytes = builder.bytes();
    const [first, second] = [new Arena(), new Arena()];
    const seen: unknown[] = [];
    const decoder = new WalDecoder({
      ...options(builder),
      arena: first,
      onRecord: (r) => seen.push(r.chunk === second.chunk, snapshot(r).bytes),
    });
    decoder.feed(bytes, 0, 9000);
    decoder.moveTo(second);
    first.chunk.bytes.fill(0xff);
    decoder.feed(bytes, 9000);
    expect(seen).toEqual([true, Buffer.from(builder.records[0]!.bytes).toString("hex")]);
  });

  test("committed records stay where they are, others are overwritten", () => {
    const builder = new WalBuilder({ start: Lsn.of(SEGMENT) });
    for (let i = 0; i < 5000; i++) builder.add(heap(100 + (i % 900), i));
    const arena = new Arena();
    const kept: [Uint8Array, number][] = [];
    let n = 0;
    const decoder = new WalDecoder({
      ...options(builder),
      arena,
      onRecord(r) {
        if (n % 3 !== 0) {
          arena.commit(r.length);
          kept.push([r.chunk.bytes.subarray(r.start, r.start + r.length), n]);
        }
        n++;
      },
    });
    decoder.feed(builder.bytes());
    expect(n).toBe(5000);
    expect(arena.chunks.length).toBeGreaterThan(1);
    for (const [bytes, i] of kept) {
      expect(Buffer.compare(bytes, builder.records[i]!.bytes)).toBe(0);
    }
  });
});
