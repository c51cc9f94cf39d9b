// CREATE DATABASE … STRATEGY file_copy without copying: the new database's DB_COPY value says that
// a page which has no version of its own above `lsn` is read from the source database as it was at
// `lsn`. Versions of the new database at or below `lsn` (a former database of that oid) are hidden.
//
//   spc:4 | db:4 | lsn:8 (low half first)   = 16 bytes, little-endian

import { MalformedInput } from "./assert.ts";
import { Lsn } from "./lsn.ts";

export interface DbCopy {
  readonly srcSpc: number;
  readonly srcDb: number;
  /** End of the record that made the copy. */
  readonly lsn: Lsn;
}

const DB_COPY_BYTES = 16;

export function encodeDbCopy(copy: DbCopy): Uint8Array {
  const bytes = new Uint8Array(DB_COPY_BYTES);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, copy.srcSpc, true);
  view.setUint32(4, copy.srcDb, true);
  view.setUint32(8, Lsn.low(copy.lsn), true);
  view.setUint32(12, Lsn.high(copy.lsn), true);
  return bytes;
}

/** Reads what encodeDbCopy wrote. Throws MalformedInput. */
export function decodeDbCopy(bytes: Uint8Array): DbCopy {
  if (bytes.length !== DB_COPY_BYTES) {
    throw new MalformedInput(`database copy: ${bytes.length} bytes, expected ${DB_COPY_BYTES}`);
  }
  const view = new DataView(bytes.buffer, bytes.byteOffset);
  return {
    srcSpc: view.getUint32(0, true),
    srcDb: view.getUint32(4, true),
    lsn: Lsn.fromParts(view.getUint32(12, true), view.getUint32(8, true)),
  };
}
