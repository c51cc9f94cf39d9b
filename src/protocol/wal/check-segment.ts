// A whole WAL segment, by itself: every page header, and every record that begins and ends in it with
// its checksum. What came before it, and the first record's start if that is earlier, is not needed.

import { Arena } from "../../core/arena.ts";
import { Lsn, WAL_PAGE_BYTES, WAL_SEGMENT_BYTES } from "../../core/lsn.ts";
import { WalDecoder } from "./decoder.ts";
import { type PgVersion, WalCorrupt, walFormat } from "./format.ts";
import { pageHeaderBytes, readPageHeader } from "./page.ts";

export interface SegmentFacts {
  readonly version: PgVersion;
  readonly tli: number;
  readonly systemId: bigint;
  readonly segment: number;
}

/** Pages before the first WAL there is (a timeline begins somewhere) may be zeros. Throws WalCorrupt. */
export function checkWalSegment(bytes: Uint8Array, facts: SegmentFacts): void {
  const base = facts.segment * WAL_SEGMENT_BYTES;
  if (bytes.length !== WAL_SEGMENT_BYTES) {
    throw new WalCorrupt(
      base,
      `a segment of ${bytes.length} bytes instead of ${WAL_SEGMENT_BYTES}`,
    );
  }
  const start = firstRecord(bytes, base, facts);
  if (start >= base + WAL_SEGMENT_BYTES) return;
  const decoder = new WalDecoder({
    ...{ version: facts.version, tli: facts.tli, systemId: facts.systemId },
    ...{ start: Lsn.of(start), arena: new Arena(), onRecord: () => undefined },
  });
  decoder.feed(bytes, start - base, bytes.length);
}

/** Where the first record begins. */
function firstRecord(bytes: Uint8Array, base: number, { version, tli, systemId }: SegmentFacts) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const expect = { format: walFormat(version), tli, systemId };
  let at = 0;
  while (at < bytes.length && view.getUint16(at, true) === 0) at += WAL_PAGE_BYTES;
  if (at === bytes.length) throw new WalCorrupt(base, "a segment of zeros");
  let left: number | undefined;
  for (; at < bytes.length; at += WAL_PAGE_BYTES) {
    const page = new DataView(bytes.buffer, bytes.byteOffset + at, WAL_PAGE_BYTES);
    const { remaining } = readPageHeader(page, base + at, expect);
    left ??= remaining;
    const header = pageHeaderBytes(base + at);
    const room = WAL_PAGE_BYTES - header;
    if (left < room) return base + at + header + Math.ceil(left / 8) * 8;
    left -= room;
  }
  return base + WAL_SEGMENT_BYTES;
}
