// Pages that redo has rebuilt, least recently used ones dropped, bounded in bytes. A page is kept
// with the LSNs it is right for: from its newest version to the highest LSN at which no newer one
// was found. History never changes (I1), so an entry never becomes wrong, only old.
//
// Entries are slots of memory that is allocated once, in chunks, when it is first needed: a page
// of its own for each entry kept the garbage collector busier than all the rest of a read.

import { assert } from "../core/assert.ts";
import type { TimelineId } from "../core/ids.ts";
import { PAGE_CACHE_BYTES_MAX } from "../core/limits.ts";
import type { Lsn } from "../core/lsn.ts";
import { PAGE_BYTES, type RelTag } from "../core/page.ts";

/** What an entry costs besides its page, about. */
const ENTRY_BYTES = 300;
const CHUNK_SLOTS = 128;
const NONE = -1;

/** An entry: valid until the next put. */
export type CacheSlot = number;

export class PageCache {
  private readonly capacity: number;
  private readonly slots = new Map<string, CacheSlot>();
  // By slot.
  private readonly names: string[] = [];
  private readonly fromLsns: Lsn[] = [];
  private readonly upToLsns: Lsn[] = [];
  private readonly chunks: Uint8Array[] = [];
  // Slots in order of their last use: a ring of links in both directions, `newest` behind `oldest`.
  private readonly newer: CacheSlot[] = [];
  private readonly older: CacheSlot[] = [];
  private newest: CacheSlot = NONE;

  constructor(bytesMax = PAGE_CACHE_BYTES_MAX) {
    this.capacity = Math.floor(bytesMax / (PAGE_BYTES + ENTRY_BYTES));
    assert(this.capacity > 0, "a page cache holds at least one page");
  }

  /** The entry of a page, which counts as a use of it. */
  find(timeline: TimelineId, rel: RelTag, block: number): CacheSlot | undefined {
    if (this.newest === NONE) return undefined;
    const slot = this.slots.get(nameOf(timeline, rel, block));
    if (slot !== undefined) this.use(slot);
    return slot;
  }

  /** LSN of the newest version in the page. */
  from(slot: CacheSlot): Lsn {
    return this.fromLsns[slot]!;
  }

  /** Highest LSN that the page is known to be right for. */
  upTo(slot: CacheSlot): Lsn {
    return this.upToLsns[slot]!;
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

  /** Copies the page. One that is known to be newer stays. */
  put(
    timeline: TimelineId,
    rel: RelTag,
    block: number,
    from: Lsn,
    upTo: Lsn,
    page: Uint8Array,
  ): void {
    const name = nameOf(timeline, rel, block);
    let slot = this.slots.get(name);
    if (slot !== undefined && this.fromLsns[slot]! >= from) {
      if (this.fromLsns[slot] === from) this.extend(slot, upTo);
      return;
    }
    slot ??= this.freeSlot(name);
    this.fromLsns[slot] = from;
    this.upToLsns[slot] = upTo;
    this.page(slot).set(page.length === PAGE_BYTES ? page : page.subarray(0, PAGE_BYTES));
    this.use(slot);
  }

  clear(): void {
    this.slots.clear();
    for (const list of [this.names, this.fromLsns, this.upToLsns, this.newer, this.older]) {
      list.length = 0;
    }
    this.chunks.length = 0;
    this.newest = NONE;
  }

  /** A slot for a new entry: one that was never used, or the least recently used one's. */
  private freeSlot(name: string): CacheSlot {
    let slot = this.names.length;
    if (slot === this.capacity) {
      slot = this.newer[this.newest]!; // behind the newest one of the ring comes the oldest
      this.slots.delete(this.names[slot]!);
    } else {
      if (slot % CHUNK_SLOTS === 0) this.addChunk(slot);
      const { newest } = this;
      const oldest = newest === NONE ? slot : this.newer[newest]!;
      this.newer[slot] = oldest;
      this.older[slot] = newest === NONE ? slot : newest;
      this.older[oldest] = slot;
      if (newest !== NONE) this.newer[newest] = slot;
      this.newest = slot;
    }
    this.names[slot] = name;
    this.slots.set(name, slot);
    return slot;
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

const nameOf = (timeline: TimelineId, rel: RelTag, block: number): string =>
  `${timeline}/${rel.spc}/${rel.db}/${rel.rel}/${rel.fork}/${block}`;
