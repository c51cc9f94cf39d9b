// What one WAL record does to the store, as calls: the ingest calls, the open layer keeps. Numbers
// only, nothing allocated: this is the hot path. `group` is an id of the sink's GroupTable.

import type { Arena, ArenaChunk } from "./arena.ts";
import type { GroupTable } from "./key.ts";

export interface ChangeSink {
  readonly groups: GroupTable;
  /** Where the decoder assembles records; `commit` it when a version points at the record. */
  readonly arena: Arena;

  /** A WAL record of `length` bytes at `start` in `chunk` (already there, not copied). flags: VERSION_FLAG.WILL_INIT or 0. */
  putRecord(
    group: number,
    block: number,
    lsn: number,
    flags: number,
    chunk: ArenaChunk,
    start: number,
    length: number,
  ): void;

  /** A page image (its bytes without the hole, as in WAL) at `start` in `chunk`. */
  putImage(
    group: number,
    block: number,
    lsn: number,
    flags: number,
    chunk: ArenaChunk,
    start: number,
    length: number,
    holeOffset: number,
    holeLength: number,
  ): void;

  /** An all-zero page. */
  putZeroPage(group: number, block: number, lsn: number): void;

  /** A native operation; the bytes are copied into the arena. */
  putOp(group: number, block: number, lsn: number, op: Uint8Array): void;

  /** A metadata value; the bytes are copied into the arena. */
  putValue(group: number, block: number, lsn: number, value: Uint8Array): void;

  putTombstone(group: number, block: number, lsn: number): void;
}

/** What ingest must know of the present state. Answers include everything put into the sink so far. */
export interface MetadataView {
  /** Newest VALUE of a key, a copy; undefined when there is none or it has ended. */
  value(group: number, block: number): Uint8Array | undefined;
  /** Calls back for every live key of `kind` whose a (and b, when given) match: ids of this sink's table. */
  list(
    kind: number,
    a: number | undefined,
    b: number | undefined,
    each: (group: number, block: number, value: Uint8Array) => void,
  ): void;
}
