// Pages that took work to make (redo, decompression), bounded in bytes. A page is kept with the LSNs it
// is right for: from its newest version to the highest LSN at which no newer one was found. History never
// changes (I1), so an entry never becomes wrong, only old.
//
// Full, it gives a new page the place of one that was not used again since it came or was last looked at:
// places are looked at in random order. Dropping the least recently used one finds nothing of a table that
// is a little larger than the cache and is read through again and again; this finds most of it. And of pages that are
// made without redo a full cache takes in only some: what is read once is not copied, what is read often comes in soon.
//
// Entries are slots of memory that is allocated once, in chunks, when it is first needed, and found
// by a hash table of numbers: objects and names of their own for each entry kept the garbage
// collector busier than all the rest of a read. What is known of a slot lies in one line of the processor's cache:
//
//   next slot of its list i32 | scope i32 | block i32 | was used i32 | from LSN f64 | up-to LSN f64   = 32 bytes

import { assert } from "../core/assert.ts";
import {
  PAGE_CACHE_ADMIT_ONE_IN,
  PAGE_CACHE_BYTES_MAX,
  PAGE_CACHE_LOOKS_MAX,
} from "../core/limits.ts";
import type { Lsn } from "../core/lsn.ts";
import { PAGE_BYTES } from "../core/page.ts";

const SLOT_BYTES = 32;
const SLOT_WORDS = SLOT_BYTES / 4;
const SLOT_DOUBLES = SLOT_BYTES / 8;
const NEXT = 0;
const SCOPE = 1;
const BLOCK = 2;
const WAS_USED = 3;
const FROM = 2;
const UP_TO = 3;

/** What an entry costs besides its page: its slot, and its part of the table that finds it. */
export const ENTRY_BYTES = SLOT_BYTES + 8;
const CHUNK_SLOTS = 128;
const NONE = -1;
const TWO_32 = 4_294_967_296;

/** An entry: valid until the next put. */
export type CacheSlot = number;

/** A number that stands for one relation fork of one timeline. */
export type CacheScope = number;

export class PageCache {
  private readonly capacity: number;
  private used = 0;
  private scopesMade = 0;
  // By hash: the first slot of a list.
  private heads = new Int32Array(0);
  // By slot: the same memory as whole numbers and as LSNs.
  private words = new Int32Array(0);
  private lsns = new Float64Array(0);
  private readonly chunks: Uint8Array[] = [];
  private random = 1;

  constructor(bytesMax = PAGE_CACHE_BYTES_MAX) {
    this.capacity = Math.floor(bytesMax / (PAGE_BYTES + ENTRY_BYTES));
    assert(this.capacity > 0, "a page cache holds at least one page");
  }

  /** Entries now. */
  get pages(): number {
    return this.used;
  }

  newScope(): CacheScope {
    return ++this.scopesMade;
  }

  /** The entry of a page, which counts as a use of it. */
  find(scope: CacheScope, block: number): CacheSlot | undefined {
    if (this.used === 0) return undefined;
    const slot = this.lookUp(scope, block);
    if (slot === NONE) return undefined;
    this.words[slot * SLOT_WORDS + WAS_USED] = 1;
    return slot;
  }

  /** LSN of the newest version in the page. */
  from(slot: CacheSlot): Lsn {
    return this.lsns[slot * SLOT_DOUBLES + FROM]! as Lsn;
  }

  /** Highest LSN that the page is known to be right for. */
  upTo(slot: CacheSlot): Lsn {
    return this.lsns[slot * SLOT_DOUBLES + UP_TO]! as Lsn;
  }

  /** The page is right up to `upTo` too. */
  extend(slot: CacheSlot, upTo: Lsn): void {
    if (upTo > this.upTo(slot)) this.lsns[slot * SLOT_DOUBLES + UP_TO] = upTo;
  }

  /** The page: a view, to be copied at once. */
  page(slot: CacheSlot): Uint8Array {
    const start = (slot % CHUNK_SLOTS) * PAGE_BYTES;
    return this.chunks[Math.floor(slot / CHUNK_SLOTS)]!.subarray(start, start + PAGE_BYTES);
  }

