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

const ZSTD_MAGIC = 0xfd2fb528;

/** Bytes of a zstd frame, which must be `length`. */
function unzstd(frame: Uint8Array, length: number): Uint8Array {
  // fzstd fills a buffer it is given and does not tell how far, so the header has to say it.
  const size = zstdContentSize(frame);
  if (size !== length) throw new MalformedInput(`zstd: frame of ${size} bytes, expected ${length}`);
  try {
    return zstdDecompress(frame, new Uint8Array(length));
  } catch (error) {
    throw new MalformedInput(`zstd: ${error instanceof Error ? error.message : String(error)}`);
  }
}

/** Frame_Content_Size of RFC 8878 (3.1.1.1); PostgreSQL's one-shot compression always writes it. -1: none. */
function zstdContentSize(frame: Uint8Array): number {
  if (frame.length < 5) return -1;
  const view = new DataView(frame.buffer, frame.byteOffset, frame.length);
  if (view.getUint32(0, true) !== ZSTD_MAGIC) return -1;
  const descriptor = view.getUint8(4);
  const single = (descriptor & 0x20) !== 0;
  const dictionary = [0, 1, 2, 4][descriptor & 3] ?? 0;
  const at = 5 + (single ? 0 : 1) + dictionary;
  if (at + 4 > frame.length) return -1;
  switch (descriptor >> 6) {
    case 0:
      return single ? view.getUint8(at) : -1;
    case 1:
      return view.getUint16(at, true) + 256;
    case 2:
      return view.getUint32(at, true);
    default:
      return -1; // eight bytes: longer than any page
  }
}
