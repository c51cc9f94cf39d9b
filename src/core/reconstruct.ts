// From versions to a page or value. A chain is collected newest to oldest until something needs
// nothing older; what came of it is then one of a few outcomes. One Chain object serves read after
// read: nothing is allocated unless redo is needed.
//
// What holds: a chain never contains a version above the LSN it is read at; a page's versions are
// either images and native operations, or images and WAL records, never all three.

import { assert } from "./assert.ts";
import { LSN_INVALID, Lsn } from "./lsn.ts";
import { PAGE_BYTES } from "./page.ts";
import { applyOp } from "./page-op.ts";
import { RedoRecords } from "./redo-request.ts";
import { VERSION, VERSION_FLAG, type Version, endsChain } from "./version.ts";

/** Writes the page of an IMAGE version to out[start, start + 8192): decompressed, hole filled with zeros, LSN stamped if asked. Throws MalformedInput. */
export type RestoreImage = (version: Version, out: Uint8Array, start: number) => void;

export type ChainOutcome =
  /** No version at all. */
  | { readonly kind: "none" }
  /** The page that was passed to begin() is complete. */
  | { readonly kind: "page" }
  /** `base` is the page that was passed to begin(), or undefined if the first record initialises it. */
  | {
      readonly kind: "redo";
      readonly base: Uint8Array | undefined;
      /**
       * Oldest first, in memory of their own. One list for each key the chain went through: the last
       * is the page's own, those before it belong to databases it was copied from (may be empty).
       */
      readonly steps: readonly RedoRecords[];
    }
  | { readonly kind: "value"; readonly value: Uint8Array; readonly lsn: Lsn }
  | { readonly kind: "tombstone"; readonly lsn: Lsn }
  /** The versions do not add up. */
  | { readonly kind: "corrupt"; readonly reason: string };

const NONE: ChainOutcome = { kind: "none" };
const PAGE: ChainOutcome = { kind: "page" };
const NO_PAGE = new Uint8Array(0);
const COMPRESSED = VERSION_FLAG.PGLZ | VERSION_FLAG.LZ4 | VERSION_FLAG.ZSTD;
const SCRATCH_BYTES = 64 * 1024;

export class Chain {
  /** LSN of the newest version offered; 0: there was none. */
  newestLsn: Lsn = LSN_INVALID;
  /** The page is an image as it was stored: a copy made it, and nothing else. */
  isPlain = false;
  private readonly restoreImage: RestoreImage;
  // Where the page is written to.
  private out: Uint8Array = NO_PAGE;
  private start = 0;
  private at = LSN_INVALID;
  private ended = false;
  /** Type and LSN of the version that ended the chain. */
  private endType = 0;
  private endLsn = LSN_INVALID;
  private value: Uint8Array = NO_PAGE;
  private opCount = 0;
  private recordCount = 0;
  // Pending operations or records, newest first: LSN, offset in scratch (one more than there are), key.
  private readonly lsns: number[] = [];
  private readonly offsets: number[] = [0];
  private readonly steps: number[] = [];
  private step = 0;
  private count = 0;
  // None until something is collected: readers are many, and most are idle. What lies before `given`
  // belongs to redo requests that were given out: memory of its own for each cost more than all else.
  private scratch: Uint8Array = NO_PAGE;
  private given = 0;

  constructor(restoreImage: RestoreImage) {
    this.restoreImage = restoreImage;
  }

  /** Begins a read at `at`. out[start, start + 8192): where an image is written to at once; not needed for values. */
  begin(at: Lsn, out: Uint8Array = NO_PAGE, start = 0): void {
    this.out = out;
    this.start = start;
    this.newestLsn = LSN_INVALID;
    this.isPlain = false;
    this.at = at;
    this.ended = false;
    this.endType = 0;
    this.value = NO_PAGE;
    this.opCount = this.recordCount = this.count = this.step = 0;
    this.offsets[0] = this.given;
  }

  /** The versions from here on are those of the page's origin in the database it was copied from, at `at`. */
  enterSource(at: Lsn): void {
    assert(!this.ended, "a chain that ended goes on");
    this.at = at;
    this.step++;
  }

