// The decompressors against hand-made data and noise. Against PostgreSQL's own: postgres.test.ts.

import fc from "fast-check";
import { describe, expect, test } from "vitest";

import { MalformedInput } from "../../../src/core/assert.ts";
import { PAGE_BYTES } from "../../../src/core/page.ts";
import { VERSION_FLAG } from "../../../src/core/version.ts";
import { restoreImage } from "../../../src/protocol/wal/image.ts";
import { lz4Decompress } from "../../../src/protocol/wal/lz4.ts";
import { pglzDecompress } from "../../../src/protocol/wal/pglz.ts";

const ascii = (text: string): number[] => [...text].map((c) => c.charCodeAt(0));
const run = (decompress: typeof lz4Decompress, data: readonly number[], length: number): string => {
  const out = new Uint8Array(length + 2).fill(0x21);
  const source = Uint8Array.from([9, ...data, 9]);
  decompress(source, 1, source.length - 1, out, 1, length);
  expect([out[0], out[length + 1]]).toEqual([0x21, 0x21]);
  return String.fromCharCode(...out.subarray(1, length + 1));
};

describe("pglz", () => {
  test("literals and a match that overlaps itself", () => {
    // "ab", then 7 bytes from 2 back, then "c"
    expect(run(pglzDecompress, [0b0100, 97, 98, 0x04, 2, 99], 10)).toBe("ababababac".slice(0, 10));
  });
  test("a long match has a third byte", () => {
    expect(run(pglzDecompress, [0b10, 97, 0x0f, 1, 12], 31)).toBe("a".repeat(31));
  });
  test.each([
    ["a match before the beginning", [0b10, 97, 0x00, 2], 4, /2 bytes back at 1/],
    ["a match of offset 0", [0b10, 97, 0x00, 0], 4, /0 bytes back/],
    ["an end within a match", [0b10, 97, 0x00], 4, /ends within a match/],
    ["an end within a long match", [0b10, 97, 0x0f, 1], 40, /ends within a match/],
    ["too few bytes", [0, 97, 98], 3, /gave 2 of 3/],
    ["bytes left over", [0, 97, 98, 99], 2, /1 left over/],
  ])("refuses %s", (_name, data, length, message) => {
    expect(() => run(pglzDecompress, data, length)).toThrow(message);
  });
});

describe("lz4", () => {
  test("literals, an overlapping match, last literals", () => {
    expect(run(lz4Decompress, [0x23, 97, 98, 2, 0, 0x10, 99], 10)).toBe(
      "ababababac".slice(0, 9) + "c",
    );
  });
  test("lengths over 15 continue in more bytes", () => {
    const data = [0xff, 5, ...ascii("x".repeat(20)), 1, 0, 255, 3, 0];
    expect(run(lz4Decompress, data, 20 + 15 + 4 + 255 + 3)).toBe("x".repeat(297));
  });
  test.each([
    ["a match before the beginning", [0x10, 97, 2, 0, 0], 5, /2 bytes back at 1/],
    ["a match of offset 0", [0x10, 97, 0, 0, 0], 5, /0 bytes back/],
    ["literals that are not there", [0x50, 97], 5, /ends within/],
    ["an offset that is not there", [0x10, 97, 1], 5, /ends within/],
    ["a length that is not there", [0xf0], 20, /ends within/],
    ["more literals than fit", [0x30, 97, 98, 99], 2, /more than 2/],
    ["a match longer than fits", [0x1f, 97, 1, 0, 9, 0], 20, /more than 20/],
    ["too few bytes", [0x20, 97, 98], 3, /2 bytes instead of 3/],
  ])("refuses %s", (_name, data, length, message) => {
    expect(() => run(lz4Decompress, data, length)).toThrow(message);
  });
});

describe("images", () => {
  test("the hole becomes zeros, whatever was there", () => {
    fc.assert(
      fc.property(fc.nat(PAGE_BYTES), fc.nat(PAGE_BYTES), (a, b) => {
        const [offset, end] = a < b ? [a, b] : [b, a];
        const hole = end - offset;
        const page = Uint8Array.from({ length: PAGE_BYTES }, (_, i) => (i % 251) + 1);
        page.fill(0, offset, end);
        const image = Buffer.concat([Buffer.of(7), page.subarray(0, offset), page.subarray(end)]);
        const out = new Uint8Array(PAGE_BYTES + 20).fill(0xee);
        restoreImage(0, offset, hole, image, 1, image.length - 1, out, 10);
        expect(Buffer.compare(out.subarray(10, 10 + PAGE_BYTES), page)).toBe(0);
        expect([out[9], out[10 + PAGE_BYTES]]).toEqual([0xee, 0xee]);
      }),
    );
  });

  test("the zero page is a hole and nothing else", () => {
    const out = new Uint8Array(PAGE_BYTES).fill(1);
    restoreImage(VERSION_FLAG.STAMP_LSN, 0, PAGE_BYTES, new Uint8Array(0), 0, 0, out, 0);
    expect(out.every((b) => b === 0)).toBe(true);
  });

  test("an image that is no page is refused, and no byte outside the page is touched", () => {
    const methods = fc.constantFrom(0, VERSION_FLAG.PGLZ, VERSION_FLAG.LZ4, VERSION_FLAG.ZSTD);
    const zstdHead = [0x28, 0xb5, 0x2f, 0xfd, 0x60, 0x00, 0x1f];
    fc.assert(
      fc.property(
        methods,
        fc.uint8Array({ maxLength: 300 }),
        fc.nat(9000),
        fc.nat(9000),
        (method, noise, offset, hole) => {
          const framed = method === VERSION_FLAG.ZSTD && hole < 100;
          const data = framed ? Uint8Array.from([...zstdHead, ...noise]) : noise;
          const holeLength = framed ? 0 : hole;
          const out = new Uint8Array(PAGE_BYTES + 20).fill(0xee);
          try {
            restoreImage(method, offset, holeLength, data, 0, data.length, out, 10);
          } catch (error) {
            expect(error).toBeInstanceOf(MalformedInput);
          }
          expect(out.subarray(0, 10).every((b) => b === 0xee)).toBe(true);
          expect(out.subarray(10 + PAGE_BYTES).every((b) => b === 0xee)).toBe(true);
        },
      ),
      { numRuns: 500 },
    );
  });

  test("a length past the memory is refused", () => {
    const page = new Uint8Array(PAGE_BYTES);
    expect(() => restoreImage(0, 0, 0, page, 1, PAGE_BYTES, page, 0)).toThrow(MalformedInput);
    expect(() => restoreImage(0, 0, 0, page, 0, PAGE_BYTES, page, 8)).toThrow(MalformedInput);
  });
});
