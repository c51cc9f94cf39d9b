// A decoded WAL record. One object is reused for all records: whoever keeps something copies it,
// or commits the arena. Offsets are absolute in `chunk`. Formats: access/xlogrecord.h.

import type { ArenaChunk } from "./arena.ts";

/** XLR_MAX_BLOCK_ID + 1. */
export const BLOCK_REFS_MAX = 33;

export interface BlockRef {
  id: number;
  spc: number;
  db: number;
  rel: number;
  fork: number;
  block: number;
  /** BKPBLOCK_WILL_INIT. */
  willInit: boolean;
  hasImage: boolean;
  /** The image must be restored by redo (not only for consistency checks). */
  applyImage: boolean;
  /** VERSION_FLAG.PGLZ, LZ4, ZSTD or 0. */
  compression: number;
  imageStart: number;
  imageLength: number;
  holeOffset: number;
  holeLength: number;
  dataStart: number;
  dataLength: number;
}

export interface WalRecord {
  chunk: ArenaChunk;
  /** Offset in `chunk` and length of the whole record, header (24 bytes) included, page headers removed. */
  start: number;
  length: number;
  /** Where it starts in the WAL. */
  startLsn: number;
  /** Where it ends, aligned up to 8, or the next segment after a SWITCH: the version stamp. */
  endLsn: number;
  /** xl_prev. */
  prevLsn: number;
  xid: number;
  /** xl_info, all eight bits. */
  info: number;
  rmid: number;
  /** Number of valid entries of `blocks`. */
  blockCount: number;
  readonly blocks: readonly BlockRef[];
  mainStart: number;
  mainLength: number;
  /** Replication origin id, 0 if none. */
  origin: number;
}
