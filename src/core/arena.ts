// Memory in which WAL records are assembled once, contiguous, and stay: the open layer's versions
// point into it. It is made of blocks that go back to a pool when their layer is sealed: fresh
// memory for every megabyte of WAL kept the garbage collector busier than taking in the WAL. Blocks of
// a pool are memory that threads can share, so that another one seals what this one still reads.

import { assert } from "./assert.ts";
import { ARENA_CHUNK_BYTES } from "./limits.ts";

/** Blocks of ARENA_CHUNK_BYTES that nobody refers to any more, to be used again with any content. */
export class BlockPool {
  private readonly free: SharedArrayBuffer[] = [];
  private readonly blocksMax: number;

  /**
   * Keeps up to `idleBytesMax`. What is given beyond is left to the garbage collector, which does not
   * count shared memory and so may be late: a pool that is in use all the time keeps all it had.
   */
  constructor(idleBytesMax: number) {
    this.blocksMax = Math.floor(idleBytesMax / ARENA_CHUNK_BYTES);
  }

  get idleBytes(): number {
    return this.free.length * ARENA_CHUNK_BYTES;
  }

  take(): SharedArrayBuffer {
    return this.free.pop() ?? new SharedArrayBuffer(ARENA_CHUNK_BYTES);
  }

  /** Takes a block back. The caller promises that no one reads from it or writes to it again. */
  give(block: SharedArrayBuffer): void {
    assert(block.byteLength === ARENA_CHUNK_BYTES, "a pool takes whole blocks");
    if (this.free.length < this.blocksMax) this.free.push(block);
  }
}

export interface ArenaChunk {
  readonly index: number;
  readonly bytes: Uint8Array;
  readonly view: DataView;
}

/** Of an arena that nothing was put into: idle timelines are many. */
const NO_CHUNK: ArenaChunk = {
  index: -1,
  bytes: new Uint8Array(0),
  view: new DataView(new ArrayBuffer(0)),
};

export class Arena {
  readonly chunks: ArenaChunk[] = [];
  /** Bytes of all chunks: what the arena costs in memory. */
  capacityBytes = 0;
  chunk: ArenaChunk;
  /** Offset in `chunk` of the next free byte, 8-aligned. */
  used = 0;
  private readonly pool: BlockPool | undefined;

  constructor(pool?: BlockPool) {
    this.pool = pool;
    this.chunk = NO_CHUNK;
  }

  /** Makes `length` contiguous bytes free at `chunk`/`used`. Nothing is taken until `commit`. */
  reserve(length: number): void {
    if (this.chunk.bytes.length - this.used >= length) return;
    this.chunk = this.addChunk(Math.max(length, ARENA_CHUNK_BYTES));
    this.used = 0;
  }

  /** Takes `length` bytes at `used`; without this call the next record overwrites them. */
  commit(length: number): void {
    this.used = Math.min((this.used + length + 7) & ~7, this.chunk.bytes.length);
  }

  /** Gives its blocks back, all but chunks that `isKept`; nothing of it may be used again. */
  release(isKept: (chunk: ArenaChunk) => boolean): void {
    for (const chunk of this.chunks.splice(0)) {
      const { buffer } = chunk.bytes;
      if (isKept(chunk) || !(buffer instanceof SharedArrayBuffer)) continue;
      if (buffer.byteLength === ARENA_CHUNK_BYTES) this.pool?.give(buffer);
    }
  }

  private addChunk(length: number): ArenaChunk {
    const block =
      length === ARENA_CHUNK_BYTES && this.pool !== undefined
        ? this.pool.take()
        : new ArrayBuffer(length);
    const bytes = new Uint8Array(block);
    const chunk = { index: this.chunks.length, bytes, view: new DataView(block) };
    this.chunks.push(chunk);
    this.capacityBytes += length;
    return chunk;
  }
}
