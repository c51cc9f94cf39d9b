// Object storage whose objects are encrypted, over any other: what is above need not know. Encrypted is
// everything of a timeline (manifest, layers, WAL), with the key of its tenant. In the clear are the
// mark of the place, probes, the tenant's wrapped key, and tenant.json: it says who may write, has
// ids and times and nothing of the data, and a server must be able to see that it was replaced, and a
// person which master key is asked for, without a key.
//
// It goes above the retries (a write that is tried again has the same bytes) and works without keys
// too: then it writes in the clear, and refuses to touch a tenant that is encrypted.

import { parseTenantId, type TenantId } from "../../core/ids.ts";
import {
  type ByteSource,
  type ListPage,
  ObjectError,
  type ObjectStorage,
  type ObjectVersion,
  type StoredObject,
} from "../../core/object-storage.ts";
import {
  CHUNK_BYTES,
  CHUNK_TAG_BYTES,
  ENCRYPTED_HEADER_BYTES,
  SEALED_CHUNK_BYTES,
  chunkOffset,
  isEncrypted,
  parseHeader,
  plainBytes,
} from "../../protocol/encrypted-object.ts";
import { ObjectCipher } from "./object-cipher.ts";
import type { TenantKeys } from "./tenant-keys.ts";

const OF_TIMELINE = /^tenants\/([0-9a-f]{32})\/timelines\//;
const KEY = /^tenants\/([0-9a-f]{32})\/key\.json$/;

/** The tenant with whose key an object is encrypted; undefined: it is in the clear. */
function ownerOf(name: string): TenantId | undefined {
  const [, tenant] = OF_TIMELINE.exec(name) ?? [];
  return tenant === undefined ? undefined : parseTenantId(tenant);
}

export class EncryptedStorage implements ObjectStorage {
  readonly place: string;
  private readonly below: ObjectStorage;
  private readonly keys: TenantKeys;

  constructor(below: ObjectStorage, keys: TenantKeys) {
    this.place = below.place;
    this.below = below;
    this.keys = keys;
  }

  async put(name: string, bytes: Uint8Array): Promise<ObjectVersion> {
    return this.below.put(name, await this.sealed(name, bytes));
  }

  async putIfAbsent(name: string, bytes: Uint8Array): Promise<ObjectVersion> {
    return this.below.putIfAbsent(name, await this.sealed(name, bytes));
  }

  async compareAndSwap(
    name: string,
    bytes: Uint8Array,
    expected: ObjectVersion,
  ): Promise<ObjectVersion> {
    return this.below.compareAndSwap(name, await this.sealed(name, bytes), expected);
  }

  async putStream(name: string, source: ByteSource): Promise<void> {
    const cipher = await this.cipherFor(name);
    return this.below.putStream(name, cipher === undefined ? source : sealing(cipher, source));
  }

  async get(name: string): Promise<StoredObject> {
    const { bytes, version } = await this.below.get(name);
    const cipher = await this.cipherOf(name, bytes);
    if (cipher === undefined) return { bytes, version };
    const pieces: Buffer[] = [];
    for await (const piece of this.opened(name, cipher, "whole", onePiece(bytes)))
      pieces.push(piece);
    return { bytes: Buffer.concat(pieces), version };
  }

  async getRange(name: string, from: number, length: number): Promise<Uint8Array> {
    const start = await this.below.getRange(name, 0, ENCRYPTED_HEADER_BYTES);
    const cipher = await this.cipherOf(name, start);
    if (cipher === undefined || length === 0) return this.below.getRange(name, from, length);
    const first = Math.floor(from / CHUNK_BYTES);
    const chunks = Math.floor((from + length - 1) / CHUNK_BYTES) - first + 1;
    // One byte more tells whether the last of them is the object's last.
    const wanted = chunks * SEALED_CHUNK_BYTES;
    const stored = await this.below.getRange(name, chunkOffset(first), wanted + 1);
    if (stored.length === 0) return new Uint8Array(0);
    const pieces: Buffer[] = [];
    for (let i = 0; i < chunks && i * SEALED_CHUNK_BYTES < stored.length; i++) {
      const end = Math.min((i + 1) * SEALED_CHUNK_BYTES, wanted);
      const place = end < stored.length ? "inner" : "last";
      const chunk = stored.subarray(i * SEALED_CHUNK_BYTES, end);
      pieces.push(cipher.open(first + i, place, chunk) ?? this.refuse(name));
    }
    const skip = from - first * CHUNK_BYTES;
    return Buffer.concat(pieces).subarray(skip, skip + length);
  }

  async *getStream(name: string, from: number): AsyncIterable<Uint8Array> {
    if (from === 0) {
      yield* this.streamWhole(name);
      return;
    }
    const start = await this.below.getRange(name, 0, ENCRYPTED_HEADER_BYTES);
    const cipher = await this.cipherOf(name, start);
    if (cipher === undefined) {
      yield* this.below.getStream(name, from);
      return;
    }
    const first = Math.floor(from / CHUNK_BYTES);
    let skip = from - first * CHUNK_BYTES;
    const stored = this.below.getStream(name, chunkOffset(first));
    for await (const piece of this.opened(name, cipher, first, stored)) {
      const rest = piece.subarray(skip);
      skip = Math.max(0, skip - piece.length);
      if (rest.length > 0) yield rest;
    }
  }

  async list(prefix: string, after?: string): Promise<ListPage> {
    const page = await this.below.list(prefix, after);
    if (this.keys.masters.newest === undefined) return page;
    // Of an object in the clear that is read nevertheless this is not its size; a list decides nothing.
    const objects = page.objects.map((object) =>
      ownerOf(object.name) === undefined ? object : { ...object, bytes: plainBytes(object.bytes) },
    );
    return { ...page, objects };
  }

