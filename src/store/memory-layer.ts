// The open layer: takes changes in, answers reads at any LSN, and is the source of a sealed layer
// once it is frozen. A version is an entry that points to where the decoder assembled its record
// (version-entries.ts). Nothing is allocated for a change.

import { Arena, type ArenaChunk, BlockPool } from "../core/arena.ts";
import { assert } from "../core/assert.ts";
import type { ChangeSink } from "../core/change.ts";
import { type Group, type GroupTable, KIND } from "../core/key.ts";
import { LSN_INVALID, LSN_MAX, type Lsn } from "../core/lsn.ts";
import { PAGE_BYTES } from "../core/page.ts";
import { VERSION, type VersionType } from "../core/version.ts";
import { FrozenCursor, type FrozenParts, type SealSource } from "./frozen-layer.ts";
import { KeyTable } from "./key-table.ts";
import type {
  CheckReport,
  KeyVisitor,
  Layer,
  LayerCursor,
  VersionVisitor,
} from "./object-store.ts";
import { ENTRY_BYTES, NO_ENTRY, VersionEntries } from "./version-entries.ts";

export class MemoryLayer implements Layer, ChangeSink, SealSource {
  readonly groups: GroupTable;
  readonly arena: Arena;
  firstLsn: Lsn = LSN_MAX;
  lastLsn: Lsn = LSN_INVALID;
  private frozen = false;
  private released = false;
  private readonly pool: BlockPool;
  // Operations and values are copied here, not into `arena`: the record that the decoder has
  // assembled there and not committed yet must not be overwritten.
  private copies: Arena | undefined;
  private readonly keys = new KeyTable();
  // A record that began before the last freeze lies in the former arena; its chunk is then kept by this
  // layer's entries as well.
  private readonly entries: VersionEntries;
  private lastChunk: ArenaChunk | undefined;
  private lastChunkIndex = -1;
  private copiesChunk: ArenaChunk | undefined;
  private copiesChunkIndex = -1;
  private foreignBytes = 0;
  // Keys of the kinds that are listed (all but pages), by kind: group id and block, in turn.
  private readonly listed: number[][] = [];

  /** `pool`: where its memory comes from, and goes when it is released. */
  constructor(groups: GroupTable, pool = new BlockPool(0)) {
    this.groups = groups;
    this.pool = pool;
    this.arena = new Arena(pool);
    this.entries = new VersionEntries(pool);
  }

  get versions(): number {
    return this.entries.count;
  }

  /** Memory it costs, in bytes. */
  get bytes(): number {
    const copies = this.copies === undefined ? 0 : usedBytes(this.copies);
    const entries = this.versions * ENTRY_BYTES + this.keys.bytes;
    return usedBytes(this.arena) + copies + entries + this.foreignBytes;
  }

  get keyCount(): number {
    return this.keys.size;
  }

  get isFrozen(): boolean {
    return this.frozen;
  }

  /** Takes no more changes from here on. */
  freeze(): void {
    this.frozen = true;
  }

  /** For another thread that seals it; to be read until it is released. */
  parts(): FrozenParts {
    assert(this.frozen && !this.released, "a layer is handed over when it is frozen");
    const used = new Map<number, Group>();
    let last = -1;
    this.keys.each((id) => {
      if (id !== last) used.set(id, this.groups.group(id));
      last = id;
    });
    return {
      bytes: this.bytes,
      keyCount: this.keyCount,
      entries: this.entries.parts,
      slots: this.keys.memory,
      groups: [...used],
    };
  }

  /** True when a version of it lies in a chunk of another layer's arena. */
  holds(chunk: ArenaChunk): boolean {
    return this.entries.holds(chunk);
  }

  /**
   * Gives its memory back, all but chunks that `isKept`: it is sealed, and nobody reads it again.
   */
  release(isKept: (chunk: ArenaChunk) => boolean): void {
    assert(this.frozen && !this.released, "a layer is released once, when it is sealed");
    this.released = true;
    this.arena.release(isKept);
    this.copies?.release(isKept);
    this.entries.release();
  }

  putRecord(
    group: number,
    block: number,
    lsn: number,
    flags: number,
    chunk: ArenaChunk,
    start: number,
    length: number,
  ): void {
    const index = chunk === this.lastChunk ? this.lastChunkIndex : this.chunkIndex(chunk);
    this.put(group, block, lsn, VERSION.RECORD | (flags << 8), index, start, length, 0);
  }

  putImage(
    group: number,
    block: number,
    lsn: number,
    flags: number,
    chunk: ArenaChunk,
    start: number,
    length: number,
    holeOffset: number,
    holeLength: number,
  ): void {
    const index = chunk === this.lastChunk ? this.lastChunkIndex : this.chunkIndex(chunk);
    const hole = (holeOffset << 16) | holeLength;
    this.put(group, block, lsn, VERSION.IMAGE | (flags << 8), index, start, length, hole);
  }

