// Encrypts and opens the chunks of one object: AES-256-GCM with a key that is derived (HKDF-SHA-256)
// from the tenant's data key, the object's salt and its full name. So bytes that are put under another
// name, of another tenant or timeline, do not open. The format: protocol/encrypted-object.ts.

import { createCipheriv, createDecipheriv, hkdfSync, randomBytes } from "node:crypto";
import {
  CHUNK_BYTES,
  CHUNK_TAG_BYTES,
  type ChunkPlace,
  type EncryptedHeader,
  NONCE_PREFIX_BYTES,
  SALT_BYTES,
  chunkNonce,
  encodeHeader,
} from "../../protocol/encrypted-object.ts";

const ALGORITHM = "aes-256-gcm";
export const KEY_BYTES = 32;

/** A tenant's key, in the open. */
export interface DataKey {
  /** 16 hex characters. */
  readonly id: string;
  readonly bytes: Uint8Array;
}

export class ObjectCipher {
  readonly header: EncryptedHeader;
  private readonly key: Buffer;
  private readonly aad: Buffer;

  constructor(key: DataKey, header: EncryptedHeader, name: string) {
    this.header = header;
    const info = `pageserver object 1\n${name}`;
    this.key = Buffer.from(hkdfSync("sha256", key.bytes, header.salt, info, KEY_BYTES));
    this.aad = Buffer.concat([header.bytes, Buffer.from(name)]);
  }

  /** For an object that is to be written: salt and nonces are new. */
  static fresh(key: DataKey, name: string): ObjectCipher {
    const header = encodeHeader(key.id, randomBytes(SALT_BYTES), randomBytes(NONCE_PREFIX_BYTES));
    return new ObjectCipher(key, header, name);
  }

  seal(index: number, place: ChunkPlace, plain: Uint8Array): Buffer {
    const nonce = chunkNonce(this.header.noncePrefix, index, place);
    const cipher = createCipheriv(ALGORITHM, this.key, nonce);
    cipher.setAAD(this.aad);
    return Buffer.concat([cipher.update(plain), cipher.final(), cipher.getAuthTag()]);
  }

  /** Undefined: it is not what was written as this chunk of this object. */
  open(index: number, place: ChunkPlace, stored: Uint8Array): Buffer | undefined {
    if (stored.length < CHUNK_TAG_BYTES) return undefined;
    const nonce = chunkNonce(this.header.noncePrefix, index, place);
    const decipher = createDecipheriv(ALGORITHM, this.key, nonce);
    const end = stored.length - CHUNK_TAG_BYTES;
    decipher.setAAD(this.aad).setAuthTag(stored.subarray(end));
    try {
      return Buffer.concat([decipher.update(stored.subarray(0, end)), decipher.final()]);
    } catch {
      return undefined;
    }
  }

  /** A whole object. */
  sealAll(plain: Uint8Array): Buffer {
    const pieces: Uint8Array[] = [this.header.bytes];
    for (let at = 0, index = 0; ; at += CHUNK_BYTES, index++) {
      const place = at + CHUNK_BYTES >= plain.length ? "last" : "inner";
      pieces.push(this.seal(index, place, plain.subarray(at, at + CHUNK_BYTES)));
      if (place === "last") return Buffer.concat(pieces);
    }
  }
}
