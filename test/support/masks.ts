// What two copies of one page may differ in although both are right: what PostgreSQL changes
// without writing WAL, or writes in another form at replay. One rule per kind of page, after the
// rm_mask functions that PostgreSQL's own wal_consistency_checking uses; each rule names its
// reason. A test masks both copies and then compares bytes.

/** Kind of a main-fork page, told by its special space. */
export type PageKind =
  "new" | "heap" | "btree" | "hash" | "gin" | "gist" | "spgist" | "brin" | "sequence" | "generic";

export interface MaskOptions {
  /** "keep": pd_lsn must be equal too. Masked unless given. */
  readonly lsn?: "mask" | "keep";
  /** "keep": a sequence's position must be equal. Masked unless given: its WAL runs ahead by up to 32 values (SEQ_LOG_VALS). */
  readonly sequenceValues?: "mask" | "keep";
}

const PAGE_BYTES = 8192;
const HEADER_BYTES = 24;
const PD_LSN = 0;
const PD_CHECKSUM = 8;
const PD_FLAGS = 10;
const PD_LOWER = 12;
const PD_UPPER = 14;
const PD_SPECIAL = 16;
const PD_PRUNE_XID = 20;

const view = (page: Uint8Array): DataView =>
  new DataView(page.buffer, page.byteOffset, page.byteLength);
const lowerOf = (page: Uint8Array): number => view(page).getUint16(PD_LOWER, true);
const upperOf = (page: Uint8Array): number => view(page).getUint16(PD_UPPER, true);
const specialOf = (page: Uint8Array): number => view(page).getUint16(PD_SPECIAL, true);

/** PageIsNew. */
const isNew = (page: Uint8Array): boolean => upperOf(page) === 0;

/**
 * What a page is. Index pages carry an id in the last two bytes, put there for tools like this one;
 * btree's cycle id stays below them (MAX_BT_CYCLE_ID).
 */
export function pageKind(page: Uint8Array): PageKind {
  if (isNew(page)) return "new";
  const special = specialOf(page);
  const id = view(page).getUint16(PAGE_BYTES - 2, true);
  switch (PAGE_BYTES - special) {
    case 0:
      return "heap";
    case 16:
      return id === 0xff80 ? "hash" : id === 0xff81 ? "gist" : id > 0xff7f ? "generic" : "btree";
    case 8:
      if (id === 0xff82) return "spgist";
      if (id >= 0xf091 && id <= 0xf093) return "brin";
      if (view(page).getUint32(special, true) === 0x1717 && lowerOf(page) === HEADER_BYTES + 4) {
        return "sequence";
      }
      // GIN's last field is its flags, eight of them.
      return id > 0xff ? "generic" : "gin";
    default:
      return "generic";
  }
}

/** A copy of the page in which everything that may differ is zero. `block` is its number. */
export function maskedPage(page: Uint8Array, block: number, options: MaskOptions = {}): Uint8Array {
  const copy = new Uint8Array(page);
  if (isNew(copy)) return copy;
  if (options.lsn !== "keep") copy.fill(0, PD_LSN, PD_LSN + 8);
  copy.fill(0, PD_CHECKSUM, PD_CHECKSUM + 2);
  maskKind(copy, block, options);
  return copy;
}

function maskKind(page: Uint8Array, block: number, options: MaskOptions): void {
  switch (pageKind(page)) {
    case "heap":
      return maskHeap(page, block);
    case "btree":
      return maskBtree(page);
    case "hash":
      return maskHash(page);
    case "gin":
      return maskGin(page);
    case "gist":
      return maskGist(page);
    case "spgist":
      return maskSpgist(page, block);
    case "brin":
      return maskBrin(page);
    case "sequence":
      return maskSequence(page, options.sequenceValues !== "keep");
    case "generic":
      return maskUnusedSpace(page);
    case "new":
      return;
  }
}

/** Offset of the first byte that differs, or -1. */
export function firstDifference(a: Uint8Array, b: Uint8Array): number {
  for (let i = 0; i < PAGE_BYTES; i++) if (a[i] !== b[i]) return i;
  return -1;
}

// pd_prune_xid, PD_HAS_FREE_LINES, PD_PAGE_FULL are hints; PD_ALL_VISIBLE is not set at replay when
// the page is already newer than the record that set it.
function maskHintBits(page: Uint8Array): void {
  const v = view(page);
  v.setUint32(PD_PRUNE_XID, 0, true);
  v.setUint16(PD_FLAGS, v.getUint16(PD_FLAGS, true) & ~0x7, true);
}

/** Bytes between pd_lower and pd_upper: a page image in WAL leaves them out. */
function maskUnusedSpace(page: Uint8Array): void {
  const [lower, upper, special] = [lowerOf(page), upperOf(page), specialOf(page)];
  if (lower < HEADER_BYTES || lower > upper || upper > special || special > PAGE_BYTES) {
    throw new Error(
      `page header is out of order: lower ${lower}, upper ${upper}, special ${special}`,
    );
  }
  page.fill(0, lower, upper);
}

/** All but the header's other fields: what is on a deleted or unused page says nothing. */
function maskContent(page: Uint8Array): void {
  page.fill(0, HEADER_BYTES);
  page.fill(0, PD_LOWER, PD_LOWER + 4);
}

interface Item {
  /** Offset of the line pointer in the page. */
  readonly at: number;
  readonly offset: number;
  /** LP_UNUSED 0, LP_NORMAL 1, LP_REDIRECT 2, LP_DEAD 3. */
  readonly flags: number;
  readonly length: number;
}

