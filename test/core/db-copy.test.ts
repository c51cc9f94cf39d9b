import fc from "fast-check";
import { expect, test } from "vitest";

import { decodeDbCopy, encodeDbCopy } from "../../src/core/db-copy.ts";
import { LSN_MAX, Lsn } from "../../src/core/lsn.ts";
import { VarintReader, writeVarint } from "../../src/core/varint.ts";

test("what is encoded is decoded", () => {
  const oid = fc.nat({ max: 2 ** 32 - 1 });
  fc.assert(
    fc.property(oid, oid, fc.nat({ max: LSN_MAX }), (srcSpc, srcDb, lsn) => {
      const copy = { srcSpc, srcDb, lsn: Lsn.of(lsn) };
      const bytes = encodeDbCopy(copy);
      expect(decodeDbCopy(Uint8Array.of(9, ...bytes, 9).subarray(1, 17))).toEqual(copy);
    }),
  );
});

test("another length is malformed", () => {
  expect(() => decodeDbCopy(new Uint8Array(15))).toThrow(/15 bytes/);
});

test("numbers of any size are written one after the other", () => {
  fc.assert(
    fc.property(fc.array(fc.nat({ max: Number.MAX_SAFE_INTEGER })), (numbers) => {
      const bytes = new Uint8Array(numbers.length * 8);
      let at = 0;
      for (const n of numbers) at = writeVarint(bytes, at, n);
      const reader = new VarintReader(bytes.subarray(0, at));
      expect(numbers.map(() => reader.next())).toEqual(numbers);
      expect(reader.done).toBe(true);
    }),
  );
});
