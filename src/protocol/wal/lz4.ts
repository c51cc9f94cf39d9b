// One raw LZ4 block, decompression only (the LZ4 block format: no frame, no checksum).
// A sequence is: token (literal length, match length - 4), more length bytes while 255, literals,
// offset:2 LE, more length bytes. The last sequence ends after its literals.

import { MalformedInput } from "../../core/assert.ts";

/**
 * Decompresses source[from, to) into exactly `length` bytes at `target` of `out`. Throws
 * MalformedInput when the data is not an LZ4 block of that length.
 */
export function lz4Decompress(
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
  while (at < to) {
    const token = source[at++]!;
    let literals = token >>> 4;
    if (literals === 15) {
      let more: number;
      do {
        if (at >= to) throw truncated();
        more = source[at++]!;
        literals += more;
      } while (more === 255);
    }
    if (literals > to - at) throw truncated();
    if (literals > end - put) throw new MalformedInput(`lz4: more than ${length} bytes`);
    for (const stop = at + literals; at < stop;) out[put++] = source[at++]!;
    if (at === to) break;

    if (to - at < 2) throw truncated();
    const offset = source[at]! | (source[at + 1]! << 8);
    at += 2;
    let run = (token & 15) + 4;
    if ((token & 15) === 15) {
      let more: number;
      do {
        if (at >= to) throw truncated();
        more = source[at++]!;
        run += more;
      } while (more === 255);
    }
    if (offset === 0 || offset > put - target) {
      throw new MalformedInput(`lz4: match ${offset} bytes back at ${put - target}`);
    }
    if (run > end - put) throw new MalformedInput(`lz4: more than ${length} bytes`);
    // Byte by byte: a match may overlap what it writes, and then repeats it.
    for (const stop = put + run; put < stop; put++) out[put] = out[put - offset]!;
  }
  if (put !== end) throw new MalformedInput(`lz4: ${put - target} bytes instead of ${length}`);
}

const truncated = (): MalformedInput => new MalformedInput("lz4: data ends within a sequence");
