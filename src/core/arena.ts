// Memory in which WAL records are assembled once, contiguous, and stay: the open layer's versions
// point into it. Chunks are never reused while a layer refers to them; a new layer has a new arena.

import { ARENA_CHUNK_BYTES } from "./limits.ts";

export interface ArenaChunk {
  readonly index: number;
  readonly bytes: Uint8Array;
  readonly view: DataView;
}

export class Arena {
  readonly chunks: ArenaChunk[] = [];
  /** Bytes of all chunks: what the arena costs in memory. */
  capacityBytes = 0;
  chunk: ArenaChunk;
  /** Offset in `chunk` of the next free byte, 8-aligned. */
  used = 0;

  constructor() {
    this.chunk = this.addChunk(ARENA_CHUNK_BYTES);
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

  private addChunk(length: number): ArenaChunk {
    const bytes = new Uint8Array(length);
    const chunk = { index: this.chunks.length, bytes, view: new DataView(bytes.buffer) };
    this.chunks.push(chunk);
    this.capacityBytes += length;
    return chunk;
  }
}
