// Native operations: the changes to a page that this program makes itself, without PostgreSQL's
// redo. They exist for the visibility map, the free space map's truncation and the SLRUs, whose
// WAL records name no page. Little-endian, as short as can be: most are a commit's one status.
//
//   first byte: code in the upper four bits, argument in the lower four
//
//   1 VM_SET        flags     index:2                 bits of one heap block set, if the page is older
//   2 VM_CLEAR      flags     index:2                 bits of one heap block cleared
//   3 VM_TRUNCATE   -         index:2                 bits of this and all later heap blocks cleared
//   4 FSM_TRUNCATE  -         slot:2                  free space of this and all later slots forgotten
//   5 CLOG_SET      status    index:2 ...             status of transactions
//   6 OFFSETS_SET   -         entry:2 offset:4 ...    offsets of multixacts from `entry` on
//   7 MEMBERS_SET   -         first:2 (xid:4 status:1) ...   members from `first` on
//
// Replaying an operation on a page that already has it changes nothing: a fuzzy base backup
// needs that. Sources: visibilitymap.c, heapam.c (heap_xlog_visible), fsmpage.c, clog.c, multixact.c.

import { assert } from "./assert.ts";
import { PAGE_BYTES } from "./page.ts";

const VM_SET = 1;
const VM_CLEAR = 2;
const VM_TRUNCATE = 3;
const FSM_TRUNCATE = 4;
const CLOG_SET = 5;
const OFFSETS_SET = 6;
const MEMBERS_SET = 7;

/** Bytes of VM and FSM operations, and of a CLOG operation on one transaction. */
export const SMALL_OP_BYTES = 3;

export const VM_ALL_VISIBLE = 1;
export const VM_ALL_FROZEN = 2;
export const VM_ALL_BITS = 3;

/** Heap blocks described by one visibility map page: two bits each after the page header. */
export const VM_BLOCKS_PER_PAGE = 32_672;
/** Heap blocks described by one free space map page. */
export const FSM_SLOTS_PER_PAGE = 4_069;
export const CLOG_XACTS_PER_PAGE = 32_768;
export const MULTIXACT_OFFSETS_PER_PAGE = 2_048;
/** 409 groups of 4 status bytes and 4 xids. */
export const MULTIXACT_MEMBERS_PER_PAGE = 1_636;

export const CLOG_COMMITTED = 1;
export const CLOG_ABORTED = 2;

const HEADER_BYTES = 24;
const PD_LOWER = 12;
const PD_UPPER = 14;
const PD_SPECIAL = 16;
const PD_PAGESIZE_VERSION = 18;
const LAYOUT_VERSION = 4;
const FSM_NODES_AT = HEADER_BYTES + 4;
const FSM_NODES = PAGE_BYTES - FSM_NODES_AT;
const FSM_INNER_NODES = PAGE_BYTES / 2 - 1;
const MEMBER_GROUP_BYTES = 20;
const MEMBER_BYTES = 5;
const TWO_32 = 4_294_967_296;

function writeSmall(op: Uint8Array, code: number, argument: number, index: number): void {
  op[0] = (code << 4) | argument;
  op[1] = index & 255;
  op[2] = index >>> 8;
}

/** Writes 3 bytes: set `flags` for heap block `heapBlock`. The map's page is heapBlock / VM_BLOCKS_PER_PAGE. */
export const writeVmSet = (op: Uint8Array, heapBlock: number, flags: number): void =>
  writeSmall(op, VM_SET, flags & VM_ALL_BITS, heapBlock % VM_BLOCKS_PER_PAGE);

/** Writes 3 bytes: clear `flags` for heap block `heapBlock`. */
export const writeVmClear = (op: Uint8Array, heapBlock: number, flags: number): void =>
  writeSmall(op, VM_CLEAR, flags & VM_ALL_BITS, heapBlock % VM_BLOCKS_PER_PAGE);

/** Writes 3 bytes: forget heap blocks from `heapBlock` to the end of its map page. */
export const writeVmTruncate = (op: Uint8Array, heapBlock: number): void =>
  writeSmall(op, VM_TRUNCATE, 0, heapBlock % VM_BLOCKS_PER_PAGE);

/** Writes 3 bytes: forget heap blocks from `heapBlock` to the end of its lowest-level map page. */
export const writeFsmTruncate = (op: Uint8Array, heapBlock: number): void =>
  writeSmall(op, FSM_TRUNCATE, 0, heapBlock % FSM_SLOTS_PER_PAGE);

/** Writes 3 bytes: the status of one transaction. */
export const writeClogSet = (op: Uint8Array, status: number, xid: number): void =>
  writeSmall(op, CLOG_SET, status, xid % CLOG_XACTS_PER_PAGE);

/** Appends a transaction of the same page to a CLOG operation of `length` bytes; gives the new length. */
export function appendClogXid(op: Uint8Array, length: number, xid: number): number {
  const index = xid % CLOG_XACTS_PER_PAGE;
  op[length] = index & 255;
  op[length + 1] = index >>> 8;
  return length + 2;
}

/** Writes the operation that sets consecutive offsets on one page, from multixact `multi` on; gives its length. */
export function writeOffsets(op: Uint8Array, multi: number, offsets: readonly number[]): number {
  writeSmall(op, OFFSETS_SET, 0, multi % MULTIXACT_OFFSETS_PER_PAGE);
  let at = SMALL_OP_BYTES;
  for (const offset of offsets) at = putU32(op, at, offset);
  return at;
}