function items(page: Uint8Array): readonly Item[] {
  const found: Item[] = [];
  for (let at = HEADER_BYTES; at + 4 <= lowerOf(page); at += 4) {
    const word = view(page).getUint32(at, true);
    found.push({ at, offset: word & 0x7fff, flags: (word >>> 15) & 3, length: word >>> 17 });
  }
  return found;
}

/** LP_DEAD is set by index scans without WAL. */
function maskLinePointerFlags(page: Uint8Array): void {
  for (const { at, flags } of items(page)) {
    if (flags === 0) continue;
    view(page).setUint32(at, view(page).getUint32(at, true) & ~0x18000, true);
  }
}

const clearBits16 = (page: Uint8Array, at: number, bits: number): void =>
  view(page).setUint16(at, view(page).getUint16(at, true) & ~bits, true);

function maskHeap(page: Uint8Array, block: number): void {
  maskHintBits(page);
  maskUnusedSpace(page);
  items(page).forEach((item, index) => {
    if (item.flags === 1) maskHeapTuple(page, item.offset, block, index + 1);
    // Padding behind an item is whatever was there before.
    if (item.length > 0)
      page.fill(0, item.offset + item.length, (item.offset + item.length + 7) & ~7);
  });
}

function maskHeapTuple(page: Uint8Array, at: number, block: number, offset: number): void {
  // HeapTupleHeaderData: xmin 0, xmax 4, cid 8, ctid 12 (block high, block low, offset), infomask2 18, infomask 20.
  const v = view(page);
  const infomask = v.getUint16(at + 20, true);
  // Commit status is cached in the tuple without WAL; of a frozen one only xmax's is.
  const frozen = (infomask & 0x0300) === 0x0300;
  v.setUint16(at + 20, infomask & (frozen ? ~0x0c00 : ~0xfff0), true);
  // Replay does not know command ids.
  v.setUint32(at + 8, 0, true);
  // The token of a speculative insertion stands where the tuple's own address will be, unlogged.
  if (v.getUint16(at + 16, true) === 0xfffe) {
    v.setUint16(at + 12, block >>> 16, true);
    v.setUint16(at + 14, block & 0xffff, true);
    v.setUint16(at + 16, offset, true);
  }
}

function maskBtree(page: Uint8Array): void {
  // BTPageOpaqueData: prev 0, next 4, level 8, flags 12, cycle id 14.
  const flags = specialOf(page) + 12;
  const isLeaf = (view(page).getUint16(flags, true) & 1) !== 0;
  maskHintBits(page);
  maskUnusedSpace(page);
  if (isLeaf) maskLinePointerFlags(page);
  // BTP_HAS_GARBAGE is a hint; BTP_SPLIT_END and the vacuum cycle id are not logged by splits.
  clearBits16(page, flags, (1 << 6) | (1 << 5));
  view(page).setUint16(flags + 2, 0, true);
}

function maskHash(page: Uint8Array): void {
  // HashPageOpaqueData: prev 0, next 4, bucket 8, flag 12, page id 14.
  const flags = specialOf(page) + 12;
  const type = view(page).getUint16(flags, true) & 0xf;
  maskHintBits(page);
  maskUnusedSpace(page);
  if (type === 0) return maskContent(page);
  // Bucket and overflow pages.
  if (type === 1 || type === 2) maskLinePointerFlags(page);
  // LH_PAGE_HAS_DEAD_TUPLES is a hint.
  clearBits16(page, flags, 1 << 7);
}

function maskGin(page: Uint8Array): void {
  // GinPageOpaqueData: rightlink 0, maxoff 4, flags 6.
  const deleted = (view(page).getUint16(specialOf(page) + 6, true) & (1 << 2)) !== 0;
  maskHintBits(page);
  if (deleted) maskContent(page);
  // On old pages pd_lower was not kept.
  else if (lowerOf(page) > HEADER_BYTES) maskUnusedSpace(page);
}

function maskGist(page: Uint8Array): void {
  // GISTPageOpaqueData: nsn 0 (an LSN), rightlink 8, flags 12, page id 14.
  const special = specialOf(page);
  const isLeaf = (view(page).getUint16(special + 12, true) & 1) !== 0;
  maskHintBits(page);
  maskUnusedSpace(page);
  page.fill(0, special, special + 8);
  if (isLeaf) maskLinePointerFlags(page);
  // F_FOLLOW_RIGHT changes after the record is written; F_HAS_GARBAGE is not set at replay.
  clearBits16(page, special + 12, (1 << 3) | (1 << 4));
}

function maskSpgist(page: Uint8Array, block: number): void {
  maskHintBits(page);
  if (lowerOf(page) >= HEADER_BYTES) maskUnusedSpace(page);
  // The metapage's cache of last used pages, behind its magic, is never logged.
  if (block === 0) page.fill(0, HEADER_BYTES + 4, lowerOf(page));
}

function maskBrin(page: Uint8Array): void {
  // Special space: four u16, of which the third is flags and the fourth the page type.
  const special = specialOf(page);
  const type = view(page).getUint16(special + 6, true);
  maskHintBits(page);
  if (type === 0xf093 || (type === 0xf091 && lowerOf(page) > HEADER_BYTES)) maskUnusedSpace(page);
  // BRIN_EVACUATE_PAGE matters only to running backends.
  clearBits16(page, special + 4, 1);
}

function maskSequence(page: Uint8Array, values: boolean): void {
  maskUnusedSpace(page);
  const [tuple] = items(page);
  if (tuple === undefined || !values) return;
  // Tuple header, then last_value i64, log_cnt i64, is_called bool.
  const data = tuple.offset + page[tuple.offset + 22]!;
  page.fill(0, data, data + 17);
}
