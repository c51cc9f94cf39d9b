// Pages that took work to make (redo, decompression), least recently used ones dropped, bounded in
// bytes. A page is kept with the LSNs it is right for: from its newest version to the highest LSN at
// which no newer one was found. History never changes (I1), so an entry never becomes wrong, only old.
//
// Entries are slots of memory that is allocated once, in chunks, when it is first needed, and found
// by a hash table of numbers: objects and names of their own for each entry kept the garbage
// collector busier than all the rest of a read.

import { assert } from "../core/assert.ts";
import { PAGE_CACHE_BYTES_MAX } from "../core/limits.ts";
import type { Lsn } from "../core/lsn.ts";
import { PAGE_BYTES } from "../core/page.ts";

/** What an entry costs besides its page. */
export const ENTRY_BYTES = 48;
const CHUNK_SLOTS = 128;
const NONE = -1;

/** An entry: valid until the next put. */
export type CacheSlot = number;

/** A number that stands for one relation fork of one timeline. */
export type CacheScope = number;

export class PageCache {
  private readonly capacity: number;
  private used = 0;
  private scopesMade = 0;
  // By hash: the first slot of a list; by slot: the next of its list.
  private heads = new Int32Array(0);
  private nexts = new Int32Array(0);
  // By slot.
  private scopes = new Int32Array(0);
  private blocks = new Uint32Array(0);
  private fromLsns = new Float64Array(0);
  private upToLsns = new Float64Array(0);
  private readonly chunks: Uint8Array[] = [];
  // Slots in order of their last use: a ring of links in both directions, `newest` behind `oldest`.
  private newer = new Int32Array(0);
  private older = new Int32Array(0);
  private newest: CacheSlot = NONE;

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
    if (this.newest === NONE) return undefined;
    const slot = this.lookUp(scope, block);
    if (slot === NONE) return undefined;
    this.use(slot);
    return slot;
  }

  /** LSN of the newest version in the page. */
  from(slot: CacheSlot): Lsn {
    return this.fromLsns[slot]! as Lsn;
  }

  /** Highest LSN that the page is known to be right for. */
  upTo(slot: CacheSlot): Lsn {
    return this.upToLsns[slot]! as Lsn;
  }

  /** The page is right up to `upTo` too. */
  extend(slot: CacheSlot, upTo: Lsn): void {
    if (upTo > this.upToLsns[slot]!) this.upToLsns[slot] = upTo;
  }

  /** The page: a view, to be copied at once. */
  page(slot: CacheSlot): Uint8Array {
    const start = (slot % CHUNK_SLOTS) * PAGE_BYTES;
    return this.chunks[Math.floor(slot / CHUNK_SLOTS)]!.subarray(start, start + PAGE_BYTES);
  }

  /** Copies the page at bytes[start, start + 8192). One that is known to be newer stays. */
  put(
    scope: CacheScope,
    block: number,
    from: Lsn,
    upTo: Lsn,
    bytes: Uint8Array,
    start: number,
  ): void {
    if (this.heads.length === 0) this.allocate();
    let slot = this.lookUp(scope, block);
    if (slot !== NONE && this.fromLsns[slot]! >= from) {
      if (this.fromLsns[slot] === from) this.extend(slot, upTo);
      return;
    }
    if (slot === NONE) slot = this.freeSlot(scope, block);
    this.fromLsns[slot] = from;
    this.upToLsns[slot] = upTo;
    this.page(slot).set(bytes.subarray(start, start + PAGE_BYTES));
    this.use(slot);
  }

  /** Drops all entries and their memory. */
  clear(): void {
    this.heads = new Int32Array(0);
    this.chunks.length = 0;
    this.used = 0;
    this.newest = NONE;
  }

  private allocate(): void {
    const { capacity } = this;
    let heads = 1;
    while (heads < capacity) heads *= 2;
    this.heads = new Int32Array(heads).fill(NONE);
    this.nexts = new Int32Array(capacity);
    this.scopes = new Int32Array(capacity);
    this.blocks = new Uint32Array(capacity);
    this.fromLsns = new Float64Array(capacity);
    this.upToLsns = new Float64Array(capacity);
    this.newer = new Int32Array(capacity);
    this.older = new Int32Array(capacity);
  }

  private headOf(scope: CacheScope, block: number): number {
    let hash = Math.imul(scope, 0x9e3779b1) ^ Math.imul(block, 0x85ebca6b);
    hash ^= hash >>> 15;
    return hash & (this.heads.length - 1);
  }

  private lookUp(scope: CacheScope, block: number): CacheSlot {
    let slot = this.heads[this.headOf(scope, block)]!;
    while (slot !== NONE && (this.blocks[slot] !== block || this.scopes[slot] !== scope)) {
      slot = this.nexts[slot]!;
    }
    return slot;
  }

  /** A slot for a new entry: one that was never used, or the least recently used one's. */
  private freeSlot(scope: CacheScope, block: number): CacheSlot {
    let slot = this.used;
    if (slot === this.capacity) {
      slot = this.newer[this.newest]!; // behind the newest one of the ring comes the oldest
      this.unlink(slot);
    } else {
      this.used++;
      if (slot % CHUNK_SLOTS === 0) this.addChunk(slot);
      this.join(slot);
    }
    this.scopes[slot] = scope;
    this.blocks[slot] = block;
    const head = this.headOf(scope, block);
    this.nexts[slot] = this.heads[head]!;
    this.heads[head] = slot;
    return slot;
  }

  /** Takes a slot out of the list that it is found by. */
  private unlink(slot: CacheSlot): void {
    const head = this.headOf(this.scopes[slot]!, this.blocks[slot]!);
    let at = this.heads[head]!;
    if (at === slot) {
      this.heads[head] = this.nexts[slot]!;
      return;
    }
    while (this.nexts[at] !== slot) at = this.nexts[at]!;
    this.nexts[at] = this.nexts[slot]!;
  }

  /** Puts a slot that was never used at the newest end of the ring. */
  private join(slot: CacheSlot): void {
    const { newest } = this;
    const oldest = newest === NONE ? slot : this.newer[newest]!;
    this.newer[slot] = oldest;
    this.older[slot] = newest === NONE ? slot : newest;
    this.older[oldest] = slot;
    if (newest !== NONE) this.newer[newest] = slot;
    this.newest = slot;
  }

  private addChunk(slot: CacheSlot): void {
    const slots = Math.min(CHUNK_SLOTS, this.capacity - slot);
    this.chunks.push(new Uint8Array(slots * PAGE_BYTES));
  }

  /** Moves a slot to the newest end of the ring. */
  private use(slot: CacheSlot): void {
    const { newest, newer, older } = this;
    if (slot === newest) return;
    const oldest = newer[newest]!;
    if (slot === oldest) {
      this.newest = slot; // the ring turns by one
      return;
    }
    newer[older[slot]!] = newer[slot]!;
    older[newer[slot]!] = older[slot]!;
    newer[newest] = slot;
    older[slot] = newest;
    newer[slot] = oldest;
    older[oldest] = slot;
    this.newest = slot;
  }
}
