import fc from "fast-check";
import { expect, test } from "vitest";
import { KIND } from "../../src/core/key.ts";
import { Lsn } from "../../src/core/lsn.ts";
import { PAGE_BYTES } from "../../src/core/page.ts";
import { PageWriter, eachPage } from "../../src/protocol/import-pages.ts";
import { ImageSink } from "../support/image-source.ts";

/** Pages of all shapes: standard ones with a hole, damaged pointers, short and long tails of zeros, noise. */
const pageArbitrary: fc.Arbitrary<Uint8Array> = fc
  .record({
    lower: fc.integer({ min: 0, max: 9000 }),
    upper: fc.integer({ min: 0, max: 9000 }),
    clear: fc.constantFrom("hole", "all", "all but the header", "nothing"),
    zerosFrom: fc.integer({ min: 0, max: PAGE_BYTES }),
    seed: fc.integer({ min: 1, max: 255 }),
  })
  .map(({ lower, upper, clear, zerosFrom, seed }) => {
    const page = new Uint8Array(PAGE_BYTES);
    for (let i = 0; i < PAGE_BYTES; i++) page[i] = (i * seed + 1) | 1;
    page.fill(0, zerosFrom);
    if (clear === "hole") page.fill(0, lower, Math.max(lower, upper));
    if (clear === "all but the header") page.fill(0, 24);
    if (clear === "all") return page.fill(0);
    new DataView(page.buffer).setUint16(12, lower, true);
    new DataView(page.buffer).setUint16(14, upper, true);
    return page;
  });

async function* cut(bytes: Uint8Array, sizes: readonly number[]): AsyncGenerator<Uint8Array> {
  let at = 0;
  for (let i = 0; at < bytes.length; i++) {
    const size = sizes[i % sizes.length]!;
    // In memory that is overwritten afterwards, as a reader's buffer is.
    const piece = bytes.slice(at, at + size);
    yield piece;
    piece.fill(0xee);
    at += size;
  }
}

test("every page comes out as it went in, whatever the chunks", async () => {
  const sizes = fc.array(fc.integer({ min: 50, max: 30_000 }), { minLength: 1, maxLength: 4 });
  await fc.assert(
    fc.asyncProperty(
      fc.array(pageArbitrary, { maxLength: 5 }),
      sizes,
      fc.integer({ min: 0, max: PAGE_BYTES - 1 }),
      async (pages, chunkSizes, rest) => {
        const bytes = new Uint8Array(pages.length * PAGE_BYTES + rest);
        pages.forEach((page, i) => bytes.set(page, i * PAGE_BYTES));
        const sink = new ImageSink();
        const group = sink.groups.id(KIND.PAGE, 1663, 5, 16_384, 0);
        const writer = new PageWriter(sink, Lsn.of(800));
        let taken = 0;
        const result = await eachPage(
          cut(bytes, chunkSizes),
          (block, from, at) => writer.put(group, block + 7, from, at),
          async (length) => void (taken += length),
        );
        expect(result).toEqual({ pages: pages.length, left: rest });
        expect(taken).toBe(bytes.length);
        pages.forEach((page, i) => {
          expect(Buffer.from(page).equals(sink.page(group, i + 7) ?? Buffer.alloc(0))).toBe(true);
        });
        expect(sink.images.get(group)?.size ?? 0).toBe(pages.length);
      },
    ),
    { numRuns: 100 },
  );
});

test("free space takes no memory", () => {
  const sink = new ImageSink();
  const writer = new PageWriter(sink, Lsn.of(800));
  const group = sink.groups.id(KIND.PAGE, 1663, 5, 16_384, 0);
  const page = new Uint8Array(PAGE_BYTES).fill(1);
  new DataView(page.buffer).setUint16(12, 100, true);
  new DataView(page.buffer).setUint16(14, 8000, true);
  page.fill(0, 100, 8000);
  writer.put(group, 0, page, 0);
  writer.put(group, 1, new Uint8Array(PAGE_BYTES), 0);
  expect(sink.images.get(group)?.get(0)).toMatchObject({ holeOffset: 100, holeLength: 7900 });
  expect(sink.images.get(group)?.get(1)).toMatchObject({ holeOffset: 0, holeLength: PAGE_BYTES });
  expect(sink.arena.used).toBe(296); // 292 bytes, aligned; the zero page none
});
