// An LSN between two WAL records for one that may lie within a record, as pg_waldump knows them. What is
// uploaded may end there: the page server then shows everything up to the record before.

import { Lsn, WAL_SEGMENT_BYTES } from "../../src/core/lsn.ts";
import { outputOf } from "./recover.ts";

const PAGE = 8192;
const PAGE_HEADER = 24;
const SEGMENT_HEADER = 40;
/** More than any record that is written here, bytes. */
const RECORD_MAX = 4 * 1024 * 1024;

/** Where recovery has to stop to have exactly the records that end at or below `lsn`. */
export async function recordBoundary(archive: string, lsn: Lsn): Promise<Lsn> {
  const segment = Math.floor((lsn - 1) / WAL_SEGMENT_BYTES) * WAL_SEGMENT_BYTES;
  // From a segment earlier: the record that is cut by `lsn` may have begun there.
  const from = Lsn.of(Math.max(segment - WAL_SEGMENT_BYTES, WAL_SEGMENT_BYTES));
  const found =
    (await lastBefore(archive, from, lsn)) ?? (await lastBefore(archive, Lsn.of(segment), lsn));
  if (found === undefined) throw new Error(`no record begins before ${Lsn.format(lsn)}`);
  return recordEnd(found.at, found.bytes) <= lsn ? lsn : found.at;
}

interface Found {
  readonly at: Lsn;
  readonly bytes: number;
}

async function lastBefore(archive: string, from: Lsn, lsn: Lsn): Promise<Found | undefined> {
  const to = Lsn.format(Lsn.of(lsn + RECORD_MAX));
  // Ends with an error where the WAL does: what it printed counts.
  const printed = await outputOf("pg_waldump", ["-p", archive, "-s", Lsn.format(from), "-e", to]);
  let found: Found | undefined;
  for (const [, total, at] of printed.matchAll(
    /len \(rec\/tot\): +\d+\/ *(\d+), .*? lsn: (\S+),/g,
  )) {
    const begin = Lsn.parse(at!);
    if (begin < lsn) found = { at: begin, bytes: Number(total) };
  }
  return found;
}

/** The end of a record of `bytes` bytes, page headers in between included. */
function recordEnd(begin: Lsn, bytes: number): number {
  let at: number = begin;
  let left = bytes;
  for (;;) {
    const room = PAGE - (at % PAGE);
    if (left <= room) return Math.ceil((at + left) / 8) * 8;
    left -= room;
    at += room;
    at += at % WAL_SEGMENT_BYTES === 0 ? SEGMENT_HEADER : PAGE_HEADER;
  }
}
