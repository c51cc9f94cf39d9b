// The header of every WAL page (access/xlog_internal.h): reading with all of PostgreSQL's checks
// (XLogReaderValidatePageHeader), and writing.
//
//   0 magic:2 | 2 info:2 | 4 tli:4 | 8 pageaddr:8 | 16 rem_len:4 | 20 pad:4      short, 24 bytes
//   24 sysid:8 | 32 seg_size:4 | 36 blcksz:4                                     long, 40 bytes

import {
  Lsn,
  WAL_LONG_HEADER_BYTES,
  WAL_PAGE_BYTES,
  WAL_SEGMENT_BYTES,
  WAL_SHORT_HEADER_BYTES,
} from "../../core/lsn.ts";
import { WalCorrupt, type WalFormat } from "./format.ts";

/** xlp_info: the page begins with the rest of a record begun before. */
export const PAGE_CONTRECORD = 1;
export const PAGE_LONG_HEADER = 2;
export const PAGE_BACKUP_REMOVABLE = 4;
/** The record begun before was torn by a crash and is abandoned; a new one begins here. */
export const PAGE_OVERWRITE_CONTRECORD = 8;
const PAGE_ALL_FLAGS = 0x0f;

/** Bytes of the header of the page that begins at `lsn`. */
export const pageHeaderBytes = (lsn: number): number =>
  lsn % WAL_SEGMENT_BYTES === 0 ? WAL_LONG_HEADER_BYTES : WAL_SHORT_HEADER_BYTES;

/** What every page header of one stream of WAL must say. tli 0 and systemId undefined: not known yet. */
export interface PageExpectation {
  readonly format: WalFormat;
  readonly tli: number;
  readonly systemId: bigint | undefined;
}

/** The fields that the decoder goes on with. */
export interface PageHeader {
  readonly flags: number;
  readonly tli: number;
  /** Bytes of the continued record that are still to come, page headers excluded. */
  readonly remaining: number;
  /** Present in long headers. */
  readonly systemId: bigint | undefined;
}

/** Reads and checks the header of the page at `lsn`; `view` starts with it. Throws WalCorrupt. */
export function readPageHeader(view: DataView, lsn: number, expect: PageExpectation): PageHeader {
  const fail = (field: string, want: string, got: string): never => {
    throw new WalCorrupt(lsn, `page header: expected ${field} ${want}, found ${got}`);
  };
  const hex = (n: number): string => n.toString(16).toUpperCase();
  const magic = view.getUint16(0, true);
  if (magic !== expect.format.magic) fail("magic", hex(expect.format.magic), hex(magic));
  const flags = view.getUint16(2, true);
  if ((flags & ~PAGE_ALL_FLAGS) !== 0) fail("flags", "of mask F", hex(flags));
  const long = lsn % WAL_SEGMENT_BYTES === 0;
  if (((flags & PAGE_LONG_HEADER) !== 0) !== long) {
    fail("a header", long ? "of the long form" : "of the short form", `flags ${hex(flags)}`);
  }
  const address = Lsn.fromParts(view.getUint32(12, true), view.getUint32(8, true));
  if (address !== lsn) fail("address", Lsn.format(lsn as Lsn), Lsn.format(address));
  const tli = view.getUint32(4, true);
  if (tli === 0 || (expect.tli !== 0 && tli !== expect.tli)) {
    fail("timeline", `${expect.tli === 0 ? "above 0" : expect.tli}`, `${tli}`);
  }
  let systemId: bigint | undefined;
  if (long) {
    systemId = view.getBigUint64(24, true);
    if (expect.systemId !== undefined && systemId !== expect.systemId) {
      fail("system identifier", `${expect.systemId}`, `${systemId}`);
    }
    const segment = view.getUint32(32, true);
    if (segment !== WAL_SEGMENT_BYTES) fail("segment size", `${WAL_SEGMENT_BYTES}`, `${segment}`);
    const page = view.getUint32(36, true);
    if (page !== WAL_PAGE_BYTES) fail("page size", `${WAL_PAGE_BYTES}`, `${page}`);
  }
  return { flags, tli, remaining: view.getUint32(16, true), systemId };
}

/** Who writes the WAL: goes into every page header. */
export interface WalIdentity {
  readonly format: WalFormat;
  readonly tli: number;
  readonly systemId: bigint;
}

/**
 * Writes the header of the page at `lsn` into `view` at `at`; `remaining` > 0 says that the page
 * begins with that many bytes of a record begun before. Gives the header's length.
 */
export function writePageHeader(
  view: DataView,
  at: number,
  lsn: Lsn,
  identity: WalIdentity,
  remaining: number,
): number {
  const length = pageHeaderBytes(lsn);
  const long = length === WAL_LONG_HEADER_BYTES;
  const flags = (remaining > 0 ? PAGE_CONTRECORD : 0) | (long ? PAGE_LONG_HEADER : 0);
  view.setUint16(at, identity.format.magic, true);
  view.setUint16(at + 2, flags, true);
  view.setUint32(at + 4, identity.tli, true);
  view.setUint32(at + 8, Lsn.low(lsn), true);
  view.setUint32(at + 12, Lsn.high(lsn), true);
  view.setUint32(at + 16, remaining, true);
  view.setUint32(at + 20, 0, true);
  if (long) {
    view.setBigUint64(at + 24, identity.systemId, true);
    view.setUint32(at + 32, WAL_SEGMENT_BYTES, true);
    view.setUint32(at + 36, WAL_PAGE_BYTES, true);
  }
  return length;
}
