// The checkpoint at which a compute starts: a shutdown checkpoint record that stands at L (behind
// the page header, if L is a page's start), in WAL segment files that are zeros but for it, and a
// pg_control that points at it. Stock PostgreSQL then starts without recovery: it finds redo =
// checkpoint = L and the state "shut down" (xlogrecovery.c), and the next record goes right behind.
//
// The record is real history: the compute streams it back from L like everything after it.

import { assert } from "../../core/assert.ts";
import { LSN_INVALID, Lsn, WAL_PAGE_BYTES, WAL_SEGMENT_BYTES } from "../../core/lsn.ts";
import {
  CHECKPOINT_BYTES,
  type CheckPoint,
  type ControlFile,
  DB_STATE,
  buildCheckPoint,
  buildControlFile,
} from "../control-file.ts";
import { crc32c } from "../crc32c.ts";
import { type PgVersion, RECORD_HEADER_BYTES, walFormat } from "../wal/format.ts";
import { type WalIdentity, pageHeaderBytes, writePageHeader } from "../wal/page.ts";

export interface StartRequest {
  readonly version: PgVersion;
  /** L: everything up to here has happened. */
  readonly lsn: Lsn;
  /** Start of the last record before L; 0 when unknown (PostgreSQL does not insist). */
  readonly prevLsn: Lsn;
  readonly tli: number;
  /** pg_control and CheckPoint as stored for the timeline. */
  readonly control: ControlFile;
  readonly checkpoint: CheckPoint;
  /** Seconds since 1970, for pg_control and the checkpoint. */
  readonly timeS: number;
}

export interface StartPoint {
  /** Start of the checkpoint record: L, or behind the page header if L is a page's start. */
  readonly lsn: Lsn;
  readonly checkpoint: CheckPoint;
  /** pg_control, 8192 bytes. */
  readonly control: Uint8Array;
  readonly segments: readonly SparseSegment[];
}

/** A WAL segment file, described by what in it is not zero. */
export interface SparseSegment {
  readonly start: Lsn;
  /** Offset in the file to bytes, ascending, not overlapping. */
  readonly parts: ReadonlyMap<number, Uint8Array>;
}

/** FirstNormalUnloggedLSN. */
const UNLOGGED_LSN_MIN = Lsn.of(1000);

/** Everything that makes stock PostgreSQL start at L. */
export function startPoint(request: StartRequest): StartPoint {
  const { version, tli, timeS, control } = request;
  const lsn = Lsn.normalize(request.lsn);
  const checkpoint: CheckPoint = {
    ...request.checkpoint,
    redo: lsn,
    tli,
    previousTli: tli,
    time: timeS,
    // Whatever ran at L is dead: nothing is active in a server that was shut down.
    oldestActiveXid: 0,
    // Commit timestamps are not kept; a server that tracks them begins anew with the next xid.
    oldestCommitTsXid: 0,
    newestCommitTsXid: 0,
  };
  const controlFile: ControlFile = {
    ...control,
    state: DB_STATE.SHUTDOWNED,
    time: timeS,
    checkPoint: lsn,
    checkPointCopy: checkpoint,
    unloggedLsn: control.unloggedLsn < UNLOGGED_LSN_MIN ? UNLOGGED_LSN_MIN : control.unloggedLsn,
    minRecoveryPoint: LSN_INVALID,
    minRecoveryPointTli: 0,
    backupStartPoint: LSN_INVALID,
    backupEndPoint: LSN_INVALID,
    backupEndRequired: false,
  };
  const record = checkpointRecord(buildCheckPoint(checkpoint, version), request.prevLsn);
  const identity = { format: walFormat(version), tli, systemId: control.systemId };
  return {
    lsn,
    checkpoint,
    control: buildControlFile(controlFile, version),
    segments: segmentsWith(record, lsn, identity),
  };
}

/** LSN behind the shutdown checkpoint record that starts at `start`: where the next record may begin. */
export function checkpointEnd(start: Lsn): Lsn {
  const end = Lsn.align8(Lsn.of(start + CHECKPOINT_RECORD_BYTES));
  const page = start - (start % WAL_PAGE_BYTES) + WAL_PAGE_BYTES;
  return end <= page ? end : Lsn.of(end + pageHeaderBytes(page));
}

/** RECORD_HEADER_BYTES, the short main data header, the CheckPoint. */
const CHECKPOINT_RECORD_BYTES = RECORD_HEADER_BYTES + 2 + CHECKPOINT_BYTES;

/** xl_info and xl_rmid of a shutdown checkpoint. */
const INFO_CHECKPOINT_SHUTDOWN = 0x00;
const RMID_XLOG = 0;
const ID_MAIN_SHORT = 255;
const CRC_OFFSET = 20;

/** A whole record: header, the short main data header, the checkpoint. 114 bytes in PostgreSQL 15. */
export function checkpointRecord(checkpoint: Uint8Array, prevLsn: Lsn): Uint8Array {
  const record = new Uint8Array(RECORD_HEADER_BYTES + 2 + checkpoint.length);
  const view = new DataView(record.buffer);
  view.setUint32(0, record.length, true);
  view.setUint32(4, 0, true); // xl_xid: none
  view.setUint32(8, Lsn.low(prevLsn), true);
  view.setUint32(12, Lsn.high(prevLsn), true);
  record[16] = INFO_CHECKPOINT_SHUTDOWN;
  record[17] = RMID_XLOG;
  record[RECORD_HEADER_BYTES] = ID_MAIN_SHORT;
  record[RECORD_HEADER_BYTES + 1] = checkpoint.length;
  record.set(checkpoint, RECORD_HEADER_BYTES + 2);
  const body = crc32c(record, RECORD_HEADER_BYTES);
  view.setUint32(CRC_OFFSET, crc32c(record, 0, CRC_OFFSET, body), true);
  return record;
}

/** The segment files that hold `record` at `at`: one, or two if it crosses the end of the first. */
export function segmentsWith(
  record: Uint8Array,
  at: Lsn,
  identity: WalIdentity,
): readonly SparseSegment[] {
  const first = at - (at % WAL_PAGE_BYTES);
  assert(
    at % 8 === 0 && at - first >= pageHeaderBytes(first),
    `no WAL record can start at ${Lsn.format(at)}`,
  );
  const segments = new Map<number, Map<number, Uint8Array>>();
  const put = (lsn: number, bytes: Uint8Array): void => {
    const start = lsn - (lsn % WAL_SEGMENT_BYTES);
    let parts = segments.get(start);
    if (parts === undefined) segments.set(start, (parts = new Map()));
    parts.set(lsn - start, bytes);
  };
  const header = (page: number, remaining: number): void => {
    const bytes = new Uint8Array(pageHeaderBytes(page));
    writePageHeader(new DataView(bytes.buffer), 0, page as Lsn, identity, remaining);
    put(page, bytes);
  };
  // The reader looks at the first page of every segment it opens.
  if (first % WAL_SEGMENT_BYTES !== 0) header(at - (at % WAL_SEGMENT_BYTES), 0);
  // What lies before L on its page is the end of a record whose bytes are not here.
  header(first, at - first - pageHeaderBytes(first));
  const fits = Math.min(record.length, first + WAL_PAGE_BYTES - at);
  put(at, record.subarray(0, fits));
  if (fits < record.length) {
    const next = first + WAL_PAGE_BYTES;
    header(next, record.length - fits);
    put(next + pageHeaderBytes(next), record.subarray(fits));
  }
  return [...segments].map(([start, parts]) => ({ start: start as Lsn, parts }));
}
