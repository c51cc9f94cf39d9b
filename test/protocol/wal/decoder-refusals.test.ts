// What the decoder refuses, and with which sentence. What it accepts: decoder.test.ts.

import fc from "fast-check";
import { describe, expect, test } from "vitest";

import { Arena } from "../../../src/core/arena.ts";
import { Lsn, WAL_PAGE_BYTES, WAL_SEGMENT_BYTES } from "../../../src/core/lsn.ts";
import { WalDecoder, recordCrc } from "../../../src/protocol/wal/decoder.ts";
import { WalCorrupt } from "../../../src/protocol/wal/format.ts";
import { type RecordSpec, buildRecord } from "../../../src/protocol/wal/writer.ts";
import { WalBuilder, decodeAll, fill, heap } from "../../support/wal-builder.ts";

const SEGMENT = WAL_SEGMENT_BYTES;
const options = (builder: WalBuilder): { version: 15; start: Lsn } => ({
  version: 15,
  start: builder.start,
});

describe("refusals", () => {
  const failure = (
    builder: WalBuilder,
    change: (bytes: Uint8Array) => void,
    more: object = {},
  ): unknown => {
    const bytes = builder.bytes();
    change(bytes);
    const { error } = decodeAll({ ...options(builder), ...more }, bytes);
    expect(error).toBeInstanceOf(WalCorrupt);
    return (error as WalCorrupt).message;
  };
  const twoPages = (): WalBuilder => {
    const builder = new WalBuilder({ start: Lsn.of(SEGMENT), previous: Lsn.of(0) });
    builder.add(heap(100));
    builder.add(heap(9000));
    return builder;
  };
  const page2 = WAL_PAGE_BYTES;

  test.each([
    ["flags", 3, 0x10, /expected flags of mask F, found 1002/],
    ["timeline", page2 + 4, 9, /WAL at 0\/1002000: page header: expected timeline 1, found 9/],
    ["address", page2 + 8, 1, /expected address 0\/1002000, found 0\/1002001/],
    ["short header at a segment's start", 2, 0, /expected a header of the long form/],
    ["long header within a segment", page2 + 2, 3, /expected a header of the short form/],
    ["segment size", 35, 2, /expected segment size 16777216/],
    ["page size", 37, 0x40, /expected page size 8192, found 16384/],
    ["no continuation", page2 + 2, 0, /expected \d+ bytes of a continued record/],
    ["wrong remaining length", page2 + 16, 1, /expected \d+ bytes of a continued record/],
    ["continuation of nothing", 2, 3, /expected 0 bytes of a continued record/],
    ["record too short", 40, 23, /expected a record of 24 to \d+ bytes, its length says 23/],
    ["CRC", 60, 0, /WAL at 0\/1000028: record of \d+ bytes has CRC/],
  ])("%s", (_name, at, value, message) => {
    expect(failure(twoPages(), (bytes) => (bytes[at] = value))).toMatch(message);
  });

  test("another system's WAL", () => {
    const message = failure(twoPages(), () => {}, { systemId: 5n });
    expect(message).toMatch(/expected system identifier 5, found 7000000000000000001/);
  });

  test("zeros where a record should be", () => {
    const builder = twoPages();
    const bytes = new Uint8Array(builder.bytes().length + 64);
    bytes.set(builder.bytes());
    const { error, records } = decodeAll(options(builder), bytes);
    expect(records).toHaveLength(2);
    expect((error as WalCorrupt).message).toMatch(/its length says 0/);
    expect((error as WalCorrupt).lsn).toBe(builder.end);
  });

  test("a record that does not name the one before it", () => {
    const builder = twoPages();
    const stray = new WalBuilder({ start: builder.end, previous: Lsn.of(builder.start) });
    stray.add(heap(5));
    const bytes = Buffer.concat([builder.bytes(), stray.bytes()]);
    const { error } = decodeAll(options(builder), bytes);
    expect((error as WalCorrupt).message).toMatch(
      /record names 0\/1000000 as the one before it, expected 0\/10000C0/,
    );
    expect(builder.records[1]!.startLsn).toBe(Lsn.parse("0/10000C0"));
    const start = Lsn.of(3 * SEGMENT);
    const known = new WalBuilder({ start, previous: Lsn.of(start - 64) });
    known.add(heap(5));
    const wrong = decodeAll({ ...options(known), previous: Lsn.of(start - 128) }, known.bytes());
    expect(wrong.error).toBeInstanceOf(WalCorrupt);
  });

  test("an overwritten record that is not the torn one", () => {
    const builder = new WalBuilder({ start: Lsn.of(SEGMENT) });
    builder.tear(heap(9000), "lie");
    const { error } = decodeAll(options(builder), builder.bytes());
    expect((error as WalCorrupt).message).toMatch(/the one at 0\/1000028 was overwritten/);
  });

  test("a resource manager that does not exist", () => {
    for (const [rmid, version] of [
      [22, 15],
      [127, 15],
      [128, 14],
    ] as const) {
      const builder = new WalBuilder({ start: Lsn.of(SEGMENT), version });
      builder.add({ rmid, info: 0 });
      const { error } = decodeAll({ version, start: builder.start }, builder.bytes());
      expect((error as WalCorrupt).message).toMatch(`unknown resource manager ${rmid}`);
    }
    const custom = new WalBuilder({ start: Lsn.of(SEGMENT) });
    custom.add({ rmid: 128, info: 0 });
    expect(decodeAll(options(custom), custom.bytes()).records).toHaveLength(1);
  });

  test("record contents that cannot be, though the CRC is right", () => {
    const format = new WalBuilder({ start: Lsn.of(SEGMENT) }).identity.format;
    const at = { spc: 1, db: 2, rel: 3, block: 4 };
    const image = { bytes: fill(8000), holeOffset: 100, holeLength: 192 };
    const specs: [RecordSpec, RegExp][] = [
      [{ rmid: 10, info: 0, blocks: [at, { ...at, id: 0 }] }, /block id 0 follows block id 0/],
      [{ rmid: 10, info: 0, blocks: [{ ...at, id: 33 }] }, /unknown item id 33/],
      [{ rmid: 10, info: 0, blocks: [{ ...at, fork: 4 }] }, /names fork 4/],
      [{ rmid: 10, info: 0, blocks: [{ ...at, fork: 0x80 }] }, /refers to an earlier relation/],
      [{ rmid: 10, info: 0, blocks: [{ ...at, fork: 0x20 }] }, /0 data bytes/],
      [
        { rmid: 0, info: 0xb0, blocks: [{ ...at, image: { ...image, holeOffset: 0 } }] },
        /image of block 0 is impossible/,
      ],
      [
        { rmid: 0, info: 0xb0, blocks: [{ ...at, image: { ...image, holeOffset: 8001 } }] },
        /image of block 0 is impossible/,
      ],
      [
        { rmid: 0, info: 0xb0, blocks: [{ ...at, image: { bytes: fill(8192), compression: 8 } }] },
        /image of block 0 is impossible/,
      ],
    ];
    for (const [spec, message] of specs) {
      const builder = new WalBuilder({ start: Lsn.of(SEGMENT) });
      builder.add(spec);
      expect(failure(builder, () => {})).toMatch(message);
    }
    expect(buildRecord({ rmid: 10, info: 0 }, Lsn.of(0), format)).toHaveLength(24);
  });

  test("items are never read past the record, whatever they claim", () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 80 }), (body) => {
        const builder = new WalBuilder({ start: Lsn.of(SEGMENT) });
        const whole = builder.add({ rmid: 10, info: 0, main: body });
        const raw = buildRaw(whole.bytes, body);
        const stream = new Uint8Array(40 + raw.length);
        stream.set(builder.bytes().subarray(0, 40));
        stream.set(raw, 40);
        const { error, records } = decodeAll(options(builder), stream);
        if (error !== undefined) expect(error).toBeInstanceOf(WalCorrupt);
        else expect(records.length).toBe(1);
      }),
      { numRuns: 500 },
    );
  });

  test("the end of a segment file is found, not refused, when asked for", () => {
    const builder = twoPages();
    const file = new Uint8Array(4 * WAL_PAGE_BYTES);
    file.set(builder.bytes());
    const { error, decoder, records } = decodeAll(
      { ...options(builder), atEnd: "stop" },
      file,
      new Array(500).fill(70),
    );
    expect(error).toBeUndefined();
    expect(records).toHaveLength(2);
    expect(decoder.ended).toBe(true);
    expect(decoder.lastEnd).toBe(builder.end);
  });

  test("what the consumer throws is not taken for the end", () => {
    const builder = twoPages();
    const decoder = new WalDecoder({
      ...options(builder),
      atEnd: "stop",
      arena: new Arena(),
      onRecord: (r) => {
        throw new WalCorrupt(r.startLsn, "body of another format");
      },
    });
    expect(() => decoder.feed(builder.bytes())).toThrow("body of another format");
  });
});

/** A record whose items are the given bytes as they are, with a right length and CRC. */
function buildRaw(model: Uint8Array, body: Uint8Array): Uint8Array {
  const raw = new Uint8Array(24 + body.length);
  raw.set(model.subarray(0, 20));
  raw.set(body, 24);
  const view = new DataView(raw.buffer);
  view.setUint32(0, raw.length, true);
  view.setUint32(20, recordCrc(raw, 0, raw.length), true);
  return raw;
}
