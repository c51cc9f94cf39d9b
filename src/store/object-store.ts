// What a layer is to its readers and writers. A layer holds versions of keys of one timeline. Two
// implementations, one law (test/store/conformance.ts): MemoryLayer takes changes in, LmdbLayer is
// a sealed file. Whoever merges layers reads cursors and feeds a LayerWriter.

import type { Group } from "../core/key.ts";
import type { Lsn } from "../core/lsn.ts";
import type { Version } from "../core/version.ts";

/**
 * Sees versions newest to oldest; false stops the walk. The version object is reused and its bytes
 * are valid only until the visitor returns. It must not read from any layer itself.
 */
export type VersionVisitor = (version: Version) => boolean;

/** Keys of one kind, in key order or not (see `scan`). The group object may be kept. */
export type KeyVisitor = (group: Group, block: number) => void;

export interface Layer {
  /** Lowest and highest LSN of a version inside; LSN_MAX and 0 when there is none. */
  readonly firstLsn: Lsn;
  readonly lastLsn: Lsn;
  /** Versions inside. */
  readonly versions: number;

  /**
   * Shows the visitor the versions of a key with floor < LSN <= at, newest first; versions of one LSN in
   * reverse of the order in which they were put. False when the visitor stopped. Throws StoreCorrupt.
   */
  visit(group: Group, block: number, at: Lsn, floor: Lsn, visitor: VersionVisitor): boolean;

  /** Every key of `kind` (with these a and b where given) that has a version, each once, in no order. */
  scan(kind: number, a: number | undefined, b: number | undefined, each: KeyVisitor): void;

  /** All keys in key order, for sealing and merging. */
  cursor(): LayerCursor;

  /** Reports every invariant of docs/invariants.md that does not hold inside the layer. */
  check(report: CheckReport): void;
}

/** Goes through a layer's keys in key order. */
export interface LayerCursor {
  readonly group: Group;
  readonly block: number;
  /** Moves to the first or next key; false at the end. */
  next(): boolean;
  /** Versions of the current key with LSN <= at, newest first; false when the visitor stopped. */
  visit(at: Lsn, visitor: VersionVisitor): boolean;
}

/** Told of a broken invariant: its number, where, and what was found. */
export type CheckReport = (invariant: string, where: string, found: string) => void;
