// Records about files rather than pages: relations created and truncated, databases created and
// dropped, relation maps (catalog/storage_xlog.h, commands/dbcommands_xlog.h, utils/relmapper.h).

import type { WalRecord } from "../../core/wal-record.ts";
import { INFO_RMGR_MASK, type PgVersion, WalCorrupt } from "./format.ts";
import { PayloadReader, type RelNode } from "./payload.ts";
import { DBASE, DBASE_DROP_14 } from "./rmgr.ts";

export interface SmgrCreate extends RelNode {
  readonly fork: number;
}

export function readSmgrCreate(record: WalRecord): SmgrCreate {
  const reader = new PayloadReader(record, "relation create");
  return { ...reader.rel(), fork: reader.u32() };
}

/** xl_smgr_truncate.flags: which forks. */
export const TRUNCATE_HEAP = 1;
export const TRUNCATE_VM = 2;
export const TRUNCATE_FSM = 4;

export interface SmgrTruncate extends RelNode {
  /** The main fork's new size, blocks. */
  readonly blocks: number;
  readonly flags: number;
}

export function readSmgrTruncate(record: WalRecord): SmgrTruncate {
  const reader = new PayloadReader(record, "relation truncate");
  const blocks = reader.u32();
  return { blocks, ...reader.rel(), flags: reader.u32() };
}

export type DbaseRecord =
  | {
      /** Every file of the source database is copied as it is at this point. */
      readonly kind: "create-file-copy";
      readonly db: number;
      readonly spc: number;
      readonly sourceDb: number;
      readonly sourceSpc: number;
    }
  | { readonly kind: "create-wal-log"; readonly db: number; readonly spc: number }
  | { readonly kind: "drop"; readonly db: number; readonly spcs: readonly number[] };

/** Any DBASE record. Before 15, CREATE always copied files. Throws WalCorrupt. */
export function readDbase(record: WalRecord, version: PgVersion): DbaseRecord {
  const info = record.info & INFO_RMGR_MASK;
  const reader = new PayloadReader(record, "database record");
  const drop = version >= 15 ? DBASE.DROP : DBASE_DROP_14;
  if (info === drop) {
    const db = reader.u32();
    return { kind: "drop", db, spcs: reader.u32s(reader.i32()) };
  }
  if (info === DBASE.CREATE_FILE_COPY) {
    const [db, spc, sourceDb, sourceSpc] = [reader.u32(), reader.u32(), reader.u32(), reader.u32()];
    return { kind: "create-file-copy", db, spc, sourceDb, sourceSpc };
  }
  if (info === DBASE.CREATE_WAL_LOG) {
    return { kind: "create-wal-log", db: reader.u32(), spc: reader.u32() };
  }
  throw new WalCorrupt(record.startLsn, `unknown database record ${info.toString(16)}`);
}

export interface RelmapUpdate {
  /** 0 and pg_global for the shared map. */
  readonly db: number;
  readonly spc: number;
  /** The whole new pg_filenode.map; a copy. */
  readonly map: Uint8Array;
}

export function readRelmapUpdate(record: WalRecord): RelmapUpdate {
  const reader = new PayloadReader(record, "relation map update");
  const db = reader.u32();
  const spc = reader.u32();
  return { db, spc, map: reader.bytes(reader.count(1)) };
}
