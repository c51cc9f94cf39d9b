// The open layer: takes changes in, answers reads at any LSN, and is the source of a sealed layer
// once it is frozen. Versions are 32-byte entries in pages of memory, chained newest to oldest; the
// payload stays where the decoder assembled it. Nothing is allocated for a change.
//
//   entry:  lsn f64 | previous entry i32 | chunk i32 | start i32 | length i32 | type, flags i32 | hole i32

import { Arena, type ArenaChunk, BlockPool } from "../core/arena.ts";
import { assert } from "../core/assert.ts";
import type { ChangeSink } from "../core/change.ts";
import { type Group, type GroupTable, KIND, compareGroups } from "../core/key.ts";
import { LSN_INVALID, LSN_MAX, type Lsn } from "../core/lsn.ts";
import { PAGE_BYTES } from "../core/page.ts";
import { VERSION, type Version, type VersionType } from "../core/version.ts";
import { KeyTable } from "./key-table.ts";
import type {
  CheckReport,
  KeyVisitor,
  Layer,
  LayerCursor,
  VersionVisitor,
} from "./object-store.ts";

const ENTRY_BYTES = 32;
const ENTRY_DOUBLES = ENTRY_BYTES / 8;
const ENTRY_WORDS = ENTRY_BYTES / 4;
const PAGE_SHIFT = 15;
const PAGE_MASK = (1 << PAGE_SHIFT) - 1;
const PREVIOUS = 2;
const CHUNK = 3;
const START = 4;
const LENGTH = 5;
const TYPE = 6;
const HOLE = 7;
const NO_ENTRY = -1;
const NO_BYTES = new Uint8Array(0);

export class MemoryLayer implements Layer, ChangeSink {
  readonly groups: GroupTable;
  readonly arena: Arena;
  firstLsn: Lsn = LSN_MAX;
  lastLsn: Lsn = LSN_INVALID;
  versions = 0;
  private frozen = false;
  private released = false;
  private readonly pool: BlockPool;
  // Operations and values are copied here, not into `arena`: the record that the decoder has
  // assembled there and not committed yet must not be overwritten.
  private copies: Arena | undefined;
  private readonly keys = new KeyTable();
  private readonly words: Int32Array[] = [];
  private readonly doubles: Float64Array[] = [];
  // Chunks by the index entries know them by. A record that began before the last freeze lies in
  // the former arena; its chunk is then kept by this layer as well.
  private readonly chunks: ArenaChunk[] = [];
  private lastChunk: ArenaChunk | undefined;
  private lastChunkIndex = -1;
  private copiesChunk: ArenaChunk | undefined;
  private copiesChunkIndex = -1;
  private foreignBytes = 0;
  // Keys of the kinds that are listed (all but pages), by kind: group id and block, in turn.
  private readonly listed: number[][] = [];
  private readonly version: Version = {
    type: VERSION.RECORD,
    flags: 0,
    lsn: LSN_INVALID,
    holeOffset: 0,
    holeLength: 0,
    bytes: NO_BYTES,
    start: 0,
    length: 0,
  };