  putZeroPage(group: number, block: number, lsn: number): void {
    this.put(group, block, lsn, VERSION.IMAGE, 0, 0, 0, PAGE_BYTES);
  }

  putOp(group: number, block: number, lsn: number, op: Uint8Array): void {
    this.putCopy(group, block, lsn, VERSION.OP, op);
  }

  putValue(group: number, block: number, lsn: number, value: Uint8Array): void {
    this.putCopy(group, block, lsn, VERSION.VALUE, value);
  }

  putTombstone(group: number, block: number, lsn: number): void {
    this.put(group, block, lsn, VERSION.TOMBSTONE, 0, 0, 0, 0);
  }

  visit(group: Group, block: number, at: Lsn, floor: Lsn, visitor: VersionVisitor): boolean {
    const id = this.groups.find(group);
    return id < 0 || this.visitId(id, block, at, floor, visitor);
  }

  /** `visit` for whoever knows the group's id. */
  visitId(group: number, block: number, at: Lsn, floor: Lsn, visitor: VersionVisitor): boolean {
    return this.entries.walk(this.keys.get(group, block), at, floor, visitor);
  }

  /** True when some key is of `kind`, which is not one of pages. */
  hasKind(kind: number): boolean {
    return this.listed[kind] !== undefined;
  }

  scan(kind: number, a: number | undefined, b: number | undefined, each: KeyVisitor): void {
    const show = (id: number, block: number): void => {
      const group = this.groups.group(id);
      if (group.kind !== kind) return;
      if ((a === undefined || group.a === a) && (b === undefined || group.b === b)) {
        each(group, block);
      }
    };
    if (kind === KIND.PAGE || kind === KIND.SLRU_PAGE) {
      this.keys.each(show);
      return;
    }
    const listed = this.listed[kind] ?? [];
    for (let i = 0; i < listed.length; i += 2) show(listed[i]!, listed[i + 1]!);
  }

  cursor(): LayerCursor {
    return new FrozenCursor(this.groups, this.keys, this.entries);
  }

  check(report: CheckReport): void {
    let versions = 0;
    this.keys.each((group, block, head) => {
      let newer = LSN_MAX;
      this.entries.walk(head, LSN_MAX, LSN_INVALID, (version) => {
        versions++;
        if (version.lsn > newer) {
          const where = `open layer, group ${group} block ${block}`;
          report("I2", where, `version ${version.lsn} under version ${newer}`);
        }
        newer = version.lsn;
        return true;
      });
    });
    if (versions !== this.versions) {
      report("I2", "open layer", `${versions} versions in chains, ${this.versions} put`);
    }
  }

  private putCopy(
    group: number,
    block: number,
    lsn: number,
    type: VersionType,
    bytes: Uint8Array,
  ): void {
    const arena = (this.copies ??= new Arena(this.pool));
    arena.reserve(bytes.length);
    const { chunk, used } = arena;
    chunk.bytes.set(bytes, used);
    arena.commit(bytes.length);
    if (chunk !== this.copiesChunk) {
      this.copiesChunk = chunk;
      this.copiesChunkIndex = this.entries.addChunk(chunk);
    }
    this.put(group, block, lsn, type, this.copiesChunkIndex, used, bytes.length, 0);
  }

  private chunkIndex(chunk: ArenaChunk): number {
    let index = this.entries.chunkIndex(chunk);
    if (index < 0) {
      index = this.entries.addChunk(chunk);
      if (this.arena.chunks[chunk.index] !== chunk) this.foreignBytes += chunk.bytes.length;
    }
    this.lastChunk = chunk;
    this.lastChunkIndex = index;
    return index;
  }

  private put(
    group: number,
    block: number,
    lsn: number,
    typeAndFlags: number,
    chunk: number,
    start: number,
    length: number,
    hole: number,
  ): void {
    assert(!this.frozen, "I3: a frozen layer takes no changes");
    const { entries } = this;
    const previous = this.keys.replace(group, block, entries.count);
    if (previous === NO_ENTRY) this.onNewKey(group, block);
    else if (lsn < this.lastLsn) {
      // Rare; it looks at an entry far away, which what is not older than all the layer has need not do.
      assert(entries.lsnOf(previous) <= lsn, "I2: versions of a key are put in LSN order");
    }
    entries.append(lsn, previous, typeAndFlags, chunk, start, length, hole);
    if (lsn > this.lastLsn) this.lastLsn = lsn as Lsn;
    if (lsn < this.firstLsn) {
      assert(lsn > LSN_INVALID, "I2: a version has an LSN");
      this.firstLsn = lsn as Lsn;
    }
  }

  private onNewKey(group: number, block: number): void {
    const { kind } = this.groups.group(group);
    if (kind === KIND.PAGE || kind === KIND.SLRU_PAGE) return;
    (this.listed[kind] ??= []).push(group, block);
  }
}

/** Bytes touched: an arena's last chunk costs what is used of it, the rest is not resident. */
const usedBytes = (arena: Arena): number =>
  arena.capacityBytes - (arena.chunk.bytes.length - arena.used);
