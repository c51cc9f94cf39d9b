// WAL segment files: their names, and files made by us that begin in the middle of history, for a
// PostgreSQL that is to start at an LSN with an otherwise empty pg_wal (docs/wire-protocol.md,
// "generated WAL segment").

import { MalformedInput } from "../../core/assert.ts";
import { Lsn, WAL_PAGE_BYTES, WAL_SEGMENT_BYTES } from "../../core/lsn.ts";
import { type WalIdentity, pageHeaderBytes, writePageHeader } from "./page.ts";
import { layOutRecord } from "./writer.ts";

/** Segments of one "xlog id": the file name's middle and last part count to this (XLogSegmentsPerXLogId). */
const SEGMENTS_PER_ID = 0x1_0000_0000 / WAL_SEGMENT_BYTES;

/** Number of the segment that holds the byte at `lsn`. */
export const segmentOf = (lsn: Lsn): number => Math.floor(lsn / WAL_SEGMENT_BYTES);
/** First byte of a segment. */
export const segmentStart = (segment: number): Lsn => Lsn.of(segment * WAL_SEGMENT_BYTES);

const hex8 = (n: number): string => n.toString(16).toUpperCase().padStart(8, "0");

/** XLogFileName: 24 hex digits. */
export const segmentFileName = (tli: number, segment: number): string =>
  hex8(tli) + hex8(Math.floor(segment / SEGMENTS_PER_ID)) + hex8(segment % SEGMENTS_PER_ID);

/** Parses a segment file's name; undefined for other files (history, backup, partial, temporary). Throws MalformedInput when the numbers cannot be. */
export function parseSegmentFileName(
  name: string,
): { readonly tli: number; readonly segment: number } | undefined {
  const match = /^([0-9A-F]{8})([0-9A-F]{8})([0-9A-F]{8})$/.exec(name);
  if (match === null) return undefined;
  const [tli, id, rest] = match.slice(1).map((part) => parseInt(part, 16)) as [
    number,
    number,
    number,
  ];
  if (tli === 0 || rest >= SEGMENTS_PER_ID) {
    throw new MalformedInput(`not a WAL segment of 16 MiB: "${name}"`);
  }
  return { tli, segment: id * SEGMENTS_PER_ID + rest };
}

export interface SegmentFile {
  readonly name: string;
  readonly segment: number;
  /** WAL_SEGMENT_BYTES of them. */
  readonly bytes: Uint8Array;
}

/**
 * The segment file or files (two when the record crosses into the next) that hold `record` at
 * `at` and otherwise zeros: the segment's first page has its header, and so has the page of `at`,
 * which pretends to begin with the rest of an earlier record that ends at `at`.
 */
export function segmentsWithRecord(
  record: Uint8Array,
  at: Lsn,
  identity: WalIdentity,
): { readonly files: readonly SegmentFile[]; readonly start: Lsn; readonly end: Lsn } {
  const laid = layOutRecord(record, at, identity);
  const first = segmentOf(at);
  const base = segmentStart(first);
  const count = segmentOf(Lsn.of(laid.end - 1)) - first + 1;
  const bytes = new Uint8Array(count * WAL_SEGMENT_BYTES);
  const view = new DataView(bytes.buffer);
  writePageHeader(view, 0, base, identity, 0);
  const inPage = at % WAL_PAGE_BYTES;
  if (inPage !== 0) {
    const page = Lsn.of(at - inPage);
    writePageHeader(view, page - base, page, identity, inPage - pageHeaderBytes(page));
  }
  bytes.set(laid.bytes, at - base);
  const files = Array.from({ length: count }, (_, i) => ({
    name: segmentFileName(identity.tli, first + i),
    segment: first + i,
    bytes: bytes.subarray(i * WAL_SEGMENT_BYTES, (i + 1) * WAL_SEGMENT_BYTES),
  }));
  return { files, start: laid.start, end: laid.end };
}
