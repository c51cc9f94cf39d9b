// A whole page to the IMAGE version that stands for it: without its hole, compressed when that helps.

import { PAGE_BYTES } from "../core/page.ts";
import { VERSION, VERSION_FLAG, type Version } from "../core/version.ts";
import type { Lsn } from "../core/lsn.ts";
import { lz4Compress } from "../protocol/wal/lz4-compress.ts";

// bufpage.h: pd_lower and pd_upper, and the header's size.
const PD_LOWER_AT = 12;
const PD_UPPER_AT = 14;
const PAGE_HEADER_BYTES = 24;

const COMPRESSED = VERSION_FLAG.PGLZ | VERSION_FLAG.LZ4 | VERSION_FLAG.ZSTD;
/** A shorter image stays as it is: an entry costs some tens of bytes anyhow. */
const WORTH_BYTES = 256;
/** An image is kept compressed when it has at most this part of its length then: decompression is what reading it costs. */
const WORTH_PART = 7 / 8;

/** The version; its bytes are memory of its own. pd_lsn is the page's own: nothing is stamped. */
export function imageOf(page: Uint8Array, lsn: Lsn): Version {
  const { holeOffset, holeLength } = holeOf(page);
  const plain = new Uint8Array(PAGE_BYTES - holeLength);
  plain.set(page.subarray(0, holeOffset));
  plain.set(page.subarray(holeOffset + holeLength, PAGE_BYTES), holeOffset);
  const image = { type: VERSION.IMAGE, lsn, holeOffset, holeLength, start: 0 };
  return packed({ ...image, flags: 0, bytes: plain, length: plain.length });
}

/** The version as it is kept for long: an image that is not compressed yet is, if that is worth it. */
export function packed(version: Version): Version {
  const { type, flags, bytes, start, length } = version;
  if (type !== VERSION.IMAGE || (flags & COMPRESSED) !== 0 || length <= WORTH_BYTES) return version;
  const block = lz4Compress(bytes.subarray(start, start + length));
  if (block.length > length * WORTH_PART) return version;
  return {
    ...version,
    flags: flags | VERSION_FLAG.LZ4,
    bytes: block,
    start: 0,
    length: block.length,
  };
}

/** The zeros between pd_lower and pd_upper of a standard page; all of a page of zeros. */
function holeOf(page: Uint8Array): { readonly holeOffset: number; readonly holeLength: number } {
  const lower = page[PD_LOWER_AT]! | (page[PD_LOWER_AT + 1]! << 8);
  const upper = page[PD_UPPER_AT]! | (page[PD_UPPER_AT + 1]! << 8);
  const standard = lower >= PAGE_HEADER_BYTES && lower < upper && upper <= PAGE_BYTES;
  if (standard && isZero(page, lower, upper)) {
    return { holeOffset: lower, holeLength: upper - lower };
  }
  if (isZero(page, 0, PAGE_BYTES)) return { holeOffset: 0, holeLength: PAGE_BYTES };
  return { holeOffset: 0, holeLength: 0 };
}

function isZero(bytes: Uint8Array, from: number, to: number): boolean {
  for (let i = from; i < to; i++) if (bytes[i] !== 0) return false;
  return true;
}
