// Pages of a data directory's files to images in a ChangeSink: copied once into the arena, the
// zeros in their middle (the hole) left out, all-zero pages kept as nothing at all.

import type { ArenaChunk } from "../core/arena.ts";
import type { ChangeSink } from "../core/change.ts";
import type { Lsn } from "../core/lsn.ts";
import { PAGE_BYTES } from "../core/page.ts";

const PAGE_HEADER_BYTES = 24;
const PD_LOWER = 12;
const PD_UPPER = 14;
const WORDS = PAGE_BYTES / 4;

/** Puts pages as images at one LSN. `pd_lsn` and everything else stays as it was (no STAMP_LSN). */
export class PageWriter {
  private readonly sink: ChangeSink;
  private readonly lsn: Lsn;
  // The chunk as 32-bit words: made once a chunk, not once a page.
  private wordsOf: ArenaChunk | undefined;
  private words: Int32Array = new Int32Array(0);

  constructor(sink: ChangeSink, lsn: Lsn) {
    this.sink = sink;
    this.lsn = lsn;
  }

  /** Puts the page at `bytes[at..at+8192)`. */
  put(group: number, block: number, bytes: Uint8Array, at: number): void {
    const arena = this.sink.arena;
    arena.reserve(PAGE_BYTES);
    const chunk = arena.chunk;
    const start = arena.used;
    chunk.bytes.set(bytes.subarray(at, at + PAGE_BYTES), start);
    if (this.wordsOf !== chunk) {
      this.words = new Int32Array(
        chunk.bytes.buffer,
        chunk.bytes.byteOffset,
        chunk.bytes.length >> 2,
      );
      this.wordsOf = chunk;
    }
    const used = this.usedWords(start >> 2);
    if (used === 0) {
      this.sink.putZeroPage(group, block, this.lsn);
      return;
    }
    let holeOffset = used * 4;
    let holeLength = PAGE_BYTES - holeOffset;
    const lower = chunk.view.getUint16(start + PD_LOWER, true);
    const upper = chunk.view.getUint16(start + PD_UPPER, true);
    if (isHole(chunk.bytes, start, lower, upper) && upper - lower > holeLength) {
      holeOffset = lower;
      holeLength = upper - lower;
      chunk.bytes.copyWithin(start + lower, start + upper, start + PAGE_BYTES);
    }
    const length = PAGE_BYTES - holeLength;
    arena.commit(length);
    const lsn = this.lsn;
    this.sink.putImage(group, block, lsn, 0, chunk, start, length, holeOffset, holeLength);
  }

  /** Words of the page up to its last one that is not zero. */
  private usedWords(first: number): number {
    let end = WORDS;
    while (end > 0 && this.words[first + end - 1] === 0) end--;
    return end;
  }
}

/** True when [lower, upper) can be the free space of a standard page (bufpage.h) and is all zeros. */
function isHole(bytes: Uint8Array, start: number, lower: number, upper: number): boolean {
  if (lower < PAGE_HEADER_BYTES || lower >= upper || upper > PAGE_BYTES) return false;
  for (let i = start + lower; i < start + upper; i++) if (bytes[i] !== 0) return false;
  return true;
}

/**
 * Cuts a file's chunks into whole pages; `each` gets the memory and where the page starts in it,
 * `between` is awaited after every chunk. Gives the number of pages and the bytes left over.
 */
export async function eachPage(
  chunks: AsyncIterable<Uint8Array>,
  each: (block: number, bytes: Uint8Array, at: number) => void,
  between: (bytes: number) => Promise<void>,
): Promise<{ readonly pages: number; readonly left: number }> {
  const split = new Uint8Array(PAGE_BYTES);
  let held = 0;
  let pages = 0;
  for await (const chunk of chunks) {
    let at = 0;
    if (held > 0) {
      at = Math.min(PAGE_BYTES - held, chunk.length);
      split.set(chunk.subarray(0, at), held);
      held += at;
      if (held === PAGE_BYTES) {
        each(pages++, split, 0);
        held = 0;
      }
    }
    for (; chunk.length - at >= PAGE_BYTES; at += PAGE_BYTES) each(pages++, chunk, at);
    if (at < chunk.length) {
      split.set(chunk.subarray(at), held);
      held += chunk.length - at;
    }
    await between(chunk.length);
  }
  return { pages, left: held };
}
