// The version entries of a layer in memory: 32 bytes each in pages of memory, chained newest to oldest;
// the payload stays where the decoder assembled it. Nothing is allocated for an entry. What they are made
// of can be handed to another thread, which then reads the same memory.
//
//   entry:  lsn f64 | previous entry i32 | chunk i32 | start i32 | length i32 | type, flags i32 | hole i32

import { type ArenaChunk, BlockPool } from "../core/arena.ts";
import { assert } from "../core/assert.ts";
import { LSN_INVALID, type Lsn } from "../core/lsn.ts";
import { VERSION, type Version, type VersionType } from "../core/version.ts";
import type { VersionVisitor } from "./object-store.ts";

export const ENTRY_BYTES = 32;
/** "No entry", as head or as previous one. */
export const NO_ENTRY = -1;
const ENTRY_DOUBLES = ENTRY_BYTES / 8;
const ENTRY_WORDS = ENTRY_BYTES / 4;
const PAGE_SHIFT = 15;
const PAGE_MASK = (1 << PAGE_SHIFT) - 1;
const PREVIOUS = 2;
const CHUNK = 3;
const START = 4;
const LENGTH = 5;
const TYPE = 6;
const HOLE = 7;
const NO_BYTES = new Uint8Array(0);
const NOTHING = { bytes: NO_BYTES, view: new DataView(NO_BYTES.buffer) };

/** What entries are made of. Pages are shared when it is handed over; of chunks those that a pool gave. */
export interface EntryParts {
  readonly count: number;
  readonly pages: readonly SharedArrayBuffer[];
  readonly chunks: readonly Uint8Array[];
}

export class VersionEntries {
  count = 0;
  private readonly pool: BlockPool;
  private readonly words: Int32Array<SharedArrayBuffer>[] = [];
  private readonly doubles: Float64Array[] = [];
  // Chunks by the index that entries know them by.
  private readonly chunks: Pick<ArenaChunk, "bytes" | "view">[] = [];
  /** Of what bringNear() has read; means nothing, but without it nothing would be read. */
  met = 0;
  private released = false;
  private readonly shown: Version = {
    type: VERSION.RECORD,
    flags: 0,
    lsn: LSN_INVALID,
    holeOffset: 0,
    holeLength: 0,
    bytes: NO_BYTES,
    view: NOTHING.view,
    start: 0,
    length: 0,
  };

  /** `pool`: where pages come from, and go when they are released. */
  constructor(pool: BlockPool) {
    this.pool = pool;
  }

  /** Entries to read: those of a layer that takes no more changes. */
  static of({ count, pages, chunks }: EntryParts): VersionEntries {
    const entries = new VersionEntries(new BlockPool(0));
    entries.count = count;
    for (const page of pages) entries.addPage(page);
    for (const bytes of chunks) {
      const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
      entries.chunks.push({ bytes, view });
    }
    return entries;
  }

  /** For another thread; to be read until the layer is released. */
  get parts(): EntryParts {
    return {
      count: this.count,
      pages: this.words.map(({ buffer }) => buffer),
      chunks: this.chunks.map(({ bytes }) => bytes),
    };
  }

  holds(chunk: ArenaChunk): boolean {
    return this.chunks.includes(chunk);
  }

  /** The index of a chunk, or -1. */
  chunkIndex(chunk: ArenaChunk): number {
    return this.chunks.lastIndexOf(chunk);
  }

  addChunk(chunk: ArenaChunk): number {
    return this.chunks.push(chunk) - 1;
  }

  /** Gives the pages back; nothing is read any more. */
  release(): void {
    this.released = true;
    for (const { buffer } of this.words.splice(0)) this.pool.give(buffer);
    this.doubles.length = 0;
    this.chunks.length = 0;
  }

  /** Appends an entry; `hole`: offset << 16 | length. */
  append(
    lsn: number,
    previous: number,
    typeAndFlags: number,
    chunk: number,
    start: number,
    length: number,
    hole: number,
  ): void {
    const entry = this.count;
    const page = entry >>> PAGE_SHIFT;
    if (page === this.words.length) this.addPage(this.pool.take());
    const at = entry & PAGE_MASK;
    this.doubles[page]![at * ENTRY_DOUBLES] = lsn;
    const words = this.words[page]!;
    const word = at * ENTRY_WORDS;
    words[word + PREVIOUS] = previous;
    words[word + CHUNK] = chunk;
    words[word + START] = start;
    words[word + LENGTH] = length;
    words[word + TYPE] = typeAndFlags;
    words[word + HOLE] = hole;
    this.count = entry + 1;
  }

  lsnOf(entry: number): number {
    return this.doubles[entry >>> PAGE_SHIFT]![(entry & PAGE_MASK) * ENTRY_DOUBLES]!;
  }

  /** The next older entry of the same key, or NO_ENTRY. */
  previousOf(entry: number): number {
    return this.words[entry >>> PAGE_SHIFT]![(entry & PAGE_MASK) * ENTRY_WORDS + PREVIOUS]!;
  }

  /**
   * Reads from memory what the entries order[from, to) consist of, so that it is in the processor's caches
   * when they are visited. No read waits for another's value: they are under way together.
   */
  bringNear(order: Int32Array, from: number, to: number): void {
    let met = 0;
    for (let i = from; i < to; i++) met ^= this.previousOf(order[i]!);
    for (let i = from; i < to; i++) {
      const words = this.words[order[i]! >>> PAGE_SHIFT]!;
      const word = (order[i]! & PAGE_MASK) * ENTRY_WORDS;
      const length = words[word + LENGTH]!;
      if (length === 0) continue;
      const { bytes } = this.chunks[words[word + CHUNK]!]!;
      const start = words[word + START]!;
      met ^= bytes[start]! ^ bytes[start + length - 1]!;
    }
    this.met = met;
  }

  /** Shows the versions with floor < LSN <= at of the chain that begins at `from`, newest first. */
  walk(from: number, at: Lsn, floor: Lsn, visitor: VersionVisitor): boolean {
    assert(!this.released, "a layer that was released is read");
    for (let entry = from; entry !== NO_ENTRY; entry = this.previousOf(entry)) {
      const lsn = this.lsnOf(entry);
      if (lsn <= floor) return true;
      if (lsn <= at && !visitor(this.version(entry))) return false;
    }
    return true;
  }

  /** What an entry says; the object is reused. */
  version(entry: number): Version {
    const { shown } = this;
    const words = this.words[entry >>> PAGE_SHIFT]!;
    const word = (entry & PAGE_MASK) * ENTRY_WORDS;
    shown.lsn = this.lsnOf(entry) as Lsn;
    shown.type = (words[word + TYPE]! & 0xff) as VersionType;
    shown.flags = words[word + TYPE]! >>> 8;
    shown.holeOffset = words[word + HOLE]! >>> 16;
    shown.holeLength = words[word + HOLE]! & 0xffff;
    shown.start = words[word + START]!;
    shown.length = words[word + LENGTH]!;
    const { bytes, view } = shown.length === 0 ? NOTHING : this.chunks[words[word + CHUNK]!]!;
    shown.bytes = bytes;
    shown.view = view;
    return shown;
  }

  private addPage(memory: SharedArrayBuffer): void {
    assert(memory.byteLength === ENTRY_BYTES << PAGE_SHIFT, "a page of entries is one block");
    this.words.push(new Int32Array(memory));
    this.doubles.push(new Float64Array(memory));
  }
}
