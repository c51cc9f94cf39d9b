// Records about the commit log and multixacts (access/clog.h, access/multixact.h). Page numbers
// are 32 bits before PostgreSQL 17, 64 from then on.

import type { WalRecord } from "../../core/wal-record.ts";
import type { PgVersion } from "./format.ts";
import { walFormat } from "./format.ts";
import { PayloadReader } from "./payload.ts";

const pageNumber = (reader: PayloadReader, version: PgVersion): number =>
  walFormat(version).slruPageBytes === 8 ? reader.i64() : reader.u32();

/** CLOG ZEROPAGE, MULTIXACT ZERO_OFFSETS_PAGE and ZERO_MEMBERS_PAGE: the page, counted from the SLRU's start. */
export function readSlruZeroPage(record: WalRecord, version: PgVersion): number {
  return pageNumber(new PayloadReader(record, "SLRU zero page"), version);
}

export interface ClogTruncate {
  /** Pages wholly before this one go. */
  readonly page: number;
  readonly oldestXid: number;
  readonly oldestXidDb: number;
}

export function readClogTruncate(record: WalRecord, version: PgVersion): ClogTruncate {
  const reader = new PayloadReader(record, "commit log truncate");
  const page = pageNumber(reader, version);
  return { page, oldestXid: reader.u32(), oldestXidDb: reader.u32() };
}

export interface MultixactMember {
  readonly xid: number;
  /** MultiXactStatus, 0 to 5. */
  readonly status: number;
}

export interface MultixactCreate {
  readonly multi: number;
  /** Offset of the first member. */
  readonly offset: number;
  readonly members: readonly MultixactMember[];
}

export function readMultixactCreate(record: WalRecord): MultixactCreate {
  const reader = new PayloadReader(record, "multixact create");
  const multi = reader.u32();
  const offset = reader.u32();
  const members = Array.from({ length: reader.count(8) }, () => ({
    xid: reader.u32(),
    status: reader.u32(),
  }));
  return { multi, offset, members };
}

export interface MultixactTruncate {
  readonly oldestMultiDb: number;
  readonly startOffset: number;
  /** The new oldest multixact. */
  readonly endOffset: number;
  readonly startMember: number;
  readonly endMember: number;
}

export function readMultixactTruncate(record: WalRecord): MultixactTruncate {
  const reader = new PayloadReader(record, "multixact truncate");
  return {
    oldestMultiDb: reader.u32(),
    startOffset: reader.u32(),
    endOffset: reader.u32(),
    startMember: reader.u32(),
    endMember: reader.u32(),
  };
}
