// Transactions' ends: their status in the clog, relations they drop, prepared transactions, and how
// far a replication origin has come (xact_redo_commit and xact_redo_abort of xact.c).

import { KIND } from "../../core/key.ts";
import { SLRU_CLOG, SLRU_SEGMENT_BLOCKS } from "../../core/page.ts";
import {
  CLOG_ABORTED,
  CLOG_COMMITTED,
  CLOG_XACTS_PER_PAGE,
  SMALL_OP_BYTES,
  appendClogXid,
  writeClogSet,
} from "../../core/page-op.ts";
import type { WalRecord } from "../../core/wal-record.ts";
import { WalCorrupt } from "../wal/format.ts";
import { PayloadReader } from "../wal/payload.ts";
import { OPERATION_MASK, XACT } from "../wal/rmgr.ts";
import {
  type XactEnd,
  isPlainXactEnd,
  isXactEnd,
  readXactEnd,
  readXactPrepare,
  xactTime,
} from "../wal/xact.ts";
import type { IngestContext } from "./context.ts";
import { advanceOrigin } from "./origins.ts";
import { dropRelation } from "./relations.ts";
import { touchPage } from "./slru.ts";

export function onXact(context: IngestContext, record: WalRecord): void {
  if (isPlainXactEnd(record)) return finishPlain(context, record);
  if (isXactEnd(record)) return finish(context, record, readXactEnd(record));
  switch (record.info & OPERATION_MASK) {
    case XACT.PREPARE:
      return prepare(context, record);
    case XACT.ASSIGNMENT:
      return assign(context, record);
    case XACT.INVALIDATIONS:
      return;
    default:
      throw new WalCorrupt(record.startLsn, "transaction record of unknown kind");
  }
}

/** By far the most frequent record without a page. */
function finishPlain(context: IngestContext, record: WalRecord): void {
  const committed = (record.info & OPERATION_MASK) === XACT.COMMIT;
  const timeUs = xactTime(record);
  writeClogSet(context.smallOp, committed ? CLOG_COMMITTED : CLOG_ABORTED, record.xid);
  putClog(context, record, record.xid, context.smallOp);
  if (committed) context.noteCommit(timeUs, record.endLsn);
}

function finish(context: IngestContext, record: WalRecord, end: XactEnd): void {
  context.checkpoint.sawXid(end.xid);
  for (const xid of end.subxids) context.checkpoint.sawXid(xid);
  setStatus(context, record, end);
  if (record.origin !== 0) {
    advanceOrigin(context, record, record.origin, end.originLsn, "forward");
  }
  for (const { spc, db, rel } of end.relations) dropRelation(context, record, spc, db, rel);
  if (end.prepared) forget(context, record, end.xid);
  if (end.committed) context.noteCommit(end.time, record.endLsn);
}

/** Sets the status of a transaction and its subtransactions: one operation a page, mostly one. */
function setStatus(context: IngestContext, record: WalRecord, end: XactEnd): void {
  const status = end.committed ? CLOG_COMMITTED : CLOG_ABORTED;
  let first = end.xid;
  let length = SMALL_OP_BYTES;
  writeClogSet(context.op, status, first);
  for (const xid of end.subxids) {
    if (clogPage(xid) === clogPage(first)) {
      length = appendClogXid(context.growOp(length + 2), length, xid);
      continue;
    }
    putClog(context, record, first, context.op.subarray(0, length));
    first = xid;
    length = SMALL_OP_BYTES;
    writeClogSet(context.op, status, first);
  }
  putClog(context, record, first, context.op.subarray(0, length));
}

const clogPage = (xid: number): number => Math.floor(xid / CLOG_XACTS_PER_PAGE);

function putClog(context: IngestContext, record: WalRecord, xid: number, op: Uint8Array): void {
  if (xid === 0) return;
  const page = clogPage(xid);
  const group = touchPage(context, record, SLRU_CLOG, page);
  context.sink.putOp(group, page % SLRU_SEGMENT_BLOCKS, record.endLsn, op);
}

/** The record's data is what its file in pg_twophase holds. */
function prepare(context: IngestContext, record: WalRecord): void {
  const { xid, subxids, originLsn } = readXactPrepare(record, context.version);
  const { mainStart, mainLength } = record;
  const body = record.chunk.bytes.slice(mainStart, mainStart + mainLength);
  context.checkpoint.sawXid(xid);
  for (const subxid of subxids) context.checkpoint.sawXid(subxid);
  context.sink.putValue(twoPhaseGroup(context, xid), 0, record.endLsn, body);
  if (record.origin !== 0) advanceOrigin(context, record, record.origin, originLsn, "forward");
}

/** A prepared transaction is finished. One that is not known was finished before a base backup began. */
function forget(context: IngestContext, record: WalRecord, xid: number): void {
  const group = twoPhaseGroup(context, xid);
  if (context.meta.value(group, 0) !== undefined) {
    context.sink.putTombstone(group, 0, record.endLsn);
  }
}

const twoPhaseGroup = (context: IngestContext, xid: number): number =>
  context.sink.groups.id(KIND.TWO_PHASE, 0, 0, xid, 0);

/** Subtransactions announced in bulk, for standbys: only that their ids are taken matters here. */
function assign(context: IngestContext, record: WalRecord): void {
  const reader = new PayloadReader(record, "subtransaction assignment");
  context.checkpoint.sawXid(reader.u32());
  for (const xid of reader.u32s(reader.i32())) context.checkpoint.sawXid(xid);
}
