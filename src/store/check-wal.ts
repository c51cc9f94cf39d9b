// The walker of received WAL: segment files follow each other, have their size, and every WAL page in
// them says that it is at its place. Records and their checksums are the decoder's business.

import fs from "node:fs";
import { Lsn, WAL_PAGE_BYTES, WAL_SEGMENT_BYTES } from "../core/lsn.ts";
import type { CheckReport } from "./object-store.ts";
import { errorText } from "./store-errors.ts";
import { listSegments } from "./wal-files.ts";

const PIECE_BYTES = 128 * WAL_PAGE_BYTES;
/** Offset of xlp_pageaddr in a WAL page header (xlog_internal.h). */
const PAGE_ADDRESS_AT = 8;

/** Reports I8 where it does not hold in a timeline's WAL directory; `sealed`: what need not be there any more. */
export async function checkWal(
  directory: string,
  sealed: Lsn,
  report: CheckReport,
): Promise<{ readonly segments: number }> {
  if (!fs.existsSync(directory)) return { segments: 0 };
  const segments = listSegments(directory);
  const numbers = [...segments.keys()].sort((x, y) => x - y);
  const needed = Math.floor(sealed / WAL_SEGMENT_BYTES);
  if (numbers.length > 0 && numbers[0]! > needed) {
    const from = Lsn.format(sealed);
    report("I8", directory, `WAL from ${from} on is not sealed, and the first file is later`);
  }
  for (let i = 0; i < numbers.length; i++) {
    const number = numbers[i]!;
    const file = `${directory}/${segments.get(number)!}`;
    if (i > 0 && numbers[i - 1] !== number - 1) report("I8", file, "the segment before is missing");
    try {
      await checkSegment(file, number * WAL_SEGMENT_BYTES, report);
    } catch (cause) {
      // Let go meanwhile: it had been sealed.
      if (fs.existsSync(file)) report("I8", file, errorText(cause));
    }
  }
  return { segments: numbers.length };
}

async function checkSegment(file: string, base: number, report: CheckReport): Promise<void> {
  const handle = await fs.promises.open(file, "r");
  try {
    const { size } = await handle.stat();
    if (size !== WAL_SEGMENT_BYTES) report("I8", file, `${size} bytes long`);
    const piece = Buffer.alloc(PIECE_BYTES);
    for (let at = 0; at < size; at += PIECE_BYTES) {
      const { bytesRead } = await handle.read(piece, 0, PIECE_BYTES, at);
      for (let page = 0; page + WAL_PAGE_BYTES <= bytesRead; page += WAL_PAGE_BYTES) {
        // Zero: before the timeline's first byte, behind its last, or after a segment switch.
        if (piece.readUInt16LE(page) === 0) continue;
        const address = piece.readBigUInt64LE(page + PAGE_ADDRESS_AT);
        if (address === BigInt(base + at + page)) continue;
        const place = Lsn.format((base + at + page) as Lsn);
        report("I8", file, `the page at ${place} says it is at ${address.toString(16)}`);
        return;
      }
    }
  } finally {
    await handle.close();
  }
}
