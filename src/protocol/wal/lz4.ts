// One raw LZ4 block, decompression only (the LZ4 block format: no frame, no checksum).
// A sequence is: token (literal length, match length - 4), more length bytes while 255, literals,
// offset:2 LE, more length bytes. The last sequence ends after its literals.

import { MalformedInput } from "../../core/assert.ts";

/** Up to so many bytes a loop is faster than a call that copies. */
const SHORT = 48;

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
    if (literals > SHORT) {
      out.set(source.subarray(at, at + literals), put);
      at += literals;
      put += literals;
    } else for (const stop = at + literals; at < stop;) out[put++] = source[at++]!;
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
    if (run > SHORT) copyMatch(out, put, offset, run);
    // Byte by byte: a match may overlap what it writes, and then repeats it.
    else for (let i = put; i < put + run; i++) out[i] = out[i - offset]!;
    put += run;
  }
  if (put !== end) throw new MalformedInput(`lz4: ${put - target} bytes instead of ${length}`);
}

/** As byte by byte, in pieces that do not overlap: each doubles what is repeated. */
function copyMatch(out: Uint8Array, put: number, offset: number, run: number): void {
  const from = put - offset;
  const stop = put + run;
  for (let at = put; at < stop;) {
    const piece = Math.min(at - from, stop - at);
    out.copyWithin(at, from, from + piece);
    at += piece;
  }
}

const truncated = (): MalformedInput => new MalformedInput("lz4: data ends within a sequence");
