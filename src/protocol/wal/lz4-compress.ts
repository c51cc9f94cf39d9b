// LZ4 block compression (lz4_Block_format.md), for page images that merging writes. lz4.ts is the other
// direction. Which of the candidates and why: docs/decisions/007-pages-in-layers.md.

import { compressSync } from "lz4-napi";

/** The library puts the length of what it was given in front. */
const LENGTH_BYTES = 4;

/** One block, in memory of its own. */
export function lz4Compress(input: Uint8Array): Uint8Array {
  const bytes = Buffer.from(input.buffer, input.byteOffset, input.length);
  return compressSync(bytes).subarray(LENGTH_BYTES);
}
