// A page image as WAL carries it to the 8 KiB page it stands for: decompressed, and the hole
// (the unused middle of the page) filled with zeros (RestoreBlockImage of xlogreader.c).

import { decompress as zstdDecompress } from "fzstd";

import { MalformedInput } from "../../core/assert.ts";
import { PAGE_BYTES } from "../../core/page.ts";
import { VERSION_FLAG } from "../../core/version.ts";
import { lz4Decompress } from "./lz4.ts";
import { pglzDecompress } from "./pglz.ts";

/**
 * Writes the whole page at `outOffset` of `out`. `flags` are VERSION_FLAG.PGLZ, LZ4, ZSTD or none of
 * them (others are ignored); the image is bytes[start, start + length). pd_lsn is what the image
 * says: see stampPageLsn. Throws MalformedInput when the image does not give a page.
 */
export function restoreImage(
  flags: number,
  holeOffset: number,
  holeLength: number,
  bytes: Uint8Array,
  start: number,
  length: number,
  out: Uint8Array,
  outOffset: number,
): void {
  const raw = PAGE_BYTES - holeLength;
  const end = start + length;
  if (holeOffset < 0 || holeLength < 0 || holeOffset > raw) {
    throw new MalformedInput(`page image: hole ${holeOffset}+${holeLength} is outside the page`);
  }
  if (length < 0 || end > bytes.length || outOffset + PAGE_BYTES > out.length) {
    throw new MalformedInput(`page image: ${length} bytes at ${start} of ${bytes.length}`);
  }
  if ((flags & VERSION_FLAG.LZ4) !== 0) {
    lz4Decompress(bytes, start, end, out, outOffset, raw);
  } else if ((flags & VERSION_FLAG.ZSTD) !== 0) {
    out.set(unzstd(bytes.subarray(start, end), raw), outOffset);
  } else if ((flags & VERSION_FLAG.PGLZ) !== 0) {
    pglzDecompress(bytes, start, end, out, outOffset, raw);
  } else {
    if (length !== raw) {
      throw new MalformedInput(`page image: ${length} bytes and a hole of ${holeLength}`);
    }
    out.set(bytes.subarray(start, end), outOffset);
  }
  if (holeLength === 0) return;
  const hole = outOffset + holeOffset;
  out.copyWithin(hole + holeLength, hole, outOffset + raw);
  out.fill(0, hole, hole + holeLength);
}

/** Bytes of a zstd frame, which must be `length`. */
function unzstd(frame: Uint8Array, length: number): Uint8Array {
  let page: Uint8Array;
  try {
    // The output is bounded by the buffer: what a damaged frame says of its size is not believed.
    page = zstdDecompress(frame, new Uint8Array(length));
  } catch (error) {
    throw new MalformedInput(`zstd: ${error instanceof Error ? error.message : String(error)}`);
  }
  if (page.length !== length) {
    throw new MalformedInput(`zstd: ${page.length} bytes instead of ${length}`);
  }
  return page;
}
