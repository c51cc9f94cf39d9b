// Where pages, sizes and directories are read from: the versions of one timeline, and below them those of
// its ancestors up to the branch points. A live timeline is one (timeline-store.ts), its sealed layers as they
// were at some moment another (sealed-view.ts).

import { assert } from "../core/assert.ts";
import type { Group, Kind } from "../core/key.ts";
import { LSN_INVALID, type Lsn } from "../core/lsn.ts";
import { VERSION } from "../core/version.ts";
import type { KeyVisitor, VersionVisitor } from "./object-store.ts";

/** A metadata value and the LSN it is valid from. */
export interface StoredValue {
  readonly value: Uint8Array;
  readonly lsn: Lsn;
}

export interface VersionStore {
  /** No version that is still to come has an LSN at or below this one. */
  readonly newestLsn: Lsn;

  /**
   * Shows the versions of a key with floor < LSN <= at, newest first, the ancestors' included; false
   * when the visitor stopped. The visitor must not read. Throws StoreCorrupt.
   */
  visit(group: Group, block: number, at: Lsn, floor: Lsn, visitor: VersionVisitor): boolean;

  /** The metadata value of a key as of `at`, a copy; undefined when there is none or it has ended. */
  value(group: Group, block: number, at: Lsn): StoredValue | undefined;

  /** Every key of `kind` (a, b) that has some version here or in an ancestor, once, in no order. Whether it lives at an LSN, its value says. */
  scan(kind: Kind, a: number | undefined, b: number | undefined, each: KeyVisitor): void;

  /** True when some key of `kind`, which is not one of pages, has a version here or in an ancestor. */
  hasKind(kind: Kind): boolean;
}

/** VersionStore's `value`, by its `visit`. */
export function valueIn(
  store: Pick<VersionStore, "visit">,
  group: Group,
  block: number,
  at: Lsn,
): StoredValue | undefined {
  let found: StoredValue | undefined;
  store.visit(group, block, at, LSN_INVALID, (version) => {
    if (version.type !== VERSION.TOMBSTONE) {
      assert(version.type === VERSION.VALUE, "I10: a metadata key has values and tombstones");
      const { bytes, start, length, lsn } = version;
      found = { value: bytes.slice(start, start + length), lsn };
    }
    return false;
  });
  return found;
}

/** Keys of one kind that several layers show, each once. */
export function onceEach(each: KeyVisitor): KeyVisitor {
  const seen = new Set<string>();
  return (group, block) => {
    const name = `${group.a}/${group.b}/${group.c}/${group.d}/${block}`;
    if (seen.has(name)) return;
    seen.add(name);
    each(group, block);
  };
}
