// What can be known of a key at an LSN. A version's LSN is the *end* LSN of its WAL record
// (aligned), or the base LSN for imported data. A key's versions at one LSN keep the order in
// which they were put.

import type { Lsn } from "./lsn.ts";

export const VERSION = {
  /** A page image without its hole, possibly compressed as in WAL: see PageImage. Needs nothing older. */
  IMAGE: 1,
  /** A whole WAL record that changes the page: applied by PostgreSQL's redo. */
  RECORD: 2,
  /** A native operation on a page (visibility map, SLRU): core/page-op.ts. */
  OP: 3,
  /** A metadata value. Needs nothing older. */
  VALUE: 4,
  /** The key has ended (relation dropped, …). Needs nothing older. */
  TOMBSTONE: 5,
} as const;
export type VersionType = (typeof VERSION)[keyof typeof VERSION];

/** Flags of a version; they mean something only for the types named. */
export const VERSION_FLAG = {
  /** RECORD: the record initialises the page, nothing older is needed (will_init). */
  WILL_INIT: 1,
  /** IMAGE: the page gets the version's LSN as its pd_lsn when it is restored, unless it is new (pd_upper = 0). */
  STAMP_LSN: 2,
  /** IMAGE: compressed with pglz, lz4 or zstd, as WAL had it; at most one of these. */
  PGLZ: 4,
  LZ4: 8,
  ZSTD: 16,
} as const;

/** One version, as a reader sees it. `bytes` is a view that is valid only until the visitor returns. */
export interface Version {
  type: VersionType;
  flags: number;
  lsn: Lsn;
  /** IMAGE: where zeros are put back. An all-zero page is holeOffset 0, holeLength 8192, no bytes. */
  holeOffset: number;
  holeLength: number;
  /** Memory that holds the payload, from `start`, `length` bytes. */
  bytes: Uint8Array;
  /** The same memory, where threads share it: `Uint8Array.set` copies from there byte by byte, a view does not. */
  view?: DataView | undefined;
  start: number;
  length: number;
}

/** True when no older version is needed to know the key's state. */
export function endsChain(type: VersionType, flags: number): boolean {
  return (
    type === VERSION.IMAGE ||
    type === VERSION.VALUE ||
    type === VERSION.TOMBSTONE ||
    (type === VERSION.RECORD && (flags & VERSION_FLAG.WILL_INIT) !== 0)
  );
}
