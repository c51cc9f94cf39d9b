// Unsigned numbers up to 2^53 in as few bytes as they need: seven bits a byte, lowest first, the
// eighth bit says that more follow.

import { MalformedInput } from "./assert.ts";

/** Longest encoding, bytes. */
export const VARINT_BYTES_MAX = 8;

/** Writes `value` at `at`; gives the offset after it. The caller has made sure of the room. */
export function writeVarint(bytes: Uint8Array, at: number, value: number): number {
  while (value >= 128) {
    bytes[at++] = (value % 128) | 128;
    value = Math.floor(value / 128);
  }
  bytes[at++] = value;
  return at;
}

/** Reads numbers one after the other. Throws MalformedInput when the bytes end within one. */
export class VarintReader {
  private readonly bytes: Uint8Array;
  private at = 0;

  constructor(bytes: Uint8Array) {
    this.bytes = bytes;
  }

  get done(): boolean {
    return this.at >= this.bytes.length;
  }

  next(): number {
    let value = 0;
    for (let scale = 1, i = 0; i < VARINT_BYTES_MAX; scale *= 128, i++) {
      const byte = this.bytes[this.at++];
      if (byte === undefined) break;
      value += (byte & 127) * scale;
      if (byte < 128) return value;
    }
    throw new MalformedInput("a number does not end where its bytes do");
  }
}
