import fc from "fast-check";
import { expect, test } from "vitest";
import { PAGE_BYTES } from "../../src/core/page.ts";
import type { Lsn } from "../../src/core/lsn.ts";
import { restorePage } from "../../src/protocol/restore-page.ts";
import { imageOf } from "../../src/store/page-image.ts";

/** Pages of repeated pieces, noise and zeros, with or without a header that names a hole. */
const page = fc
  .record({
    pieces: fc.array(
      fc.oneof(
        fc.uint8Array({ maxLength: 300 }),
        fc.record({ byte: fc.nat(255), length: fc.nat(2_000) }),
      ),
      { maxLength: 40 },
    ),
    lower: fc.nat(9_000),
    upper: fc.nat(9_000),
    clean: fc.boolean(),
  })
  .map(({ pieces, lower, upper, clean }) => {
    const bytes = new Uint8Array(PAGE_BYTES);
    let at = 0;
    for (const piece of pieces) {
      const part =
        piece instanceof Uint8Array ? piece : new Uint8Array(piece.length).fill(piece.byte);
      bytes.set(part.subarray(0, PAGE_BYTES - at), at);
      at = Math.min(PAGE_BYTES, at + part.length);
    }
    new DataView(bytes.buffer).setUint16(12, lower, true);
    new DataView(bytes.buffer).setUint16(14, upper, true);
    if (clean && lower >= 24 && lower < upper) bytes.fill(0, lower, upper);
    return bytes;
  });

test("an image gives the page it was made of, whatever the page holds", () => {
  fc.assert(
    fc.property(page, (bytes) => {
      const restored = new Uint8Array(PAGE_BYTES).fill(0xaa);
      restorePage(imageOf(bytes, 77 as Lsn), restored, 0);
      expect(Buffer.compare(restored, bytes)).toBe(0);
    }),
    { numRuns: 500 },
  );
});

test("a page of zeros takes no bytes, repeated rows a tenth", () => {
  expect(imageOf(new Uint8Array(PAGE_BYTES), 8 as Lsn)).toMatchObject({
    holeLength: 8192,
    length: 0,
  });
  const rows = Uint8Array.from({ length: PAGE_BYTES }, (_, i) =>
    i % 100 < 90 ? 32 : (i * 7) & 255,
  );
  expect(imageOf(rows, 8 as Lsn).length).toBeLessThan(PAGE_BYTES / 5);
});
