import { crc32c as nativeCrc32c } from "@node-rs/crc32";
import fc from "fast-check";
import { expect, test } from "vitest";

import { NATIVE_CRC_BYTES_MIN, copyWithCrc32c, crc32c } from "../../src/protocol/crc32c.ts";

const ascii = (text: string): Uint8Array => new TextEncoder().encode(text);

test("the check value of the CRC catalogue and those of RFC 3720", () => {
  expect(crc32c(ascii("123456789"))).toBe(0xe3069283);
  expect(crc32c(new Uint8Array(32))).toBe(0x8a9136aa);
  expect(crc32c(new Uint8Array(32).fill(0xff))).toBe(0x62a8ab43);
  expect(crc32c(Uint8Array.from({ length: 32 }, (_, i) => i))).toBe(0x46dd794e);
  expect(crc32c(new Uint8Array(0))).toBe(0);
});

const longest = NATIVE_CRC_BYTES_MIN + 64;

test("tables and native code agree, whole and continued over any cut", () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: longest }), fc.nat(longest), (bytes, cut) => {
      const at = Math.min(cut, bytes.length);
      const whole = nativeCrc32c(bytes);
      expect(crc32c(bytes)).toBe(whole);
      expect(crc32c(bytes, at, bytes.length, crc32c(bytes, 0, at))).toBe(whole);
      expect(nativeCrc32c(bytes.subarray(at), crc32c(bytes, 0, at))).toBe(whole);
    }),
  );
});

test("copying with a CRC copies, and gives the CRC", () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 200 }), fc.nat(20), fc.nat(20), (bytes, skip, put) => {
      const from = Math.min(skip, bytes.length);
      const out = new Uint8Array(300).fill(0xee);
      const source = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
      const crc = copyWithCrc32c(source, from, bytes.length, new DataView(out.buffer), put, 77);
      expect(crc).toBe(crc32c(bytes, from, bytes.length, 77));
      const wanted = new Uint8Array(300).fill(0xee);
      wanted.set(bytes.subarray(from), put);
      expect(out).toEqual(wanted);
    }),
  );
});