/** Begins the operation that sets members from `offset` on; members of the same page are appended. */
export function writeMembers(op: Uint8Array, offset: number): number {
  writeSmall(op, MEMBERS_SET, 0, offset % MULTIXACT_MEMBERS_PER_PAGE);
  return SMALL_OP_BYTES;
}

/** Appends the next member; gives the new length. */
export function appendMember(op: Uint8Array, length: number, xid: number, status: number): number {
  op[putU32(op, length, xid)] = status;
  return length + MEMBER_BYTES;
}

function putU32(bytes: Uint8Array, at: number, value: number): number {
  bytes[at] = value & 255;
  bytes[at + 1] = (value >>> 8) & 255;
  bytes[at + 2] = (value >>> 16) & 255;
  bytes[at + 3] = value >>> 24;
  return at + 4;
}

const u16 = (b: Uint8Array, at: number): number => b[at]! | (b[at + 1]! << 8);
const u32 = (b: Uint8Array, at: number): number =>
  (b[at]! | (b[at + 1]! << 8) | (b[at + 2]! << 16) | (b[at + 3]! << 24)) >>> 0;

/** pd_lsn: the upper half comes first. */
const pageLsn = (page: Uint8Array): number => u32(page, 0) * TWO_32 + u32(page, 4);

function setPageLsn(page: Uint8Array, lsn: number): void {
  putU32(page, 0, Math.floor(lsn / TWO_32));
  putU32(page, 4, lsn % TWO_32);
}

const isNew = (page: Uint8Array): boolean => u16(page, PD_UPPER) === 0;

/** PageInit of a page without special space. */
function initPage(page: Uint8Array): void {
  page.fill(0);
  page[PD_LOWER] = HEADER_BYTES;
  for (const field of [PD_UPPER, PD_SPECIAL]) page[field + 1] = PAGE_BYTES >>> 8;
  page[PD_PAGESIZE_VERSION] = LAYOUT_VERSION;
  page[PD_PAGESIZE_VERSION + 1] = PAGE_BYTES >>> 8;
}

/**
 * Applies the operation at `start` of `bytes` to `page` (8192 bytes) as of `lsn`, the end of the
 * record that asked for it. Throws InvariantViolation for bytes that this file did not write.
 */
export function applyOp(
  bytes: Uint8Array,
  start: number,
  length: number,
  page: Uint8Array,
  lsn: number,
): void {
  assert(length >= SMALL_OP_BYTES, `page operation of ${length} bytes`);
  const code = bytes[start]! >>> 4;
  const argument = bytes[start]! & 15;
  const index = u16(bytes, start + 1);
  switch (code) {
    case VM_SET:
      return vmSet(page, index, argument, lsn);
    case VM_CLEAR:
      page[vmByte(index)]! &= ~(argument << vmShift(index));
      return;
    case VM_TRUNCATE:
      return vmTruncate(page, index);
    case FSM_TRUNCATE:
      return fsmTruncate(page, index);
    case CLOG_SET:
      return clogSet(bytes, start + 1, start + length, page, argument);
    case OFFSETS_SET:
      page.set(bytes.subarray(start + SMALL_OP_BYTES, start + length), index * 4);
      return;
    case MEMBERS_SET:
      return setMembers(bytes, start + SMALL_OP_BYTES, start + length, page, index);
    default:
      assert(false, `page operation of unknown code ${code}`);
  }
}

const vmByte = (index: number): number => HEADER_BYTES + (index >>> 2);
const vmShift = (index: number): number => (index & 3) * 2;

// PostgreSQL changes nothing, not even pd_lsn, when the page is newer or the bits are as asked.
function vmSet(page: Uint8Array, index: number, flags: number, lsn: number): void {
  if (isNew(page)) initPage(page);
  if (lsn <= pageLsn(page)) return;
  const at = vmByte(index);
  if (((page[at]! >>> vmShift(index)) & VM_ALL_BITS) === flags) return;
  page[at]! |= flags << vmShift(index);
  setPageLsn(page, lsn);
}

function vmTruncate(page: Uint8Array, index: number): void {
  if (isNew(page)) initPage(page);
  const at = vmByte(index);
  page[at]! &= (1 << vmShift(index)) - 1;
  page.fill(0, at + 1);
}

// The leaves are the last nodes; each inner node holds the greatest of its two children.
function fsmTruncate(page: Uint8Array, slot: number): void {
  if (isNew(page)) initPage(page);
  const node = (n: number): number => (n < FSM_NODES ? page[FSM_NODES_AT + n]! : 0);
  page.fill(0, FSM_NODES_AT + FSM_INNER_NODES + slot);
  for (let n = FSM_INNER_NODES - 1; n >= 0; n--) {
    page[FSM_NODES_AT + n] = Math.max(node(2 * n + 1), node(2 * n + 2));
  }
}

function clogSet(
  bytes: Uint8Array,
  from: number,
  to: number,
  page: Uint8Array,
  status: number,
): void {
  for (let at = from; at < to; at += 2) {
    const index = u16(bytes, at);
    const shift = (index & 3) * 2;
    const byte = page[index >>> 2]!;
    page[index >>> 2] = (byte & ~(3 << shift)) | (status << shift);
  }
}

function setMembers(
  bytes: Uint8Array,
  from: number,
  to: number,
  page: Uint8Array,
  first: number,
): void {
  let index = first;
  for (let at = from; at < to; at += MEMBER_BYTES, index++) {
    const group = (index >>> 2) * MEMBER_GROUP_BYTES;
    page[group + (index & 3)] = bytes[at + 4]!;
    page.set(bytes.subarray(at, at + 4), group + 4 + (index & 3) * 4);
  }
}
