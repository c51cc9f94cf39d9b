// Transaction records: commit, abort, their prepared forms, and PREPARE (access/xact.h;
// ParseCommitRecord, ParseAbortRecord, ParsePrepareRecord of xactdesc.c).
//
//   time:8 | xinfo:4 if info & 0x80 | then, as xinfo's bits say, in this order:
//   0 db, spc | 1 subxids | 2 relations | 8 statistics | 3 invalidations (commit only)
//   | 4 prepared xid | 7 GID (with 4), NUL-terminated | 5 origin lsn:8 time:8, unaligned

import { LSN_INVALID, type Lsn } from "../../core/lsn.ts";
import type { WalRecord } from "../../core/wal-record.ts";
import { type PgVersion, WalCorrupt } from "./format.ts";
import { PayloadReader, type RelNode, mainI64, needMain } from "./payload.ts";
import { OPERATION_MASK, XACT } from "./rmgr.ts";

const HAS_INFO = 0x80;
const XINFO_DB = 1 << 0;
const XINFO_SUBXACTS = 1 << 1;
const XINFO_RELATIONS = 1 << 2;
const XINFO_INVALIDATIONS = 1 << 3;
const XINFO_TWOPHASE = 1 << 4;
const XINFO_ORIGIN = 1 << 5;
const XINFO_GID = 1 << 7;
const XINFO_STATISTICS = 1 << 8;

const STATISTICS_ITEM_BYTES = 12;
const INVALIDATION_BYTES = 16;
/** GIDSIZE, with its NUL. */
const GID_BYTES_MAX = 200;

/** How a transaction ended. `time` and `originTime` are microseconds since 2000-01-01 UTC. */
export interface XactEnd {
  readonly committed: boolean;
  /** It was a prepared transaction: `xid` comes from the body. */
  readonly prepared: boolean;
  readonly xid: number;
  readonly time: number;
  /** 0 when the record does not say. */
  readonly db: number;
  readonly spc: number;
  readonly subxids: readonly number[];
  /** Relations whose files are removed at this point (also by an abort). */
  readonly relations: readonly RelNode[];
  readonly gid: string | undefined;
  /** LSN_INVALID unless the transaction was replicated from another server (record.origin). */
  readonly originLsn: Lsn;
  readonly originTime: number;
}

/** COMMIT, ABORT, COMMIT_PREPARED or ABORT_PREPARED. */
export function isXactEnd(record: WalRecord): boolean {
  const operation = record.info & OPERATION_MASK;
  return (
    operation === XACT.COMMIT ||
    operation === XACT.ABORT ||
    operation === XACT.COMMIT_PREPARED ||
    operation === XACT.ABORT_PREPARED
  );
}

/**
 * True when a COMMIT or ABORT says nothing but its time: then xid is the record's, there are no
 * subtransactions, relations or origin, and `xactTime` is all there is to read.
 */
export const isPlainXactEnd = (record: WalRecord): boolean =>
  (record.info & HAS_INFO) === 0 && (record.info & OPERATION_MASK & ~XACT.ABORT) === XACT.COMMIT;

/** Time of an isXactEnd record, microseconds since 2000-01-01 UTC. Allocates nothing. */
export function xactTime(record: WalRecord): number {
  needMain(record, 8, "transaction end");
  return mainI64(record, 0);
}

/** Reads an isXactEnd record. Throws WalCorrupt. */
export function readXactEnd(record: WalRecord): XactEnd {
  const reader = new PayloadReader(record, "transaction end");
  const operation = record.info & OPERATION_MASK;
  const committed = operation === XACT.COMMIT || operation === XACT.COMMIT_PREPARED;
  const time = reader.i64();
  const xinfo = (record.info & HAS_INFO) !== 0 ? reader.u32() : 0;
  const hasDb = (xinfo & XINFO_DB) !== 0;
  const db = hasDb ? reader.u32() : 0;
  const spc = hasDb ? reader.u32() : 0;
  const subxids = (xinfo & XINFO_SUBXACTS) !== 0 ? reader.u32s(reader.i32()) : [];
  const relations = (xinfo & XINFO_RELATIONS) !== 0 ? reader.rels(reader.i32()) : [];
  if ((xinfo & XINFO_STATISTICS) !== 0) {
    reader.skip(reader.count(STATISTICS_ITEM_BYTES) * STATISTICS_ITEM_BYTES);
  }
  if (committed && (xinfo & XINFO_INVALIDATIONS) !== 0) {
    reader.skip(reader.count(INVALIDATION_BYTES) * INVALIDATION_BYTES);
  }
  const prepared = (xinfo & XINFO_TWOPHASE) !== 0;
  const xid = prepared ? reader.u32() : record.xid;
  const gid = prepared && (xinfo & XINFO_GID) !== 0 ? reader.cstring(GID_BYTES_MAX) : undefined;
  const hasOrigin = (xinfo & XINFO_ORIGIN) !== 0;
  const originLsn = hasOrigin ? reader.lsn() : LSN_INVALID;
  const originTime = hasOrigin ? reader.i64() : 0;
  return {
    committed,
    prepared,
    xid,
    time,
    db,
    spc,
    subxids,
    relations,
    gid,
    originLsn,
    originTime,
  };
}

/** A prepared transaction: the main data of XLOG_XACT_PREPARE is also its file in pg_twophase, less the CRC. */
export interface XactPrepare {
  readonly xid: number;
  readonly db: number;
  /** Microseconds since 2000-01-01 UTC. */
  readonly preparedAt: number;
  readonly gid: string;
  readonly subxids: readonly number[];
  readonly commitRelations: readonly RelNode[];
  readonly abortRelations: readonly RelNode[];
  readonly originLsn: Lsn;
  readonly originTime: number;
}

/** Reads XLOG_XACT_PREPARE. 15 added two counts of dropped statistics to its header. Throws WalCorrupt. */
export function readXactPrepare(record: WalRecord, version: PgVersion): XactPrepare {
  const reader = new PayloadReader(record, "prepared transaction");
  reader.skip(8); // magic, total length
  const xid = reader.u32();
  const db = reader.u32();
  const preparedAt = reader.i64();
  reader.skip(4); // owner
  const subxidCount = reader.i32();
  const commitCount = reader.i32();
  const abortCount = reader.i32();
  if (version >= 15) reader.skip(8); // statistics dropped at commit, at abort
  reader.skip(4 + 2); // count of invalidations, initfileinval and padding
  const gidBytes = reader.u16();
  if (gidBytes === 0 || gidBytes > GID_BYTES_MAX) {
    throw new WalCorrupt(record.startLsn, `prepared transaction: GID of ${gidBytes} bytes`);
  }
  const originLsn = reader.lsn();
  const originTime = reader.i64();
  reader.align8();
  const gid = String.fromCharCode(...reader.bytes(gidBytes)).replace(/\0[^]*$/, "");
  reader.align8();
  const subxids = reader.u32s(subxidCount);
  reader.align8();
  const commitRelations = reader.rels(commitCount);
  reader.align8();
  const abortRelations = reader.rels(abortCount);
  return {
    xid,
    db,
    preparedAt,
    gid,
    subxids,
    commitRelations,
    abortRelations,
    originLsn,
    originTime,
  };
}
