// The bytes of an encrypted object: a header, then chunks that are encrypted one by one, so that a
// large object streams and a part of it can be read. io/objects/object-cipher.ts does the encrypting.
//
//   header: "PSCRYPT1" | key id:8 | salt:32 | nonce prefix:7 | zeros:9                     64 bytes
//   chunk:  64 KiB of the object (the last: 0 to 64 KiB), encrypted | tag:16
//   nonce:  nonce prefix:7 | index of the chunk:4 BE | 1 if it is the last:1               12 bytes
//
// An object has a key of its own, derived from the tenant's and the salt, so a nonce is used once. The
// index and the mark of the last chunk are in the nonce: chunks that are left out, changed places or
// came from elsewhere do not open.

import { assert } from "../core/assert.ts";

const MAGIC = new TextEncoder().encode("PSCRYPT1");
export const ENCRYPTED_HEADER_BYTES = 64;
export const CHUNK_BYTES = 64 * 1024;
export const CHUNK_TAG_BYTES = 16;
/** A chunk as it is stored. */
export const SEALED_CHUNK_BYTES = CHUNK_BYTES + CHUNK_TAG_BYTES;
export const KEY_ID_BYTES = 8;
export const SALT_BYTES = 32;
export const NONCE_PREFIX_BYTES = 7;
const NONCE_BYTES = 12;
/** The index has four bytes. */
const CHUNKS_MAX = 2 ** 32;

export interface EncryptedHeader {
  /** Which key of the tenant: hex. */
  readonly keyId: string;
  readonly salt: Uint8Array;
  readonly noncePrefix: Uint8Array;
  /** The header as it is stored; part of what each chunk is authenticated with. */
  readonly bytes: Uint8Array;
}

export function encodeHeader(
  keyId: string,
  salt: Uint8Array,
  noncePrefix: Uint8Array,
): EncryptedHeader {
  assert(keyId.length === 2 * KEY_ID_BYTES && salt.length === SALT_BYTES, "a header's parts");
  assert(noncePrefix.length === NONCE_PREFIX_BYTES, "a nonce's prefix");
  const bytes = new Uint8Array(ENCRYPTED_HEADER_BYTES);
  bytes.set(MAGIC);
  for (let i = 0; i < KEY_ID_BYTES; i++) {
    bytes[MAGIC.length + i] = parseInt(keyId.slice(2 * i, 2 * i + 2), 16);
  }
  bytes.set(salt, MAGIC.length + KEY_ID_BYTES);
  bytes.set(noncePrefix, MAGIC.length + KEY_ID_BYTES + SALT_BYTES);
  return { keyId, salt, noncePrefix, bytes };
}

/** True when an object that begins so is an encrypted one. */
export const isEncrypted = (start: Uint8Array): boolean =>
  start.length >= MAGIC.length && MAGIC.every((byte, i) => start[i] === byte);

/** Undefined: it is not one. */
export function parseHeader(start: Uint8Array): EncryptedHeader | undefined {
  if (start.length < ENCRYPTED_HEADER_BYTES || !isEncrypted(start)) return undefined;
  const bytes = start.slice(0, ENCRYPTED_HEADER_BYTES);
  const at = MAGIC.length + KEY_ID_BYTES;
  const id = bytes.subarray(MAGIC.length, at);
  return {
    keyId: [...id].map((byte) => byte.toString(16).padStart(2, "0")).join(""),
    salt: bytes.subarray(at, at + SALT_BYTES),
    noncePrefix: bytes.subarray(at + SALT_BYTES, at + SALT_BYTES + NONCE_PREFIX_BYTES),
    bytes,
  };
}

export function chunkNonce(prefix: Uint8Array, index: number, place: ChunkPlace): Uint8Array {
  assert(index < CHUNKS_MAX, "an object's chunks can be numbered");
  const nonce = new Uint8Array(NONCE_BYTES);
  nonce.set(prefix);
  new DataView(nonce.buffer).setUint32(NONCE_PREFIX_BYTES, index);
  nonce[NONCE_BYTES - 1] = place === "last" ? 1 : 0;
  return nonce;
}

export type ChunkPlace = "inner" | "last";

/** Where a chunk begins in the stored object. */
export const chunkOffset = (index: number): number =>
  ENCRYPTED_HEADER_BYTES + index * SEALED_CHUNK_BYTES;

/** Bytes of the object that is stored in so many bytes. */
export function plainBytes(stored: number): number {
  const sealed = stored - ENCRYPTED_HEADER_BYTES;
  const chunks = Math.ceil(sealed / SEALED_CHUNK_BYTES);
  return Math.max(0, sealed - chunks * CHUNK_TAG_BYTES);
}
