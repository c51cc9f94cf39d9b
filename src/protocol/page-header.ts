// The header of an 8 KiB page (storage/bufpage.h) and the page checksum (storage/checksum_impl.h).
// Little-endian, except that pd_lsn is two words, the high one first.
//
//   0 lsn high:4, low:4 | 8 checksum:2 | 10 flags:2 | 12 lower:2 | 14 upper:2 | 16 special:2
//   18 size and layout version:2 | 20 prune_xid:4                                    = 24 bytes

import { Lsn } from "../core/lsn.ts";
import { PAGE_BYTES } from "../core/page.ts";

/** SizeOfPageHeaderData. */
export const PAGE_HEADER_BYTES = 24;
/** PG_PAGE_LAYOUT_VERSION since PostgreSQL 8.3. */
const LAYOUT_VERSION = 4;

export const PAGE_HAS_FREE_LINES = 1;
export const PAGE_FULL = 2;
export const PAGE_ALL_VISIBLE = 4;

export interface PageHeader {
  readonly lsn: Lsn;
  readonly checksum: number;
  readonly flags: number;
  readonly lower: number;
  readonly upper: number;
  readonly special: number;
  readonly pageSize: number;
  readonly layoutVersion: number;
  readonly pruneXid: number;
}

const u16 = (b: Uint8Array, at: number): number => b[at]! | (b[at + 1]! << 8);
const u32 = (b: Uint8Array, at: number): number => (u16(b, at) | (u16(b, at + 2) << 16)) >>> 0;

function put16(b: Uint8Array, at: number, v: number): void {
  b[at] = v;
  b[at + 1] = v >>> 8;
}

function put32(b: Uint8Array, at: number, v: number): void {
  put16(b, at, v);
  put16(b, at + 2, v >>> 16);
}

/** All fields of the header of the page at `at`, as they are. */
export function readPageHeader(page: Uint8Array, at = 0): PageHeader {
  const sizeVersion = u16(page, at + 18);
  return {
    lsn: pageLsn(page, at),
    checksum: u16(page, at + 8),
    flags: u16(page, at + 10),
    lower: u16(page, at + 12),
    upper: u16(page, at + 14),
    special: u16(page, at + 16),
    pageSize: sizeVersion & 0xff00,
    layoutVersion: sizeVersion & 0xff,
    pruneXid: u32(page, at + 20),
  };
}

/** pd_lsn of the page at `at`. */
export const pageLsn = (page: Uint8Array, at = 0): Lsn =>
  Lsn.fromParts(u32(page, at), u32(page, at + 4));

/** PageIsNew: never initialised (pd_upper is 0). Such a page has no LSN and no checksum. */
export const isNewPage = (page: Uint8Array, at = 0): boolean => u16(page, at + 14) === 0;

export function setPageLsn(page: Uint8Array, at: number, lsn: Lsn): void {
  put32(page, at, Lsn.high(lsn));
  put32(page, at + 4, Lsn.low(lsn));
}

/** What redo does after it has restored an image: sets pd_lsn, unless the page is new. */
export function stampPageLsn(page: Uint8Array, at: number, lsn: Lsn): void {
  if (!isNewPage(page, at)) setPageLsn(page, at, lsn);
}

/** PageInit: an empty page with `specialBytes` (rounded up to 8) of special space at its end. */
export function initPage(page: Uint8Array, at: number, specialBytes: number): void {
  const special = PAGE_BYTES - ((specialBytes + 7) & ~7);
  page.fill(0, at, at + PAGE_BYTES);
  put16(page, at + 12, PAGE_HEADER_BYTES);
  put16(page, at + 14, special);
  put16(page, at + 16, special);
  put16(page, at + 18, PAGE_BYTES | LAYOUT_VERSION);
}

/** PageHeaderIsValid of bufpage.c: what PostgreSQL insists on when it reads a page that is not new. */
export function isPageHeaderSane(page: Uint8Array, at = 0): boolean {
  const { flags, lower, upper, special, pageSize, layoutVersion } = readPageHeader(page, at);
  return (
    flags <= 7 &&
    pageSize === PAGE_BYTES &&
    layoutVersion === LAYOUT_VERSION &&
    lower >= PAGE_HEADER_BYTES &&
    lower <= upper &&
    upper <= special &&
    special <= PAGE_BYTES &&
    special % 8 === 0
  );
}

const SUMS = 32;
const FNV_PRIME = 16_777_619;
const BASE_OFFSETS = Int32Array.from([
  0x5b1f36e9, 0xb8525960, 0x02ab50aa, 0x1de66d2a, 0x79ff467a, 0x9bb9f8a3, 0x217e7cd2, 0x83e13d2c,
  0xf8d4474f, 0xe39eb970, 0x42c6ae16, 0x993216fa, 0x7b093b5d, 0x98daff3c, 0xf718902a, 0x0b1c9cdb,
  0xe58f764b, 0x187636bc, 0x5d7b3bb1, 0xe73de7de, 0x92bec979, 0xcca6c0b2, 0x304a0979, 0x85aa43d4,
  0x783125bb, 0x6ca8eaa2, 0xe407eac6, 0x4b5cfc3e, 0x9fbf8c76, 0x15ca20be, 0xf2ca9fd3, 0x959bd756,
]);
const sums = new Int32Array(SUMS);

/** pg_checksum_page: what pd_checksum of this page must be at block `block` of its fork. Not for new pages. */
export function pageChecksum(page: Uint8Array, at: number, block: number): number {
  const view = new DataView(page.buffer, page.byteOffset + at, PAGE_BYTES);
  sums.set(BASE_OFFSETS);
  for (let word = 0; word < PAGE_BYTES / 4; word += SUMS) {
    for (let j = 0; j < SUMS; j++) {
      let value = view.getInt32((word + j) * 4, true);
      if (word + j === 2) value &= ~0xffff; // pd_checksum itself counts as zero
      const mixed = sums[j]! ^ value;
      sums[j] = Math.imul(mixed, FNV_PRIME) ^ (mixed >>> 17);
    }
  }
  let result = 0;
  for (let j = 0; j < SUMS; j++) {
    let sum = sums[j]!;
    sum = Math.imul(sum, FNV_PRIME) ^ (sum >>> 17);
    sum = Math.imul(sum, FNV_PRIME) ^ (sum >>> 17);
    result ^= sum;
  }
  return (((result ^ block) >>> 0) % 65_535) + 1;
}

/** Sets pd_checksum for block `block`, unless the page is new. */
export function setPageChecksum(page: Uint8Array, at: number, block: number): void {
  if (!isNewPage(page, at)) put16(page, at + 8, pageChecksum(page, at, block));
}
