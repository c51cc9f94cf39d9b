// WAL made by us: records assembled as XLogRecordAssemble does (access/transam/xloginsert.c), and
// laid out at an LSN with page headers between. For base backups, which carry one record of ours,
// and for tests. Not a hot path.

import { assert } from "../../core/assert.ts";
import { Lsn, WAL_PAGE_BYTES } from "../../core/lsn.ts";
import { PAGE_BYTES } from "../../core/page.ts";
import { VERSION_FLAG } from "../../core/version.ts";
import { ByteWriter } from "../bytes.ts";
import { recordCrc } from "./decoder.ts";
import { RECORD_HEADER_BYTES, type WalFormat } from "./format.ts";
import { type WalIdentity, pageHeaderBytes, writePageHeader } from "./page.ts";

export interface ImageSpec {
  /** The image without its hole, compressed if `compression` says so. */
  readonly bytes: Uint8Array;
  readonly holeOffset?: number;
  readonly holeLength?: number;
  /** VERSION_FLAG.PGLZ, LZ4 or ZSTD; none unless given. */
  readonly compression?: number;
  /** false: only for consistency checks. */
  readonly apply?: boolean;
}

export interface BlockSpec {
  /** Block id; the position in the list unless given. */
  readonly id?: number;
  readonly spc: number;
  readonly db: number;
  readonly rel: number;
  readonly fork?: number;
  readonly block: number;
  readonly willInit?: boolean;
  readonly image?: ImageSpec;
  readonly data?: Uint8Array;
}

export interface RecordSpec {
  readonly rmid: number;
  readonly info: number;
  readonly xid?: number;
  readonly blocks?: readonly BlockSpec[];
  readonly main?: Uint8Array;
  /** Replication origin id. */
  readonly origin?: number;
  readonly toplevelXid?: number;
}

const NONE = new Uint8Array(0);

/** A whole record, CRC included; `previous` is the start of the record before it. */
export function buildRecord(spec: RecordSpec, previous: Lsn, format: WalFormat): Uint8Array {
  const out = new ByteWriter();
  const blocks = spec.blocks ?? [];
  out
    .zeros(4)
    .u32le(spec.xid ?? 0)
    .lsnle(previous);
  out.u8(spec.info).u8(spec.rmid).zeros(6);
  blocks.forEach((block, i) => writeBlockHeader(out, block, blocks[i - 1], i, format));
  if (spec.origin !== undefined) out.u8(253).u16le(spec.origin);
  if (spec.toplevelXid !== undefined) out.u8(252).u32le(spec.toplevelXid);
  const main = spec.main ?? NONE;
  if (main.length > 255) out.u8(254).u32le(main.length);
  else if (main.length > 0) out.u8(255).u8(main.length);
  for (const block of blocks) out.raw(block.image?.bytes ?? NONE).raw(block.data ?? NONE);
  const bytes = out.raw(main).done().slice();
  const view = new DataView(bytes.buffer);
  view.setUint32(0, bytes.length, true);
  view.setUint32(20, recordCrc(bytes, 0, bytes.length), true);
  return bytes;
}

function writeBlockHeader(
  out: ByteWriter,
  block: BlockSpec,
  previous: BlockSpec | undefined,
  index: number,
  format: WalFormat,
): void {
  const { image } = block;
  const data = block.data ?? NONE;
  const sameRel =
    previous !== undefined &&
    previous.spc === block.spc &&
    previous.db === block.db &&
    previous.rel === block.rel;
  const flags =
    (block.fork ?? 0) |
    (image !== undefined ? 0x10 : 0) |
    (data.length > 0 ? 0x20 : 0) |
    (block.willInit === true ? 0x40 : 0) |
    (sameRel ? 0x80 : 0);
  out
    .u8(block.id ?? index)
    .u8(flags)
    .u16le(data.length);
  if (image !== undefined) writeImageHeader(out, image, format);
  if (!sameRel) out.u32le(block.spc).u32le(block.db).u32le(block.rel);
  out.u32le(block.block);
}

function writeImageHeader(out: ByteWriter, image: ImageSpec, format: WalFormat): void {
  const holeLength = image.holeLength ?? 0;
  const compression = image.compression ?? 0;
  assert(
    compression !== 0 || image.bytes.length + holeLength === PAGE_BYTES,
    `an image of ${image.bytes.length} bytes with a hole of ${holeLength} is no page`,
  );
  let info = holeLength > 0 ? 1 : 0;
  if (image.apply !== false) info |= format.imageApply;
  if (compression === VERSION_FLAG.PGLZ) info |= format.imagePglz;
  if (compression === VERSION_FLAG.LZ4) info |= format.imageLz4;
  if (compression === VERSION_FLAG.ZSTD) info |= format.imageZstd;
  out
    .u16le(image.bytes.length)
    .u16le(image.holeOffset ?? 0)
    .u8(info);
  if (compression !== 0 && holeLength > 0) out.u16le(holeLength);
}

export interface LaidOutWal {
  /** WAL bytes from the LSN asked for up to `end`: page headers, the record, padding to 8. */
  readonly bytes: Uint8Array;
  /** Where the record starts: behind the page header if the LSN was a page's start. */
  readonly start: Lsn;
  /** Aligned end of the record: where the next one is laid out. */
  readonly end: Lsn;
}

/** Lays one record out at `at` (a multiple of 8 that is not inside a page header). */
export function layOutRecord(record: Uint8Array, at: Lsn, identity: WalIdentity): LaidOutWal {
  assert(at % 8 === 0, `records start at multiples of 8, not at ${Lsn.format(at)}`);
  assert(record.length >= RECORD_HEADER_BYTES, "a record has a header");
  const start = Lsn.normalize(at);
  const chunks: { readonly lsn: number; readonly from: number; readonly to: number }[] = [];
  let lsn: number = start;
  for (let from = 0; from < record.length;) {
    if (lsn % WAL_PAGE_BYTES === 0) lsn += pageHeaderBytes(lsn);
    const to = Math.min(record.length, from + WAL_PAGE_BYTES - (lsn % WAL_PAGE_BYTES));
    chunks.push({ lsn, from, to });
    lsn += to - from;
    from = to;
  }
  const end = Lsn.align8(Lsn.of(lsn));
  const bytes = new Uint8Array(end - at);
  const view = new DataView(bytes.buffer);
  for (const { lsn: place, from, to } of chunks) {
    const page = place - (place % WAL_PAGE_BYTES);
    if (page >= at) {
      writePageHeader(
        view,
        page - at,
        Lsn.of(page),
        identity,
        from === 0 ? 0 : record.length - from,
      );
    }
    bytes.set(record.subarray(from, to), place - at);
  }
  return { bytes, start, end };
}
