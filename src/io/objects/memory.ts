// Object storage in this process's memory: for tests and simulations, and gone with the process.

import { OBJECT_BYTES_MAX, OBJECT_LIST_MAX } from "../../core/limits.ts";
import {
  type ByteSource,
  type ListPage,
  ObjectError,
  type ObjectStorage,
  type ObjectVersion,
  type StoredObject,
  checkObjectName,
} from "../../core/object-storage.ts";

const PIECE_BYTES = 64 * 1024;

interface Kept extends StoredObject {
  readonly modifiedMs: number;
}

export class MemoryStorage implements ObjectStorage {
  readonly place = "memory";
  private readonly objects = new Map<string, Kept>();
  private readonly nowMs: () => number;
  private writes = 0;

  constructor(nowMs: () => number = () => 0) {
    this.nowMs = nowMs;
  }

  /** The same objects, with a life of their own. */
  fork(): MemoryStorage {
    const copy = new MemoryStorage(this.nowMs);
    for (const [name, kept] of this.objects) copy.objects.set(name, kept);
    copy.writes = this.writes;
    return copy;
  }

  /** Names of all objects, in order. */
  get names(): readonly string[] {
    return [...this.objects.keys()].sort();
  }

  async put(name: string, bytes: Uint8Array): Promise<ObjectVersion> {
    checkObjectName(name);
    const version = `${++this.writes}` as ObjectVersion;
    this.objects.set(name, { bytes: Uint8Array.from(bytes), version, modifiedMs: this.nowMs() });
    return version;
  }

  async putIfAbsent(name: string, bytes: Uint8Array): Promise<ObjectVersion> {
    if (this.objects.has(name)) throw new ObjectError("exists", `${name} exists already`);
    return this.put(name, bytes);
  }

  async compareAndSwap(
    name: string,
    bytes: Uint8Array,
    expected: ObjectVersion,
  ): Promise<ObjectVersion> {
    if (this.objects.get(name)?.version !== expected) {
      throw new ObjectError("changed", `${name} was changed by someone else`);
    }
    return this.put(name, bytes);
  }

  async putStream(name: string, source: ByteSource): Promise<void> {
    const pieces: Uint8Array[] = [];
    for await (const piece of source()) pieces.push(Uint8Array.from(piece)); // a Buffer's slice is no copy
    await this.put(name, Buffer.concat(pieces));
  }

  async get(name: string): Promise<StoredObject> {
    const { bytes, version } = this.find(name);
    if (bytes.length > OBJECT_BYTES_MAX) {
      throw new ObjectError(
        "failed",
        `${name} has ${bytes.length} bytes: too many to be read whole`,
      );
    }
    return { bytes: bytes.slice(), version };
  }

  async getRange(name: string, from: number, length: number): Promise<Uint8Array> {
    return this.find(name).bytes.slice(from, from + length);
  }

  async *getStream(name: string, from: number): AsyncIterable<Uint8Array> {
    const { bytes } = this.find(name);
    for (let at = from; at < bytes.length; at += PIECE_BYTES) {
      yield bytes.slice(at, Math.min(at + PIECE_BYTES, bytes.length));
    }
  }

  async list(prefix: string, after = ""): Promise<ListPage> {
    const names = this.names.filter((name) => name.startsWith(prefix) && name > after);
    const shown = names.slice(0, OBJECT_LIST_MAX);
    return {
      objects: shown.map((name) => {
        const { bytes, modifiedMs } = this.objects.get(name)!;
        return { name, bytes: bytes.length, modifiedMs };
      }),
      after: shown.length < names.length ? shown.at(-1) : undefined,
    };
  }

  async deleteMany(names: readonly string[]): Promise<void> {
    for (const name of names) this.objects.delete(name);
  }

  async close(): Promise<void> {}

  private find(name: string): Kept {
    const found = this.objects.get(name);
    if (found === undefined) throw new ObjectError("not-found", `${name} is not in ${this.place}`);
    return found;
  }
}
