// Records about the server as a whole: checkpoints and settings (XLOG; access/xlog_internal.h,
// catalog/pg_control.h), running transactions (STANDBY; storage/standbydefs.h), replication
// origins (REPLORIGIN; replication/origin.h), logical messages (replication/message.h).

import type { Lsn } from "../../core/lsn.ts";
import type { WalRecord } from "../../core/wal-record.ts";
import { CHECKPOINT_BYTES, type CheckPoint, readCheckPoint } from "../control-file.ts";
import { INFO_RMGR_MASK, type PgVersion, WalCorrupt } from "./format.ts";
import { PayloadReader, needMain } from "./payload.ts";
import { REPLORIGIN } from "./rmgr.ts";

/** CHECKPOINT_SHUTDOWN or CHECKPOINT_ONLINE. */
export function readCheckpointRecord(record: WalRecord, version: PgVersion): CheckPoint {
  needMain(record, CHECKPOINT_BYTES, "checkpoint");
  return readCheckPoint(
    record.chunk.bytes.subarray(record.mainStart, record.mainStart + CHECKPOINT_BYTES),
    version,
  );
}

/** NEXTOID: no OID below this one is given out any more. */
export function readNextOid(record: WalRecord): number {
  return new PayloadReader(record, "next OID").u32();
}

export interface ParameterChange {
  readonly maxConnections: number;
  readonly maxWorkerProcesses: number;
  readonly maxWalSenders: number;
  readonly maxPreparedXacts: number;
  readonly maxLocksPerXact: number;
  /** 0 minimal, 1 replica, 2 logical. */
  readonly walLevel: number;
  readonly walLogHints: boolean;
  readonly trackCommitTimestamp: boolean;
}

export function readParameterChange(record: WalRecord): ParameterChange {
  const reader = new PayloadReader(record, "parameter change");
  return {
    maxConnections: reader.i32(),
    maxWorkerProcesses: reader.i32(),
    maxWalSenders: reader.i32(),
    maxPreparedXacts: reader.i32(),
    maxLocksPerXact: reader.i32(),
    walLevel: reader.i32(),
    walLogHints: reader.u8() !== 0,
    trackCommitTimestamp: reader.u8() !== 0,
  };
}

/** FPW_CHANGE: full_page_writes from here on. */
export const readFpwChange = (record: WalRecord): boolean =>
  new PayloadReader(record, "full_page_writes change").u8() !== 0;

export interface EndOfRecovery {
  /** Microseconds since 2000-01-01 UTC. */
  readonly time: number;
  readonly tli: number;
  readonly previousTli: number;
}

export function readEndOfRecovery(record: WalRecord): EndOfRecovery {
  const reader = new PayloadReader(record, "end of recovery");
  return { time: reader.i64(), tli: reader.u32(), previousTli: reader.u32() };
}

export interface RestorePoint {
  /** Microseconds since 2000-01-01 UTC. */
  readonly time: number;
  readonly name: string;
}

const RESTORE_POINT_NAME_BYTES = 64;

export function readRestorePoint(record: WalRecord): RestorePoint {
  const reader = new PayloadReader(record, "restore point");
  return { time: reader.i64(), name: reader.cstring(RESTORE_POINT_NAME_BYTES) };
}

/** BACKUP_END: the start LSN of the backup that ends here. */
export const readBackupEnd = (record: WalRecord): Lsn =>
  new PayloadReader(record, "backup end").lsn();

export interface RunningXacts {
  readonly subxidOverflow: boolean;
  readonly nextXid: number;
  readonly oldestRunningXid: number;
  readonly latestCompletedXid: number;
  /** Top-level transactions. */
  readonly xids: readonly number[];
  readonly subxids: readonly number[];
}

export function readRunningXacts(record: WalRecord): RunningXacts {
  const reader = new PayloadReader(record, "running transactions");
  const xidCount = reader.i32();
  const subxidCount = reader.i32();
  const subxidOverflow = reader.u8() !== 0;
  reader.skip(3);
  const nextXid = reader.u32();
  const oldestRunningXid = reader.u32();
  const latestCompletedXid = reader.u32();
  const xids = reader.u32s(xidCount);
  const subxids = reader.u32s(subxidCount);
  return { subxidOverflow, nextXid, oldestRunningXid, latestCompletedXid, xids, subxids };
}

export type ReplOrigin =
  | { readonly kind: "set"; readonly id: number; readonly remoteLsn: Lsn; readonly force: boolean }
  | { readonly kind: "drop"; readonly id: number };

export function readReplOrigin(record: WalRecord): ReplOrigin {
  const info = record.info & INFO_RMGR_MASK;
  const reader = new PayloadReader(record, "replication origin");
  if (info === REPLORIGIN.DROP) return { kind: "drop", id: reader.u16() };
  if (info === REPLORIGIN.SET) {
    const remoteLsn = reader.lsn();
    return { kind: "set", id: reader.u16(), remoteLsn, force: reader.u8() !== 0 };
  }
  throw new WalCorrupt(record.startLsn, `unknown replication origin record ${info.toString(16)}`);
}

export interface LogicalMessage {
  readonly db: number;
  readonly transactional: boolean;
  /** Without its NUL; Latin-1 (any encoding survives comparison). */
  readonly prefix: string;
  /** A copy. */
  readonly message: Uint8Array;
}

export function readLogicalMessage(record: WalRecord): LogicalMessage {
  const reader = new PayloadReader(record, "logical message");
  const db = reader.u32();
  const transactional = reader.u8() !== 0;
  reader.skip(3);
  const prefixBytes = reader.checkCount(reader.i64(), 1);
  const messageBytes = reader.checkCount(reader.i64(), 1);
  const prefix = reader.cstring(prefixBytes);
  if (prefix.length + 1 !== prefixBytes) {
    throw new WalCorrupt(record.startLsn, "logical message: prefix has a NUL within it");
  }
  return { db, transactional, prefix, message: reader.bytes(messageBytes) };
}
