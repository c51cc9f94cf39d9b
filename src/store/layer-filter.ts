// "Not in this layer" without a seek: a split-block Bloom filter (as in Apache Parquet) over the
// keys of a sealed layer. A key has one bit in each of the eight words of one 32-byte block. It may
// say "perhaps" wrongly (about 0.5 % of the time), never "no". Kept in memory while the file is open.

import type { Group } from "../core/key.ts";
import { FILTER_SEED, hashKey } from "./key-hash.ts";

const BITS_PER_KEY = 12;
const WORDS = 8;
const TWO_32 = 4_294_967_296;
// Odd multipliers, one a word (Parquet's specification of its Bloom filter).
const SALT = [
  0x47b6137b, 0x44974d91, 0x8824ad5b, 0xa2b7289d, 0x705495c7, 0x2df1424b, 0x9efc4947, 0x5c6bfb31,
];

export class LayerFilter {
  private readonly words: Int32Array;
  private readonly blocks: number;

  private constructor(words: Int32Array) {
    this.words = words;
    this.blocks = words.length / WORDS;
  }

  static forKeys(count: number): LayerFilter {
    const blocks = Math.max(1, Math.ceil((count * BITS_PER_KEY) / (WORDS * 32)));
    return new LayerFilter(new Int32Array(blocks * WORDS));
  }

  /** From what `bytes` gave; undefined when it is no whole number of blocks. */
  static from(bytes: Uint8Array): LayerFilter | undefined {
    if (bytes.length === 0 || bytes.length % (WORDS * 4) !== 0) return undefined;
    // Copied: the source may be unaligned or reused.
    return new LayerFilter(new Int32Array(bytes.slice().buffer));
  }

  bytes(): Uint8Array {
    return new Uint8Array(this.words.buffer);
  }

  add(group: Group, block: number): void {
    const hash = hashKey(FILTER_SEED, group, block);
    const at = this.blockOf(hash);
    for (let i = 0; i < WORDS; i++) this.words[at + i]! |= bit(hash, i);
  }

  /** False: no version of the key is in the layer. */
  mayHold(group: Group, block: number): boolean {
    const hash = hashKey(FILTER_SEED, group, block);
    const at = this.blockOf(hash);
    for (let i = 0; i < WORDS; i++) {
      if ((this.words[at + i]! & bit(hash, i)) === 0) return false;
    }
    return true;
  }

  private blockOf(hash: number): number {
    // Another mix than the bits', or keys of one block would also share their bits.
    const place = Math.imul(hash ^ (hash >>> 16), 0x7feb352d) >>> 0;
    return Math.floor((place / TWO_32) * this.blocks) * WORDS;
  }
}

const bit = (hash: number, word: number): number => 1 << (Math.imul(hash, SALT[word]!) >>> 27);
