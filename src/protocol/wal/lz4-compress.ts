// LZ4 block compression (lz4_Block_format.md), greedy, one 4-byte hash of each position: for page
// images that merging writes. lz4.ts is the other direction.

const HASH_BITS = 12;
const MIN_MATCH = 4;
/** The last match begins this far from the end at the latest, and the last bytes are literals. */
const MATCH_LIMIT = 12;
const LAST_LITERALS = 5;
const OFFSET_MAX = 65_535;

const table = new Int32Array(1 << HASH_BITS);

/** Upper bound of the compressed size of `length` bytes. */
export const lz4Bound = (length: number): number => length + Math.ceil(length / 255) + 16;

/** Compresses `input` into `out`, which has lz4Bound bytes; gives the compressed length. */
export function lz4Compress(input: Uint8Array, out: Uint8Array): number {
  table.fill(-1);
  const { length } = input;
  let anchor = 0;
  let at = 0;
  let used = 0;
  const matchEnd = length - LAST_LITERALS;
  while (at <= length - MATCH_LIMIT) {
    const word = word32(input, at);
    const hash = Math.imul(word, 0x9e3779b1) >>> (32 - HASH_BITS);
    const candidate = table[hash]!;
    table[hash] = at;
    const found =
      candidate >= 0 && at - candidate <= OFFSET_MAX && word32(input, candidate) === word;
    if (!found) {
      // Faster through what does not compress.
      at += 1 + ((at - anchor) >> 6);
      continue;
    }
    let matched = MIN_MATCH;
    while (at + matched < matchEnd && input[candidate + matched] === input[at + matched]) matched++;
    used = sequence(input, anchor, at, out, used, matched - MIN_MATCH);
    out[used++] = (at - candidate) & 255;
    out[used++] = (at - candidate) >> 8;
    used = extend(out, used, matched - MIN_MATCH);
    at += matched;
    anchor = at;
  }
  return sequence(input, anchor, length, out, used, 0);
}

const word32 = (bytes: Uint8Array, at: number): number =>
  bytes[at]! | (bytes[at + 1]! << 8) | (bytes[at + 2]! << 16) | (bytes[at + 3]! << 24);

/** The token and the literals input[from, to). */
function sequence(
  input: Uint8Array,
  from: number,
  to: number,
  out: Uint8Array,
  at: number,
  matched: number,
): number {
  const literals = to - from;
  out[at++] = (Math.min(literals, 15) << 4) | Math.min(matched, 15);
  at = extend(out, at, literals);
  out.set(input.subarray(from, to), at);
  return at + literals;
}

/** A length of 15 or more goes on in bytes of up to 255. */
function extend(out: Uint8Array, at: number, length: number): number {
  if (length < 15) return at;
  let rest = length - 15;
  for (; rest >= 255; rest -= 255) out[at++] = 255;
  out[at++] = rest;
  return at;
}