  async deleteMany(names: readonly string[]): Promise<void> {
    for (const name of names) {
      const [, tenant] = KEY.exec(name) ?? [];
      if (tenant !== undefined) this.keys.forget(parseTenantId(tenant));
    }
    return this.below.deleteMany(names);
  }

  close(): Promise<void> {
    return this.below.close();
  }

  private async cipherFor(name: string): Promise<ObjectCipher | undefined> {
    const owner = ownerOf(name);
    const key = owner && (await this.keys.forWriting(owner));
    return key && ObjectCipher.fresh(key, name);
  }

  private async sealed(name: string, bytes: Uint8Array): Promise<Uint8Array> {
    return (await this.cipherFor(name))?.sealAll(bytes) ?? bytes;
  }

  /** For an object that begins so; undefined: it is in the clear, and may be. */
  private async cipherOf(name: string, start: Uint8Array): Promise<ObjectCipher | undefined> {
    const owner = ownerOf(name);
    if (owner === undefined) return undefined;
    if (!isEncrypted(start)) {
      if (this.keys.masters.newest === undefined || this.keys.plain === "read") return undefined;
      throw new ObjectError(
        "no-key",
        `${name} in ${this.place} is not encrypted, though a key is given: if it was written before ` +
          `there was one, set backup_plain_objects = true; if not, somebody else wrote it`,
      );
    }
    const header = parseHeader(start) ?? this.refuse(name);
    const key = await this.keys.forReading(owner, header.keyId, name);
    return new ObjectCipher(key, header, name);
  }

  private async *streamWhole(name: string): AsyncGenerator<Uint8Array> {
    const pieces = this.below.getStream(name, 0)[Symbol.asyncIterator]();
    let start: Buffer = Buffer.alloc(0);
    while (start.length < ENCRYPTED_HEADER_BYTES) {
      const { done, value } = await pieces.next();
      if (done === true) break;
      start = start.length === 0 ? viewOf(value) : Buffer.concat([start, value]);
    }
    const cipher = await this.cipherOf(name, start);
    const all = async function* (): AsyncGenerator<Uint8Array> {
      yield start;
      yield* { [Symbol.asyncIterator]: () => pieces };
    };
    yield* cipher === undefined ? all() : this.opened(name, cipher, "whole", all());
  }

  /** Opens chunks from `first` on; `whole`: the header comes before them. Nothing is given unopened. */
  private async *opened(
    name: string,
    cipher: ObjectCipher,
    first: number | "whole",
    stored: AsyncIterable<Uint8Array>,
  ): AsyncGenerator<Buffer> {
    let held: Buffer = Buffer.alloc(0);
    let header = first === "whole" ? ENCRYPTED_HEADER_BYTES : 0;
    let index = first === "whole" ? 0 : first;
    let any = false;
    for await (const piece of stored) {
      any = true;
      held = held.length === 0 ? viewOf(piece) : Buffer.concat([held, piece]);
      if (held.length < header) continue;
      let at = header;
      header = 0;
      for (; held.length - at > SEALED_CHUNK_BYTES; at += SEALED_CHUNK_BYTES) {
        const chunk = held.subarray(at, at + SEALED_CHUNK_BYTES);
        yield cipher.open(index++, "inner", chunk) ?? this.refuse(name);
      }
      held = held.subarray(at);
    }
    if (!any && first !== "whole") return; // from behind the end
    const last = cipher.open(index, "last", held) ?? this.refuse(name);
    if (last.length > 0) yield last;
  }

  private refuse(name: string): never {
    throw new ObjectError(
      "corrupt",
      `${name} in ${this.place} is corrupt: it is cut short, or not what was written under this name; ` +
        `restore it from an older version of it, or let scrub write it again`,
    );
  }
}

/**
 * The source, encrypted. A source that is read again (an upload that is tried again) gives the same
 * bytes, so what was sent already need not be sent again; it throws if the source gives others, which
 * would use a nonce twice.
 */
function sealing(cipher: ObjectCipher, source: ByteSource): ByteSource {
  const tags: Buffer[] = [];
  const seal = (index: number, place: "inner" | "last", plain: Uint8Array): Buffer => {
    const sealed = cipher.seal(index, place, plain);
    const tag = Buffer.concat([
      sealed.subarray(sealed.length - CHUNK_TAG_BYTES),
      Buffer.from([place === "last" ? 1 : 0]),
    ]);
    if (tags[index]?.equals(tag) === false) {
      throw new ObjectError("failed", "what is uploaded changed while it was: upload it anew");
    }
    tags[index] = tag;
    return sealed;
  };
  return async function* () {
    yield cipher.header.bytes;
    let held: Buffer = Buffer.alloc(0);
    let index = 0;
    for await (const piece of source()) {
      held = held.length === 0 ? Buffer.from(piece) : Buffer.concat([held, piece]);
      const chunks: Buffer[] = [];
      let at = 0;
      for (; held.length - at > CHUNK_BYTES; at += CHUNK_BYTES) {
        chunks.push(seal(index++, "inner", held.subarray(at, at + CHUNK_BYTES)));
      }
      held = held.subarray(at);
      if (chunks.length > 0) yield Buffer.concat(chunks);
    }
    yield seal(index, "last", held);
  };
}

async function* onePiece(bytes: Uint8Array): AsyncGenerator<Uint8Array> {
  yield bytes;
}

const viewOf = ({ buffer, byteOffset, length }: Uint8Array): Buffer =>
  Buffer.from(buffer, byteOffset, length);
