// pg_control and the CheckPoint struct that it and checkpoint records carry (catalog/pg_control.h),
// as PostgreSQL writes them on 64-bit little-endian machines. The two layouts are tables of fields
// below; everything between fields is padding and zero.

import { MalformedInput } from "../core/assert.ts";
import { Lsn } from "../core/lsn.ts";
import { crc32c } from "./crc32c.ts";
import type { PgVersion } from "./wal/format.ts";

export const CHECKPOINT_BYTES = 88;
/** PG_CONTROL_FILE_SIZE. */
export const CONTROL_FILE_BYTES = 8192;
/** Offset of the CRC, over everything before it. */
const CONTROL_CRC_AT = 288;
const CHECKPOINT_COPY_AT = 40;

/** DBState. */
export const DB_STATE = {
  STARTUP: 0,
  SHUTDOWNED: 1,
  SHUTDOWNED_IN_RECOVERY: 2,
  SHUTDOWNING: 3,
  IN_CRASH_RECOVERY: 4,
  IN_ARCHIVE_RECOVERY: 5,
  IN_PRODUCTION: 6,
} as const;

/** PG_CONTROL_VERSION: changes with the layout. */
export const CONTROL_VERSION: Readonly<Record<PgVersion, number>> = {
  14: 1300,
  15: 1300,
  16: 1300,
  17: 1700,
};

export interface CheckPoint {
  readonly redo: Lsn;
  readonly tli: number;
  readonly previousTli: number;
  readonly fullPageWrites: boolean;
  /** 17: wal_level in force (0 minimal, 1 replica, 2 logical). 0 before 17. */
  readonly walLevel: number;
  /** epoch * 2^32 + xid. */
  readonly nextXid: number;
  readonly nextOid: number;
  readonly nextMulti: number;
  readonly nextMultiOffset: number;
  readonly oldestXid: number;
  readonly oldestXidDb: number;
  readonly oldestMulti: number;
  readonly oldestMultiDb: number;
  /** Seconds since 1970. */
  readonly time: number;
  readonly oldestCommitTsXid: number;
  readonly newestCommitTsXid: number;
  readonly oldestActiveXid: number;
}

export interface ControlFile {
  readonly systemId: bigint;
  readonly controlVersion: number;
  readonly catalogVersion: number;
  /** DB_STATE. */
  readonly state: number;
  /** Seconds since 1970. */
  readonly time: number;
  /** Start of the last checkpoint record. */
  readonly checkPoint: Lsn;
  readonly checkPointCopy: CheckPoint;
  readonly unloggedLsn: Lsn;
  readonly minRecoveryPoint: Lsn;
  readonly minRecoveryPointTli: number;
  readonly backupStartPoint: Lsn;
  readonly backupEndPoint: Lsn;
  readonly backupEndRequired: boolean;
  readonly walLevel: number;
  readonly walLogHints: boolean;
  readonly maxConnections: number;
  readonly maxWorkerProcesses: number;
  readonly maxWalSenders: number;
  readonly maxPreparedXacts: number;
  readonly maxLocksPerXact: number;
  readonly trackCommitTimestamp: boolean;
  readonly maxAlign: number;
  readonly floatFormat: number;
  readonly blockBytes: number;
  readonly segmentBlocks: number;
  readonly walPageBytes: number;
  readonly walSegmentBytes: number;
  readonly nameBytes: number;
  readonly indexKeysMax: number;
  readonly toastChunkBytes: number;
  readonly largeObjectBytes: number;
  readonly float8ByValue: boolean;
  /** 0: pages have no checksums. */
  readonly checksumVersion: number;
  /** mock_authentication_nonce, 32 bytes. */
  readonly nonce: Uint8Array;
}

const TWO_32 = 4_294_967_296;

/** Reads and writes the fields of one struct in place. */
class Fields {
  private readonly view: DataView;