  /** Takes the next older version. True: an older one is needed; false: outcome() is ready. Throws what restoreImage throws. */
  offer(version: Version): boolean {
    assert(!this.ended, "a chain that ended goes on");
    assert(version.lsn <= this.at, "I7: a read never sees the future");
    if (this.newestLsn === LSN_INVALID) this.newestLsn = version.lsn;
    if (version.type === VERSION.OP) this.opCount++;
    if (version.type === VERSION.RECORD) this.recordCount++;
    if (version.type === VERSION.OP || version.type === VERSION.RECORD) this.collect(version);
    if (!endsChain(version.type, version.flags)) return true;
    this.ended = true;
    this.endType = version.type;
    this.endLsn = version.lsn;
    if (version.type === VERSION.IMAGE) {
      this.isPlain = this.count === 0 && (version.flags & COMPRESSED) === 0;
      this.restoreImage(version, this.out, this.start);
    }
    if (version.type === VERSION.VALUE) {
      this.value = version.bytes.slice(version.start, version.start + version.length);
    }
    return false;
  }

  /** What the versions offered amount to. Valid until the next begin(), except for `redo`'s records, which stay. */
  outcome(): ChainOutcome {
    const { count, endType } = this;
    if (!this.ended) {
      if (count === 0) return NONE;
      return { kind: "corrupt", reason: `${count} changes and no page that they begin with` };
    }
    if (endType === VERSION.VALUE || endType === VERSION.TOMBSTONE) {
      if (count > 0) return { kind: "corrupt", reason: "page changes over a metadata value" };
      if (endType === VERSION.TOMBSTONE) return { kind: "tombstone", lsn: this.endLsn };
      return { kind: "value", value: this.value, lsn: this.endLsn };
    }
    if (this.recordCount > 0) {
      if (this.opCount === 0) return this.redo();
      return { kind: "corrupt", reason: "native operations and WAL records on one page" };
    }
    for (let i = count - 1; i >= 0; i--) {
      const start = this.offsets[i]!;
      applyOp(this.scratch, start, this.offsets[i + 1]! - start, this.page(), this.lsns[i]!);
    }
    return PAGE;
  }

  private page(): Uint8Array {
    return this.out.subarray(this.start, this.start + PAGE_BYTES);
  }

  private collect(version: Version): void {
    if (this.offsets[this.count]! + version.length > this.scratch.length) this.grow(version.length);
    const start = this.offsets[this.count]!;
    const end = start + version.length;
    copy(version.bytes, version.start, version.length, this.scratch, start);
    this.lsns[this.count] = version.lsn;
    this.steps[this.count] = this.step;
    this.offsets[++this.count] = end;
  }

  /** New memory for what this read has collected and `more` bytes: twice that, or the usual size. */
  private grow(more: number): void {
    const { given, offsets, count } = this;
    const have = offsets[count]! - given;
    const larger = new Uint8Array(Math.max((have + more) * 2, SCRATCH_BYTES));
    larger.set(this.scratch.subarray(given, given + have));
    for (let i = 0; i <= count; i++) offsets[i]! -= given;
    this.scratch = larger;
    this.given = 0;
  }

  private redo(): ChainOutcome {
    const { count, step, scratch, lsns, offsets } = this;
    const steps: RedoRecords[] = [];
    let i = count - 1;
    for (let s = step; s >= 0; s--) {
      const index: number[] = [];
      for (; i >= 0 && this.steps[i] === s; i--) index.push(lsns[i]!, offsets[i]!, offsets[i + 1]!);
      steps.push(new RedoRecords(scratch, index));
    }
    // The request outlives this chain's next read, which collects behind it.
    this.given = offsets[count]!;
    const base = this.endType === VERSION.IMAGE ? this.page() : undefined;
    return { kind: "redo", base, steps };
  }
}

// subarray() allocates a view, which costs more than copying a few bytes one by one.
function copy(
  from: Uint8Array,
  start: number,
  length: number,
  to: Uint8Array,
  target: number,
): void {
  if (length > 64) to.set(from.subarray(start, start + length), target);
  else for (let i = 0; i < length; i++) to[target + i] = from[start + i]!;
}
