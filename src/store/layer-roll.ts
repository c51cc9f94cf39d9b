// The roll of a sealed layer: 64-bit fingerprints of all its keys, in buckets stored beside them. LMDB
// has no checksums: a damaged tree page can hide keys, and an older layer's page would be taken for
// the newest. So a key that the filter lets through and LMDB does not find is looked up here: on the
// roll and not found means corrupt. Read only then (about one lookup in 200 of absent keys).

import type { Group } from "../core/key.ts";
import { ROLL_SEEDS, hashKey } from "./key-hash.ts";

const KEYS_PER_BUCKET = 128;
export const FINGERPRINT_BYTES = 8;
const TWO_32 = 4_294_967_296;

/** Buckets of a layer with so many keys. */
export const rollBuckets = (keys: number): number => Math.max(1, Math.ceil(keys / KEYS_PER_BUCKET));

/** LMDB key of a bucket; sorts behind the header and the filter. */
export function rollKey(bucket: number): Buffer {
  const key = Buffer.from([0xff, 3, 0, 0, 0, 0]);
  key.writeUInt32BE(bucket, 2);
  return key;
}

const bucketOf = (hash: number, buckets: number): number =>
  Math.floor(((hash >>> 0) / TWO_32) * buckets);

/** Gathers the fingerprints of a layer that is being written. */
export class RollBuilder {
  private hashes = new Int32Array(1024);
  private keys = 0;

  add(group: Group, block: number): void {
    if (this.keys * 2 === this.hashes.length) {
      const larger = new Int32Array(this.hashes.length * 2);
      larger.set(this.hashes);
      this.hashes = larger;
    }
    this.hashes[this.keys * 2] = hashKey(ROLL_SEEDS[0], group, block);
    this.hashes[this.keys * 2 + 1] = hashKey(ROLL_SEEDS[1], group, block);
    this.keys++;
  }

  /** The buckets' bytes, in order. */
  buckets(): readonly Buffer[] {
    const count = rollBuckets(this.keys);
    const sizes = new Uint32Array(count);
    for (let i = 0; i < this.keys; i++) sizes[bucketOf(this.hashes[i * 2]!, count)]!++;
    const buckets = Array.from(sizes, (size) => Buffer.alloc(size * FINGERPRINT_BYTES));
    for (let i = 0; i < this.keys; i++) {
      const bucket = bucketOf(this.hashes[i * 2]!, count);
      const at = --sizes[bucket]! * FINGERPRINT_BYTES;
      buckets[bucket]!.writeInt32LE(this.hashes[i * 2]!, at);
      buckets[bucket]!.writeInt32LE(this.hashes[i * 2 + 1]!, at + 4);
    }
    return buckets;
  }
}

/** Which of a layer's buckets has the key, if any has. */
export const rollBucketOf = (group: Group, block: number, keys: number): number =>
  bucketOf(hashKey(ROLL_SEEDS[0], group, block), rollBuckets(keys));

/** True when the key is in its bucket. */
export function onRoll(bucket: Uint8Array, group: Group, block: number): boolean {
  const first = hashKey(ROLL_SEEDS[0], group, block);
  const second = hashKey(ROLL_SEEDS[1], group, block);
  const view = new DataView(bucket.buffer, bucket.byteOffset, bucket.length);
  for (let at = 0; at + FINGERPRINT_BYTES <= bucket.length; at += FINGERPRINT_BYTES) {
    if (view.getInt32(at, true) === first && view.getInt32(at + 4, true) === second) return true;
  }
  return false;
}