  constructor(bytes: Uint8Array) {
    this.view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }
  u8 = (at: number): number => this.view.getUint8(at);
  u32 = (at: number): number => this.view.getUint32(at, true);
  i32 = (at: number): number => this.view.getInt32(at, true);
  f64 = (at: number): number => this.view.getFloat64(at, true);
  u64 = (at: number): bigint => this.view.getBigUint64(at, true);
  i64 = (at: number): number => this.i32(at + 4) * TWO_32 + this.u32(at);
  lsn = (at: number): Lsn => Lsn.fromParts(this.u32(at + 4), this.u32(at));
  flag = (at: number): boolean => this.u8(at) !== 0;

  put32 = (at: number, v: number): void => this.view.setUint32(at, v, true);
  putF64 = (at: number, v: number): void => this.view.setFloat64(at, v, true);
  putU64 = (at: number, v: bigint): void => this.view.setBigUint64(at, v, true);
  putFlag = (at: number, v: boolean): void => this.view.setUint8(at, v ? 1 : 0);
  /** A whole number of up to 53 bits and its sign, as 64 bits. */
  put64(at: number, v: number): void {
    this.view.setUint32(at, v % TWO_32, true);
    this.view.setInt32(at + 4, Math.floor(v / TWO_32), true);
  }
}

/** Reads a CheckPoint struct of 88 bytes. Throws MalformedInput. */
export function readCheckPoint(bytes: Uint8Array, version: PgVersion): CheckPoint {
  if (bytes.length !== CHECKPOINT_BYTES) {
    throw new MalformedInput(`CheckPoint: need ${CHECKPOINT_BYTES} bytes, have ${bytes.length}`);
  }
  const f = new Fields(bytes);
  const nextXid = f.u32(28) * TWO_32 + f.u32(24);
  if (!Number.isSafeInteger(nextXid)) {
    throw new MalformedInput(`CheckPoint: next transaction id has epoch ${f.u32(28)}`);
  }
  return {
    redo: f.lsn(0),
    tli: f.u32(8),
    previousTli: f.u32(12),
    fullPageWrites: f.flag(16),
    walLevel: version >= 17 ? f.i32(20) : 0,
    nextXid,
    nextOid: f.u32(32),
    nextMulti: f.u32(36),
    nextMultiOffset: f.u32(40),
    oldestXid: f.u32(44),
    oldestXidDb: f.u32(48),
    oldestMulti: f.u32(52),
    oldestMultiDb: f.u32(56),
    time: f.i64(64),
    oldestCommitTsXid: f.u32(72),
    newestCommitTsXid: f.u32(76),
    oldestActiveXid: f.u32(80),
  };
}

/** The 88 bytes of a CheckPoint struct. */
export function buildCheckPoint(c: CheckPoint, version: PgVersion): Uint8Array {
  const bytes = new Uint8Array(CHECKPOINT_BYTES);
  const f = new Fields(bytes);
  f.put64(0, c.redo);
  f.put32(8, c.tli);
  f.put32(12, c.previousTli);
  f.putFlag(16, c.fullPageWrites);
  if (version >= 17) f.put32(20, c.walLevel);
  f.put64(24, c.nextXid);
  f.put32(32, c.nextOid);
  f.put32(36, c.nextMulti);
  f.put32(40, c.nextMultiOffset);
  f.put32(44, c.oldestXid);
  f.put32(48, c.oldestXidDb);
  f.put32(52, c.oldestMulti);
  f.put32(56, c.oldestMultiDb);
  f.put64(64, c.time);
  f.put32(72, c.oldestCommitTsXid);
  f.put32(76, c.newestCommitTsXid);
  f.put32(80, c.oldestActiveXid);
  return bytes;
}

/**
 * Reads pg_control: 8192 bytes, or at least its first 292. Throws MalformedInput when it is of
 * another version or layout, or its CRC is wrong.
 */
