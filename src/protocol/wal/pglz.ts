// PostgreSQL's own LZ compression, decompression only (format: common/pg_lzcompress.c).
// A control byte announces eight items, lowest bit first: 0 a literal byte, 1 a match of two or
// three bytes: length - 3 in the low nibble (15: one more byte to add), offset in the rest.

import { MalformedInput } from "../../core/assert.ts";

/**
 * Decompresses source[from, to) into exactly `length` bytes at `target` of `out`. Throws
 * MalformedInput when the data is not pglz or is not of that length.
 */
export function pglzDecompress(
  source: Uint8Array,
  from: number,
  to: number,
  out: Uint8Array,
  target: number,
  length: number,
): void {
  let at = from;
  let put = target;
  const end = target + length;
  while (at < to && put < end) {
    let control = source[at++]!;
    for (let item = 0; item < 8 && at < to && put < end; item++, control >>= 1) {
      if ((control & 1) === 0) {
        out[put++] = source[at++]!;
        continue;
      }
      if (to - at < 2) throw new MalformedInput("pglz: data ends within a match");
      const first = source[at]!;
      const offset = ((first & 0xf0) << 4) | source[at + 1]!;
      let run = (first & 0x0f) + 3;
      at += 2;
      if (run === 18) {
        if (at >= to) throw new MalformedInput("pglz: data ends within a match");
        run += source[at++]!;
      }
      if (offset === 0 || offset > put - target) {
        throw new MalformedInput(`pglz: match ${offset} bytes back at ${put - target}`);
      }
      // Byte by byte: a match may overlap what it writes, and then repeats it.
      const stop = Math.min(put + run, end);
      for (; put < stop; put++) out[put] = out[put - offset]!;
    }
  }
  if (put !== end || at !== to) {
    throw new MalformedInput(
      `pglz: ${to - from} bytes gave ${put - target} of ${length}, ${to - at} left over`,
    );
  }
}
