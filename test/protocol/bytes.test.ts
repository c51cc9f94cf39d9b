import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { MalformedInput } from "../../src/core/assert.ts";
import { LSN_MAX, Lsn } from "../../src/core/lsn.ts";
import { ByteReader, ByteWriter } from "../../src/protocol/bytes.ts";

const u16 = fc.nat(0xffff);
const u32 = fc.nat(0xffff_ffff);
const i32 = fc.integer({ min: -(2 ** 31), max: 2 ** 31 - 1 });
const u64 = fc.bigInt({ min: 0n, max: 2n ** 64n - 1n });
const i64 = fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n });
const lsn = fc.bigInt({ min: 0n, max: BigInt(LSN_MAX) }).map((raw) => Lsn.of(Number(raw)));
const text = fc.string().map((s) => s.replaceAll("\0", ""));
const field = fc.oneof(
  fc.tuple(fc.constant("u8" as const), fc.nat(255)),
  fc.tuple(fc.constantFrom("u16" as const, "u16le" as const), u16),
  fc.tuple(fc.constantFrom("u32" as const, "u32le" as const), u32),
  fc.tuple(fc.constant("i32" as const), i32),
  fc.tuple(fc.constantFrom("u64" as const, "u64le" as const), u64),
  fc.tuple(fc.constant("i64" as const), i64),
  fc.tuple(fc.constantFrom("lsn" as const, "lsnle" as const), lsn),
  fc.tuple(fc.constant("cstring" as const), text),
);
type Field = typeof field extends fc.Arbitrary<infer T> ? T : never;

/** The table of names is the same on both sides; here it is used by name. */
function write(writer: ByteWriter, [name, value]: Field): void {
  (writer[name] as (v: unknown) => unknown).call(writer, value);
}
const read = (reader: ByteReader, [name]: Field): unknown =>
  (reader[name] as (field: string) => unknown).call(reader, name);

describe("bytes", () => {
  test("what is written is read back, whatever the writer's first capacity", () => {
    fc.assert(
      fc.property(fc.array(field, { maxLength: 30 }), fc.nat(64), (fields, capacity) => {
        const writer = new ByteWriter(capacity + 1);
        for (const one of fields) write(writer, one);
        const bytes = writer.done();
        expect(bytes.length).toBe(writer.length);
        const reader = new ByteReader(bytes);
        expect(fields.map((one) => read(reader, one))).toEqual(fields.map(([, value]) => value));
        reader.end("all");
      }),
    );
  });

  test("big endian unless it says le", () => {
    const writer = new ByteWriter(1).u16(0x0102).u32le(0x03040506).lsn(Lsn.parse("A/B"));
    expect(Buffer.from(writer.done()).toString("hex")).toBe("0102060504030000000a0000000b");
  });

  test("a length known late is put in its place", () => {
    const writer = new ByteWriter(1).u8(1).u32(0).text("abc");
    writer.patchU32(1, 7);
    expect(Buffer.from(writer.zeros(2).done()).toString("hex")).toBe("01000000076162630000");
  });

  test("reading past the end names the field and both sizes", () => {
    const reader = new ByteReader(Uint8Array.of(1, 2, 3));
    expect(() => reader.u32("xl_tot_len")).toThrow(
      new MalformedInput("xl_tot_len: need 4 bytes, have 3"),
    );
    expect(reader.offset).toBe(0);
    expect(() => reader.cstring("name")).toThrow("name: string has no terminating NUL");
    expect(() => reader.raw("body", -1)).toThrow(MalformedInput);
    expect(() => reader.end("all")).toThrow("all: 3 bytes too many");
  });

  test("text that is not UTF-8 is malformed", () => {
    expect(() => new ByteReader(Uint8Array.of(0xff, 0)).cstring("name")).toThrow("not valid UTF-8");
  });
});
