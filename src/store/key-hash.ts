// A 32-bit hash of a version key under a seed, for the filter and the roll of a sealed layer. Part of
// the file format: every step must stay as it is. (MurmurHash3, 32 bit; public domain.)

import type { Group } from "../core/key.ts";

export const FILTER_SEED = 0x9747b28c;
export const ROLL_SEEDS = [0x3c6ef372, 0x510e527f] as const;

export function hashKey(seed: number, group: Group, block: number): number {
  let hash = mix(seed ^ group.kind, group.a);
  hash = mix(hash, group.b);
  hash = mix(hash, group.c);
  hash = mix(hash, group.d);
  hash = mix(hash, block);
  hash ^= hash >>> 16;
  hash = Math.imul(hash, 0x85ebca6b);
  hash ^= hash >>> 13;
  hash = Math.imul(hash, 0xc2b2ae35);
  return hash ^ (hash >>> 16);
}

function mix(hash: number, word: number): number {
  let k = Math.imul(word, 0xcc9e2d51);
  k = (k << 15) | (k >>> 17);
  let h = hash ^ Math.imul(k, 0x1b873593);
  h = (h << 13) | (h >>> 19);
  return (Math.imul(h, 5) + 0xe6546b64) | 0;
}
