// Memory for answers, used again. Sizes are powers of two; what is kept idle is bounded, what is in
// use is bounded by the connections' windows. A slab may come back only when nobody writes into it
// or reads from it any more: after the socket took the bytes, never before.

const SLAB_BYTES_MIN = 16 * 1024;

export class SlabPool {
  private readonly free = new Map<number, Uint8Array[]>();
  private readonly idleBytesMax: number;
  private idle = 0;

  constructor(idleBytesMax: number) {
    this.idleBytesMax = idleBytesMax;
  }

  /** Bytes kept for reuse. */
  get idleBytes(): number {
    return this.idle;
  }

  /** At least `size` bytes, with any content. */
  take(size: number): Uint8Array {
    let bytes = SLAB_BYTES_MIN;
    while (bytes < size) bytes *= 2;
    const kept = this.free.get(bytes)?.pop();
    if (kept === undefined) return new Uint8Array(bytes);
    this.idle -= bytes;
    return kept;
  }

  /** Takes a slab back; beyond the bound it is left to the garbage collector. */
  give(slab: Uint8Array): void {
    if (this.idle + slab.length > this.idleBytesMax) return;
    this.idle += slab.length;
    const list = this.free.get(slab.length);
    if (list === undefined) this.free.set(slab.length, [slab]);
    else list.push(slab);
  }
}
