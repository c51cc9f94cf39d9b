// CRC-32C (Castagnoli), PostgreSQL's checksum of WAL records, pg_control and state files
// (port/pg_crc32c.h). Short data in JavaScript by eight table look-ups a step, long data in
// @node-rs/crc32: the call costs as much as some 200 bytes of work.
//
// A *finished* value is what is stored. A finished value of some bytes continues over the next
// ones (`previous`), which is also what @node-rs/crc32 takes as its second argument.

import { crc32c as nativeCrc32c } from "@node-rs/crc32";

/** Bytes from which the native function is faster than the tables. */
export const NATIVE_CRC_BYTES_MIN = 256;

const POLYNOMIAL = 0x82f63b78;

function makeTables(): readonly Int32Array[] {
  const tables = Array.from({ length: 8 }, () => new Int32Array(256));
  for (let i = 0; i < 256; i++) {
    let c = i;
    for (let k = 0; k < 8; k++) c = (c & 1) !== 0 ? (c >>> 1) ^ POLYNOMIAL : c >>> 1;
    tables[0]![i] = c;
  }
  for (let i = 0; i < 256; i++) {
    let c = tables[0]![i]!;
    for (let k = 1; k < 8; k++) {
      c = tables[0]![c & 255]! ^ (c >>> 8);
      tables[k]![i] = c;
    }
  }
  return tables;
}

const TABLES = makeTables();
const T0 = TABLES[0]!;
const T1 = TABLES[1]!;
const T2 = TABLES[2]!;
const T3 = TABLES[3]!;
const T4 = TABLES[4]!;
const T5 = TABLES[5]!;
const T6 = TABLES[6]!;
const T7 = TABLES[7]!;

/**
 * CRC-32C of bytes[from, to), finished, as an unsigned 32-bit number. `previous` is the finished
 * value of the bytes before them; 0 begins.
 */
export function crc32c(bytes: Uint8Array, from = 0, to = bytes.length, previous = 0): number {
  if (to - from >= NATIVE_CRC_BYTES_MIN) return nativeCrc32c(bytes.subarray(from, to), previous);
  let state = ~previous;
  let at = from;
  for (; to - at >= 8; at += 8) {
    state ^= bytes[at]! | (bytes[at + 1]! << 8) | (bytes[at + 2]! << 16) | (bytes[at + 3]! << 24);
    state =
      T7[state & 255]! ^
      T6[(state >>> 8) & 255]! ^
      T5[(state >>> 16) & 255]! ^
      T4[state >>> 24]! ^
      T3[bytes[at + 4]!]! ^
      T2[bytes[at + 5]!]! ^
      T1[bytes[at + 6]!]! ^
      T0[bytes[at + 7]!]!;
  }
  for (; at < to; at++) state = T0[(state ^ bytes[at]!) & 255]! ^ (state >>> 8);
  return ~state >>> 0;
}

/**
 * Copies [from, to) of one view to `target` in another and gives the CRC of the bytes: one pass
 * instead of two for the short records that WAL mostly consists of.
 */
export function copyWithCrc32c(
  source: DataView,
  from: number,
  to: number,
  destination: DataView,
  target: number,
  previous: number,
): number {
  let state = ~previous;
  let at = from;
  let put = target;
  for (; to - at >= 8; at += 8, put += 8) {
    const low = source.getInt32(at, true);
    const high = source.getInt32(at + 4, true);
    destination.setInt32(put, low, true);
    destination.setInt32(put + 4, high, true);
    state ^= low;
    state =
      T7[state & 255]! ^
      T6[(state >>> 8) & 255]! ^
      T5[(state >>> 16) & 255]! ^
      T4[state >>> 24]! ^
      T3[high & 255]! ^
      T2[(high >>> 8) & 255]! ^
      T1[(high >>> 16) & 255]! ^
      T0[high >>> 24]!;
  }
  for (; at < to; at++, put++) {
    const byte = source.getUint8(at);
    destination.setUint8(put, byte);
    state = T0[(state ^ byte) & 255]! ^ (state >>> 8);
  }
  return ~state >>> 0;
}
