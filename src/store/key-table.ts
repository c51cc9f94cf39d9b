// (group id, block) to a number, for the open layer: open addressing in one Int32Array, so that a
// change allocates nothing. (A Map keyed by doubles boxes each key.) Entries are never removed.

import { assert } from "../core/assert.ts";

const SLOT_WORDS = 3; // group id + 1 (0: free), block, value
const CAPACITY_MIN = 16;

export class KeyTable {
  private slots: Int32Array = new Int32Array(CAPACITY_MIN * SLOT_WORDS);
  private mask = CAPACITY_MIN - 1;
  private used = 0;

  /** A table to read, of another one's memory. */
  static of(slots: Int32Array, size: number): KeyTable {
    const table = new KeyTable();
    table.slots = slots;
    table.mask = slots.length / SLOT_WORDS - 1;
    table.used = size;
    return table;
  }

  get size(): number {
    return this.used;
  }

  /** What `of` takes; valid until the next change. */
  get memory(): Int32Array {
    return this.slots;
  }

  get bytes(): number {
    return this.slots.byteLength;
  }

  /** The value of a key, or -1. */
  get(group: number, block: number): number {
    const at = this.find(group, block | 0);
    return this.slots[at] === 0 ? -1 : this.slots[at + 2]!;
  }

  /** Sets the value of a key and returns the one it had, or -1 when the key is new. */
  replace(group: number, block: number, value: number): number {
    const at = this.find(group, block | 0);
    const slots = this.slots;
    if (slots[at] !== 0) {
      const old = slots[at + 2]!;
      slots[at + 2] = value;
      return old;
    }
    slots[at] = group + 1;
    slots[at + 1] = block;
    slots[at + 2] = value;
    // Two thirds full: probes stay short.
    if (++this.used * 3 > (this.mask + 1) * 2) this.grow();
    return -1;
  }

  /** Calls back for every key, in no order. */
  each(visit: (group: number, block: number, value: number) => void): void {
    const slots = this.slots;
    for (let at = 0; at < slots.length; at += SLOT_WORDS) {
      if (slots[at] !== 0) visit(slots[at]! - 1, slots[at + 1]! >>> 0, slots[at + 2]!);
    }
  }

  private find(group: number, block: number): number {
    const slots = this.slots;
    let hash = Math.imul(group, 0x9e3779b1) ^ Math.imul(block, 0x85ebca6b);
    hash ^= hash >>> 15;
    hash = Math.imul(hash, 0x2c1b3c6d);
    hash ^= hash >>> 13;
    for (let index = hash & this.mask; ; index = (index + 1) & this.mask) {
      const at = index * SLOT_WORDS;
      if (slots[at] === 0 || (slots[at] === group + 1 && slots[at + 1] === block)) return at;
    }
  }

  private grow(): void {
    const old = this.slots;
    const capacity = (this.mask + 1) * 2;
    assert(capacity <= 2 ** 28, "a layer's key table stays within an Int32Array");
    this.slots = new Int32Array(capacity * SLOT_WORDS);
    this.mask = capacity - 1;
    for (let at = 0; at < old.length; at += SLOT_WORDS) {
      if (old[at] === 0) continue;
      const to = this.find(old[at]! - 1, old[at + 1]!);
      this.slots[to] = old[at]!;
      this.slots[to + 1] = old[at + 1]!;
      this.slots[to + 2] = old[at + 2]!;
    }
  }
}