export function readControlFile(bytes: Uint8Array, version: PgVersion): ControlFile {
  if (bytes.length < CONTROL_CRC_AT + 4) {
    throw new MalformedInput(`pg_control: ${bytes.length} bytes are too few`);
  }
  const f = new Fields(bytes);
  const controlVersion = f.u32(8);
  if (controlVersion !== CONTROL_VERSION[version]) {
    const want = `PostgreSQL ${version} has ${CONTROL_VERSION[version]}`;
    throw new MalformedInput(`pg_control: format version ${controlVersion}, ${want}`);
  }
  const crc = crc32c(bytes, 0, CONTROL_CRC_AT);
  if (f.u32(CONTROL_CRC_AT) !== crc) {
    throw new MalformedInput(`pg_control: CRC ${f.u32(CONTROL_CRC_AT)}, its bytes give ${crc}`);
  }
  const copy = bytes.subarray(CHECKPOINT_COPY_AT, CHECKPOINT_COPY_AT + CHECKPOINT_BYTES);
  return {
    systemId: f.u64(0),
    controlVersion,
    catalogVersion: f.u32(12),
    state: f.i32(16),
    time: f.i64(24),
    checkPoint: f.lsn(32),
    checkPointCopy: readCheckPoint(copy, version),
    unloggedLsn: f.lsn(128),
    minRecoveryPoint: f.lsn(136),
    minRecoveryPointTli: f.u32(144),
    backupStartPoint: f.lsn(152),
    backupEndPoint: f.lsn(160),
    backupEndRequired: f.flag(168),
    walLevel: f.i32(172),
    walLogHints: f.flag(176),
    maxConnections: f.i32(180),
    maxWorkerProcesses: f.i32(184),
    maxWalSenders: f.i32(188),
    maxPreparedXacts: f.i32(192),
    maxLocksPerXact: f.i32(196),
    trackCommitTimestamp: f.flag(200),
    maxAlign: f.u32(204),
    floatFormat: f.f64(208),
    blockBytes: f.u32(216),
    segmentBlocks: f.u32(220),
    walPageBytes: f.u32(224),
    walSegmentBytes: f.u32(228),
    nameBytes: f.u32(232),
    indexKeysMax: f.u32(236),
    toastChunkBytes: f.u32(240),
    largeObjectBytes: f.u32(244),
    float8ByValue: f.flag(248),
    checksumVersion: f.u32(252),
    nonce: bytes.slice(256, 288),
  };
}

/** The 8192 bytes of pg_control, CRC included. */
export function buildControlFile(c: ControlFile, version: PgVersion): Uint8Array {
  const bytes = new Uint8Array(CONTROL_FILE_BYTES);
  const f = new Fields(bytes);
  f.putU64(0, c.systemId);
  f.put32(8, c.controlVersion);
  f.put32(12, c.catalogVersion);
  f.put32(16, c.state);
  f.put64(24, c.time);
  f.put64(32, c.checkPoint);
  bytes.set(buildCheckPoint(c.checkPointCopy, version), CHECKPOINT_COPY_AT);
  f.put64(128, c.unloggedLsn);
  f.put64(136, c.minRecoveryPoint);
  f.put32(144, c.minRecoveryPointTli);
  f.put64(152, c.backupStartPoint);
  f.put64(160, c.backupEndPoint);
  f.putFlag(168, c.backupEndRequired);
  f.put32(172, c.walLevel);
  f.putFlag(176, c.walLogHints);
  f.put32(180, c.maxConnections);
  f.put32(184, c.maxWorkerProcesses);
  f.put32(188, c.maxWalSenders);
  f.put32(192, c.maxPreparedXacts);
  f.put32(196, c.maxLocksPerXact);
  f.putFlag(200, c.trackCommitTimestamp);
  f.put32(204, c.maxAlign);
  f.putF64(208, c.floatFormat);
  f.put32(216, c.blockBytes);
  f.put32(220, c.segmentBlocks);
  f.put32(224, c.walPageBytes);
  f.put32(228, c.walSegmentBytes);
  f.put32(232, c.nameBytes);
  f.put32(236, c.indexKeysMax);
  f.put32(240, c.toastChunkBytes);
  f.put32(244, c.largeObjectBytes);
  f.putFlag(248, c.float8ByValue);
  f.put32(252, c.checksumVersion);
  bytes.set(c.nonce.subarray(0, 32), 256);
  f.put32(CONTROL_CRC_AT, crc32c(bytes, 0, CONTROL_CRC_AT));
  return bytes;
}