  /**
   * Copies the page at bytes[start, start + 8192). One that is known to be newer stays. `isCheap`: it is soon made
   * again, so of those that are not known a full cache takes in one in PAGE_CACHE_ADMIT_ONE_IN.
   */
  put(
    scope: CacheScope,
    block: number,
    from: Lsn,
    upTo: Lsn,
    bytes: Uint8Array,
    start: number,
    isCheap = false,
  ): void {
    if (this.heads.length === 0) this.allocate();
    let slot = this.lookUp(scope, block);
    if (slot === NONE) {
      const isFull = this.used === this.capacity;
      if (isCheap && isFull && this.nextRandom() % PAGE_CACHE_ADMIT_ONE_IN !== 0) return;
      slot = this.freeSlot(scope, block);
    } else {
      this.words[slot * SLOT_WORDS + WAS_USED] = 1;
      if (this.from(slot) === from) this.extend(slot, upTo);
      if (this.from(slot) >= from) return;
    }
    this.lsns[slot * SLOT_DOUBLES + FROM] = from;
    this.lsns[slot * SLOT_DOUBLES + UP_TO] = upTo;
    this.page(slot).set(bytes.subarray(start, start + PAGE_BYTES));
  }

  /** Drops all entries and their memory. */
  clear(): void {
    this.heads = new Int32Array(0);
    this.chunks.length = 0;
    this.used = 0;
  }

  private allocate(): void {
    const { capacity } = this;
    let heads = 1;
    while (heads < capacity) heads *= 2;
    this.heads = new Int32Array(heads).fill(NONE);
    const slots = new ArrayBuffer(capacity * SLOT_BYTES);
    this.words = new Int32Array(slots);
    this.lsns = new Float64Array(slots);
  }

  private headOf(scope: CacheScope, block: number): number {
    let hash = Math.imul(scope, 0x9e3779b1) ^ Math.imul(block, 0x85ebca6b);
    hash ^= hash >>> 15;
    return hash & (this.heads.length - 1);
  }

  private lookUp(scope: CacheScope, block: number): CacheSlot {
    const { words } = this;
    let slot = this.heads[this.headOf(scope, block)]!;
    while (slot !== NONE) {
      const at = slot * SLOT_WORDS;
      // Block numbers have 32 bits, of which the first is a sign here.
      if (words[at + BLOCK] === (block | 0) && words[at + SCOPE] === scope) return slot;
      slot = words[at + NEXT]!;
    }
    return NONE;
  }

  /** A slot for a new entry: one that was never used, or another entry's. */
  private freeSlot(scope: CacheScope, block: number): CacheSlot {
    let slot = this.used;
    if (slot === this.capacity) {
      slot = this.victim();
      this.unlink(slot);
    } else {
      this.used++;
      if (slot % CHUNK_SLOTS === 0) this.addChunk(slot);
    }
    const { words } = this;
    const at = slot * SLOT_WORDS;
    const head = this.headOf(scope, block);
    words[at + NEXT] = this.heads[head]!;
    words[at + SCOPE] = scope;
    words[at + BLOCK] = block;
    words[at + WAS_USED] = 0;
    this.heads[head] = slot;
    return slot;
  }

  /** Whose place is taken: some entry that was not used lately. Those that are passed over have to be used again. */
  private victim(): CacheSlot {
    const { words } = this;
    for (let looks = 1; ; looks++) {
      const slot = Math.floor((this.nextRandom() / TWO_32) * this.capacity);
      const at = slot * SLOT_WORDS + WAS_USED;
      if (words[at] === 0 || looks === PAGE_CACHE_LOOKS_MAX) return slot;
      words[at] = 0;
    }
  }

  /** Marsaglia's xorshift, 32 bits: which place is looked at matters to nobody, so it begins the same each time. */
  private nextRandom(): number {
    let x = this.random;
    x ^= x << 13;
    x ^= x >>> 17;
    x ^= x << 5;
    this.random = x;
    return x >>> 0;
  }

  /** Takes a slot out of the list that it is found by. */
  private unlink(slot: CacheSlot): void {
    const { words } = this;
    const own = slot * SLOT_WORDS;
    const next = words[own + NEXT]!;
    const head = this.headOf(words[own + SCOPE]!, words[own + BLOCK]!);
    let at = this.heads[head]!;
    if (at === slot) {
      this.heads[head] = next;
      return;
    }
    while (words[at * SLOT_WORDS + NEXT] !== slot) at = words[at * SLOT_WORDS + NEXT]!;
    words[at * SLOT_WORDS + NEXT] = next;
  }

  private addChunk(slot: CacheSlot): void {
    const slots = Math.min(CHUNK_SLOTS, this.capacity - slot);
    this.chunks.push(new Uint8Array(slots * PAGE_BYTES));
  }
}