  /** `pool`: where its memory comes from, and goes when it is released. */
  constructor(groups: GroupTable, pool = new BlockPool(0)) {
    this.groups = groups;
    this.pool = pool;
    this.arena = new Arena(pool);
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

  /** True when a version of it lies in a chunk of another layer's arena. */
  holds(chunk: ArenaChunk): boolean {
    return this.chunks.includes(chunk);
  }

  /**
   * Gives its memory back, all but chunks that `isKept`: it is sealed, and nobody reads it again.
   */
  release(isKept: (chunk: ArenaChunk) => boolean): void {
    assert(this.frozen && !this.released, "a layer is released once, when it is sealed");
    this.released = true;
    this.arena.release(isKept);
    this.copies?.release(isKept);
    for (const { buffer } of this.words.splice(0)) {
      if (buffer instanceof ArrayBuffer) this.pool.give(buffer);
    }
    this.doubles.length = 0;
    this.chunks.length = 0;
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
    return this.walk(this.keys.get(group, block), at, floor, visitor);
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
    return new MemoryCursor(this.groups, this.keys, (entry, at, visitor) =>
      this.walk(entry, at, LSN_INVALID, visitor),
    );
  }

  check(report: CheckReport): void {
    let versions = 0;
    this.keys.each((group, block, head) => {
      let newer = LSN_MAX;
      this.walk(head, LSN_MAX, LSN_INVALID, (version) => {
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
      this.copiesChunkIndex = this.chunks.push(chunk) - 1;
    }
    this.put(group, block, lsn, type, this.copiesChunkIndex, used, bytes.length, 0);
  }

  private chunkIndex(chunk: ArenaChunk): number {
    let index = this.chunks.lastIndexOf(chunk);
    if (index < 0) {
      index = this.chunks.push(chunk) - 1;
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
    const entry = this.versions;
    const page = entry >>> PAGE_SHIFT;
    if (page === this.words.length) this.addPage();
    const previous = this.keys.replace(group, block, entry);
    if (previous === NO_ENTRY) this.onNewKey(group, block);
    else if (lsn < this.lastLsn) {
      // Rare; it looks at an entry far away, which what is not older than all the layer has need not do.
      assert(this.lsnOf(previous) <= lsn, "I2: versions of a key are put in LSN order");
    }
    const at = entry & PAGE_MASK;
    this.doubles[page]![at * ENTRY_DOUBLES] = lsn;
    const words = this.words[page]!;
    const word = at * ENTRY_WORDS;
    words[word + PREVIOUS] = previous;
    words[word + CHUNK] = chunk;
    words[word + START] = start;
    words[word + LENGTH] = length;
    words[word + TYPE] = typeAndFlags;
    words[word + HOLE] = hole;
    this.versions = entry + 1;
    if (lsn > this.lastLsn) this.lastLsn = lsn as Lsn;
    if (lsn < this.firstLsn) {
      assert(lsn > LSN_INVALID, "I2: a version has an LSN");
      this.firstLsn = lsn as Lsn;
    }
  }

  private lsnOf(entry: number): number {
    return this.doubles[entry >>> PAGE_SHIFT]![(entry & PAGE_MASK) * ENTRY_DOUBLES]!;
  }

  private onNewKey(group: number, block: number): void {
    const { kind } = this.groups.group(group);
    if (kind === KIND.PAGE || kind === KIND.SLRU_PAGE) return;
    (this.listed[kind] ??= []).push(group, block);
  }

  private addPage(): void {
    const memory = this.pool.take();
    assert(memory.byteLength === ENTRY_BYTES << PAGE_SHIFT, "a page of entries is one block");
    this.words.push(new Int32Array(memory));
    this.doubles.push(new Float64Array(memory));
  }

  private walk(from: number, at: Lsn, floor: Lsn, visitor: VersionVisitor): boolean {
    const { version } = this;
    assert(!this.released, "a layer that was released is read");
    for (let entry = from; entry !== NO_ENTRY;) {
      const lsn = this.lsnOf(entry);
      if (lsn <= floor) return true;
      const words = this.words[entry >>> PAGE_SHIFT]!;
      const word = (entry & PAGE_MASK) * ENTRY_WORDS;
      entry = words[word + PREVIOUS]!;
      if (lsn > at) continue;
      version.lsn = lsn as Lsn;
      version.type = (words[word + TYPE]! & 0xff) as VersionType;
      version.flags = words[word + TYPE]! >>> 8;
      version.holeOffset = words[word + HOLE]! >>> 16;
      version.holeLength = words[word + HOLE]! & 0xffff;
      version.start = words[word + START]!;
      version.length = words[word + LENGTH]!;
      version.bytes = version.length === 0 ? NO_BYTES : this.chunks[words[word + CHUNK]!]!.bytes;
      if (!visitor(version)) return false;
    }
    return true;
  }
}

/** Bytes touched: an arena's last chunk costs what is used of it, the rest is not resident. */
const usedBytes = (arena: Arena): number =>
  arena.capacityBytes - (arena.chunk.bytes.length - arena.used);

type WalkFrom = (entry: number, at: Lsn, visitor: VersionVisitor) => boolean;

/** Keys in order: groups by the order of their keys, blocks sorted when their group's turn comes. */
class MemoryCursor implements LayerCursor {
  group: Group;
  block = 0;
  private readonly groups: GroupTable;
  private readonly keys: KeyTable;
  private readonly walk: WalkFrom;
  private readonly order: number[] = [];
  private readonly blocks: Uint32Array;
  // Where in `blocks` a group's begin; one more than groups.
  private readonly begins: Uint32Array;
  private atGroup = -1;
  private at = 0;
  private end = 0;

  constructor(groups: GroupTable, keys: KeyTable, walk: WalkFrom) {
    this.groups = groups;
    this.keys = keys;
    this.walk = walk;
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
    this.order.sort((x, y) => compareGroups(groups.group(x), groups.group(y)));
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
      this.blocks.subarray(this.at, this.end).sort();
      this.group = this.groups.group(id);
    }
    this.block = this.blocks[this.at++]!;
    return true;
  }

  visit(at: Lsn, visitor: VersionVisitor): boolean {
    return this.walk(this.keys.get(this.order[this.atGroup]!, this.block), at, visitor);
  }
}
