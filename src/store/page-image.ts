// A whole page to the IMAGE version that stands for it: without its hole, compressed when that helps.

import { PAGE_BYTES } from "../core/page.ts";
import { VERSION, VERSION_FLAG, type Version } from "../core/version.ts";
import type { Lsn } from "../core/lsn.ts";
import { lz4Bound, lz4Compress } from "../protocol/wal/lz4-compress.ts";

// bufpage.h: pd_lower and pd_upper, and the header's size.
const PD_LOWER_AT = 12;
const PD_UPPER_AT = 14;
const PAGE_HEADER_BYTES = 24;

/** An LMDB page less its header: what fits in one costs one. */
const WORTH_BYTES = 256;

/** The version; its bytes are memory of its own. pd_lsn is the page's own: nothing is stamped. */
export function imageOf(page: Uint8Array, lsn: Lsn): Version {
  const { holeOffset, holeLength } = holeOf(page);
  const plain = new Uint8Array(PAGE_BYTES - holeLength);
  plain.set(page.subarray(0, holeOffset));
  plain.set(page.subarray(holeOffset + holeLength, PAGE_BYTES), holeOffset);
  const image = { type: VERSION.IMAGE, lsn, holeOffset, holeLength, start: 0 };
  if (plain.length > WORTH_BYTES) {
    const out = new Uint8Array(lz4Bound(plain.length));
    const length = lz4Compress(plain, out);
    if (length < plain.length) {
      return { ...image, flags: VERSION_FLAG.LZ4, bytes: out.slice(0, length), length };
    }
  }
  return { ...image, flags: 0, bytes: plain, length: plain.length };
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
