// The entries of a frozen layer in the order in which a seal visits them: keys in key order, each key's
// versions newest first. A chain knows where its next entry is only when the one before it has come from
// memory, and a layer is far larger than any cache; with the order known, entries and payloads ahead are
// asked for together and their ways overlap. Costs four bytes an entry twice, while the layer is sealed.

import { NO_ENTRY, type VersionEntries } from "./version-entries.ts";

/** Versions that are brought near at a time: their entries and payloads fit in a core's first cache. */
const NEAR_VERSIONS = 64;

export class VersionOrder {
  private readonly entries: VersionEntries;
  /** Entries, key after key. */
  private readonly order: Int32Array;
  // Where in `order` a key's versions begin, by the number of the key; keys are numbered as they first
  // appear, and of every entry `numbers` has its key's.
  private readonly begins: Uint32Array;
  private readonly counts: Uint32Array;
  private readonly numbers: Int32Array;
  private near = 0;

  /** `keyCount` keys; `eachHead` shows the newest entry of every key, in key order. */
  constructor(
    entries: VersionEntries,
    keyCount: number,
    eachHead: (show: (head: number) => void) => void,
  ) {
    this.entries = entries;
    const { count } = entries;
    this.numbers = new Int32Array(count);
    this.begins = new Uint32Array(keyCount);
    this.counts = new Uint32Array(keyCount);
    const { numbers, begins, counts } = this;
    let keys = 0;
    for (let entry = 0; entry < count; entry++) {
      const previous = entries.previousOf(entry);
      const number = previous === NO_ENTRY ? keys++ : numbers[previous]!;
      numbers[entry] = number;
      counts[number]!++;
    }
    let end = 0;
    eachHead((head) => {
      const number = numbers[head]!;
      begins[number] = end;
      end += counts[number]!;
    });
    const next = begins.slice();
    this.order = new Int32Array(count);
    for (let entry = count - 1; entry >= 0; entry--) {
      this.order[next[numbers[entry]!]!++] = entry;
    }
  }

  /** Where the versions of the key whose newest entry is `head` begin. */
  begin(head: number): number {
    return this.begins[this.numbers[head]!]!;
  }

  /** One past the last of them. */
  end(head: number): number {
    const number = this.numbers[head]!;
    return this.begins[number]! + this.counts[number]!;
  }

  /** The entry at a place; places are asked for in order, or again. */
  entry(place: number): number {
    if (place >= this.near) this.bringNear(place);
    return this.order[place]!;
  }

  private bringNear(from: number): void {
    this.near = Math.min(from + NEAR_VERSIONS, this.order.length);
    this.entries.bringNear(this.order, from, this.near);
  }
}
