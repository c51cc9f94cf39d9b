// The header part of a WAL record: block references, images, origin, and where the data of each
// lies. Fills one reused WalRecord. The rules are those of PostgreSQL's DecodeXLogRecord
// (access/transam/xlogreader.c); layouts in access/xlogrecord.h.
//
//   header 24 | { id, block header | origin | toplevel xid }* | main data header
//             | { image, data }* in order of block id | main data

import type { ArenaChunk } from "../../core/arena.ts";
import { LSN_MAX } from "../../core/lsn.ts";
import { PAGE_BYTES } from "../../core/page.ts";
import { VERSION_FLAG } from "../../core/version.ts";
import { BLOCK_REFS_MAX, type BlockRef, type WalRecord } from "../../core/wal-record.ts";
import { RECORD_HEADER_BYTES, WalCorrupt, type WalFormat } from "./format.ts";

const BLOCK_ID_MAX = 32;
const ID_TOPLEVEL_XID = 252;
const ID_ORIGIN = 253;
const ID_MAIN_LONG = 254;
const ID_MAIN_SHORT = 255;

const FORK_MASK = 0x0f;
const FORK_MAX = 3;
const HAS_IMAGE = 0x10;
const HAS_DATA = 0x20;
const WILL_INIT = 0x40;
const SAME_REL = 0x80;

const IMAGE_HAS_HOLE = 0x01;

function emptyBlockRef(): BlockRef {
  return {
    id: 0,
    spc: 0,
    db: 0,
    rel: 0,
    fork: 0,
    block: 0,
    willInit: false,
    hasImage: false,
    applyImage: false,
    compression: 0,
    imageStart: 0,
    imageLength: 0,
    holeOffset: 0,
    holeLength: 0,
    dataStart: 0,
    dataLength: 0,
  };
}

/** A record object to be filled again and again. */
export function emptyWalRecord(chunk: ArenaChunk): WalRecord {
  return {
    chunk,
    start: 0,
    length: 0,
    // Not zero: V8 then keeps the LSNs as doubles in place and allocates nothing when they change.
    startLsn: LSN_MAX,
    endLsn: LSN_MAX,
    prevLsn: LSN_MAX,
    xid: 0,
    info: 0,
    rmid: 0,
    blockCount: 0,
    blocks: Array.from({ length: BLOCK_REFS_MAX }, emptyBlockRef),
    mainStart: 0,
    mainLength: 0,
    origin: 0,
  };
}

const TWO_32 = 4_294_967_296;

/** The fixed header's fields. The caller has put chunk, start, length and startLsn there. */
export function parseRecordHeader(record: WalRecord): void {
  const view = record.chunk.view;
  const at = record.start;
  record.xid = view.getUint32(at + 4, true);
  record.prevLsn = view.getUint32(at + 12, true) * TWO_32 + view.getUint32(at + 8, true);
  record.info = view.getUint8(at + 16);
  record.rmid = view.getUint8(at + 17);
}

/**
 * Everything after the fixed header. Throws WalCorrupt. Only the first `blockCount` entries of
 * `blocks` are written.
 */
export function parseRecordBody(record: WalRecord, format: WalFormat): void {
  const view = record.chunk.view;
  const end = record.start + record.length;
  let at = record.start + RECORD_HEADER_BYTES;
  let payload = 0;
  let count = 0;
  record.origin = 0;
  record.mainLength = 0;
  while (end - at > payload) {
    const id = view.getUint8(at);
    if (id === ID_MAIN_SHORT) {
      if (end - at < 2) throw tooShort(record);
      record.mainLength = view.getUint8(at + 1);
      payload += record.mainLength;
      at += 2;
      break;
    }
    if (id <= BLOCK_ID_MAX) {
      const ref = record.blocks[count]!;
      const previous = count === 0 ? undefined : record.blocks[count - 1]!;
      ref.id = id;
      at = parseBlockRef(record, ref, previous, at + 1, end, format);
      payload += ref.imageLength + ref.dataLength;
      count++;
    } else if (id === ID_MAIN_LONG) {
      if (end - at < 5) throw tooShort(record);
      record.mainLength = view.getUint32(at + 1, true);
      payload += record.mainLength;
      at += 5;
      break;
    } else if (id === ID_ORIGIN) {
      if (end - at < 3) throw tooShort(record);
      record.origin = view.getUint16(at + 1, true);
      at += 3;
    } else if (id === ID_TOPLEVEL_XID) {
      at += 5;
    } else {
      throw new WalCorrupt(record.startLsn, `record has unknown item id ${id}`);
    }
  }
  if (end - at !== payload) throw tooShort(record);
  for (let i = 0; i < count; i++) {
    const ref = record.blocks[i]!;
    ref.imageStart = at;
    at += ref.imageLength;
    ref.dataStart = at;
    at += ref.dataLength;
  }
  record.blockCount = count;
  record.mainStart = at;
}

