// What differs between PostgreSQL versions in the WAL's own framing, as one table chosen once.
// Sources: access/xlog_internal.h (XLOG_PAGE_MAGIC), access/xlogrecord.h (BKPIMAGE_*).

import { MalformedInput } from "../../core/assert.ts";
import { Lsn } from "../../core/lsn.ts";

/** Major versions whose WAL this program reads. */
export type PgVersion = 14 | 15 | 16 | 17;

export interface WalFormat {
  readonly version: PgVersion;
  /** xlp_magic of every WAL page. */
  readonly magic: number;
  /** Bits of bimg_info; 0 where the version has none. */
  readonly imageApply: number;
  readonly imagePglz: number;
  readonly imageLz4: number;
  readonly imageZstd: number;
  /** Highest built-in resource manager. */
  readonly rmidMax: number;
  /** Extensions may have resource managers 128..255. */
  readonly customRmgrs: boolean;
  /** Bytes of an SLRU page number in clog and multixact records. */
  readonly slruPageBytes: 4 | 8;
}

const common = { imageApply: 0x02, imagePglz: 0x04, imageLz4: 0x08, imageZstd: 0x10 };

const FORMATS: Readonly<Record<PgVersion, WalFormat>> = {
  14: {
    version: 14,
    magic: 0xd10d,
    imageApply: 0x04,
    imagePglz: 0x02,
    imageLz4: 0,
    imageZstd: 0,
    rmidMax: 21,
    customRmgrs: false,
    slruPageBytes: 4,
  },
  15: {
    version: 15,
    magic: 0xd110,
    ...common,
    rmidMax: 21,
    customRmgrs: true,
    slruPageBytes: 4,
  },
  16: {
    version: 16,
    magic: 0xd113,
    ...common,
    rmidMax: 21,
    customRmgrs: true,
    slruPageBytes: 4,
  },
  17: {
    version: 17,
    magic: 0xd116,
    ...common,
    rmidMax: 21,
    customRmgrs: true,
    slruPageBytes: 8,
  },
};

export const walFormat = (version: PgVersion): WalFormat => FORMATS[version];

/** Narrows a major version read from outside. Throws MalformedInput for one that is not supported. */
export function parsePgVersion(major: number): PgVersion {
  if (major === 14 || major === 15 || major === 16 || major === 17) return major;
  throw new MalformedInput(`PostgreSQL ${major} is not supported; supported are 14 to 17`);
}

/** xl_info: the low four bits belong to the WAL itself, the rest to the resource manager. */
export const INFO_RMGR_MASK = 0xf0;
/** Bytes of XLogRecord. */
export const RECORD_HEADER_BYTES = 24;

/** WAL bytes that do not follow their format, and where: `lsn` is the record or page at fault. */
export class WalCorrupt extends MalformedInput {
  readonly lsn: Lsn;

  constructor(lsn: number, message: string) {
    super(`WAL at ${Lsn.format(lsn as Lsn)}: ${message}`);
    this.lsn = lsn as Lsn;
  }
}
