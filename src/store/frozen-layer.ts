// A frozen layer as it is sealed: its keys in order, each with its versions. It can be made of the layer
// itself or, in another thread, of what the layer hands over: the memory is then the same, and stays as it
// is until the layer is released.

import { assert } from "../core/assert.ts";
import { type Group, KIND, compareGroups } from "../core/key.ts";
import type { Lsn } from "../core/lsn.ts";
import { KeyTable } from "./key-table.ts";
import type { LayerCursor, VersionVisitor } from "./object-store.ts";
import { type EntryParts, VersionEntries } from "./version-entries.ts";
import { VersionOrder } from "./version-order.ts";

/** What a seal needs of a layer. */
export interface SealSource {
  readonly versions: number;
  readonly keyCount: number;
  /** Memory it costs. */
  readonly bytes: number;
  cursor(): LayerCursor;
}

/** A frozen layer for another thread: plain values, and memory that both read. */
export interface FrozenParts {
  readonly bytes: number;
  readonly keyCount: number;
  readonly entries: EntryParts;
  /** Of the table of keys. */
  readonly slots: Int32Array;
  /** Ids of groups in use, and the groups. */
  readonly groups: readonly (readonly [number, Group])[];
}

/** Groups by the ids that keys know them by. */
export interface GroupLookup {
  /** Above every id. */
  readonly size: number;
  group(id: number): Group;
}

/** The layer that was handed over. */
export function frozenLayer({ bytes, keyCount, entries, slots, groups }: FrozenParts): SealSource {
  const versions = VersionEntries.of(entries);
  const byId = new Map(groups);
  const lookup: GroupLookup = {
    size: 1 + groups.reduce((most, [id]) => Math.max(most, id), -1),
    group: (id) => {
      const group = byId.get(id);
      assert(group !== undefined, `group ${id} was not handed over`);
      return group;
    },
  };
  const keys = KeyTable.of(slots, keyCount);
  return {
    ...{ bytes, keyCount },
    versions: versions.count,
    cursor: () => new FrozenCursor(lookup, keys, versions),
  };
}

/** Keys in order: groups by the order of their keys, and the blocks of each sorted. */
export class FrozenCursor implements LayerCursor {
  group: Group;
  block = 0;
  private readonly groups: GroupLookup;
  private readonly keys: KeyTable;
  private readonly entries: VersionEntries;
  // Groups that have keys, in order; their blocks, sorted; and where a group's begin, one more than groups.
  private readonly order: number[] = [];
  private readonly blocks: Uint32Array;
  private readonly begins: Uint32Array;
  private readonly versions: VersionOrder;
  private atGroup = -1;
  private at = 0;
  private end = 0;

  constructor(groups: GroupLookup, keys: KeyTable, entries: VersionEntries) {
    this.groups = groups;
    this.keys = keys;
    this.entries = entries;
    const count = groups.size;
    const begins = new Uint32Array(count + 1);
    keys.each((group) => begins[group + 1]!++);
    for (let id = 0; id < count; id++) {
      if (begins[id + 1]! > 0) this.order.push(id);
      begins[id + 1]! += begins[id]!;
    }
    const next = begins.slice();
    this.blocks = new Uint32Array(keys.size);
    keys.each((group, block) => (this.blocks[next[group]!++] = block));
    this.begins = begins;
    for (const id of this.order) this.blocks.subarray(begins[id]!, begins[id + 1]!).sort();
    this.order.sort((x, y) => compareGroups(groups.group(x), groups.group(y)));
    this.versions = new VersionOrder(entries, keys.size, (show) => {
      for (const id of this.order) {
        for (let i = begins[id]!; i < begins[id + 1]!; i++) show(keys.get(id, this.blocks[i]!));
      }
    });
    this.group = { kind: KIND.PAGE, a: 0, b: 0, c: 0, d: 0 };
  }

  next(): boolean {
    if (this.at === this.end) {
      const id = this.order[++this.atGroup];
      if (id === undefined) {
        this.atGroup = this.order.length;
        return false;
      }
      this.at = this.begins[id]!;
      this.end = this.begins[id + 1]!;
      this.group = this.groups.group(id);
    }
    this.block = this.blocks[this.at++]!;
    return true;
  }

  visit(at: Lsn, visitor: VersionVisitor): boolean {
    const { versions, entries } = this;
    const head = this.keys.get(this.order[this.atGroup]!, this.block);
    const end = versions.end(head);
    for (let place = versions.begin(head); place < end; place++) {
      const entry = versions.entry(place);
      if (entries.lsnOf(entry) <= at && !visitor(entries.version(entry))) return false;
    }
    return true;
  }
}