/** Reads one block header whose id is already read; gives the offset behind it. */
function parseBlockRef(
  record: WalRecord,
  ref: BlockRef,
  previous: BlockRef | undefined,
  from: number,
  end: number,
  format: WalFormat,
): number {
  const view = record.chunk.view;
  let at = from;
  if (previous !== undefined && ref.id <= previous.id) {
    throw new WalCorrupt(record.startLsn, `block id ${ref.id} follows block id ${previous.id}`);
  }
  if (end - at < 3) throw tooShort(record);
  const flags = view.getUint8(at);
  ref.fork = flags & FORK_MASK;
  if (ref.fork > FORK_MAX) {
    throw new WalCorrupt(record.startLsn, `block ${ref.id} names fork ${ref.fork}`);
  }
  ref.willInit = (flags & WILL_INIT) !== 0;
  ref.dataLength = view.getUint16(at + 1, true);
  at += 3;
  if (((flags & HAS_DATA) !== 0) !== ref.dataLength > 0) {
    const what = `block ${ref.id} has flags ${flags.toString(16)} but ${ref.dataLength} data bytes`;
    throw new WalCorrupt(record.startLsn, what);
  }
  if ((flags & HAS_IMAGE) !== 0) {
    at = parseImageHeader(record, ref, at, end, format);
  } else {
    ref.hasImage = false;
    ref.applyImage = false;
    ref.imageLength = 0;
    ref.compression = 0;
    ref.holeOffset = 0;
    ref.holeLength = 0;
  }
  if ((flags & SAME_REL) !== 0) {
    if (previous === undefined) {
      throw new WalCorrupt(record.startLsn, `block ${ref.id} refers to an earlier relation`);
    }
    if (end - at < 4) throw tooShort(record);
    ref.spc = previous.spc;
    ref.db = previous.db;
    ref.rel = previous.rel;
  } else {
    if (end - at < 16) throw tooShort(record);
    ref.spc = view.getUint32(at, true);
    ref.db = view.getUint32(at + 4, true);
    ref.rel = view.getUint32(at + 8, true);
    at += 12;
  }
  ref.block = view.getUint32(at, true);
  return at + 4;
}

function parseImageHeader(
  record: WalRecord,
  ref: BlockRef,
  from: number,
  end: number,
  format: WalFormat,
): number {
  const view = record.chunk.view;
  let at = from;
  if (end - at < 5) throw tooShort(record);
  const length = view.getUint16(at, true);
  const holeOffset = view.getUint16(at + 2, true);
  const info = view.getUint8(at + 4);
  at += 5;
  let compression = 0;
  if ((info & format.imagePglz) !== 0) compression |= VERSION_FLAG.PGLZ;
  if ((info & format.imageLz4) !== 0) compression |= VERSION_FLAG.LZ4;
  if ((info & format.imageZstd) !== 0) compression |= VERSION_FLAG.ZSTD;
  const hasHole = (info & IMAGE_HAS_HOLE) !== 0;
  let holeLength = 0;
  if (compression === 0) {
    holeLength = PAGE_BYTES - length;
  } else if (hasHole) {
    if (end - at < 2) throw tooShort(record);
    holeLength = view.getUint16(at, true);
    at += 2;
  }
  const holeFits = hasHole
    ? holeOffset > 0 && holeLength > 0 && holeOffset + holeLength <= PAGE_BYTES
    : holeOffset === 0 && holeLength === 0;
  const manyMethods = (compression & (compression - 1)) !== 0;
  const notSmaller = compression !== 0 && length >= PAGE_BYTES;
  if (!holeFits || manyMethods || notSmaller) {
    const what = `image of block ${ref.id} is impossible: info ${info.toString(16)}, length`;
    throw new WalCorrupt(record.startLsn, `${what} ${length}, hole ${holeOffset}+${holeLength}`);
  }
  ref.hasImage = true;
  ref.applyImage = (info & format.imageApply) !== 0;
  ref.compression = compression;
  ref.imageLength = length;
  ref.holeOffset = holeOffset;
  ref.holeLength = holeLength;
  return at;
}

function tooShort(record: WalRecord): WalCorrupt {
  return new WalCorrupt(
    record.startLsn,
    `the items of a record of ${record.length} bytes do not add up to its length`,
  );
}
