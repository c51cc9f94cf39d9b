// Object storage that fails as a test wants it: before or after it did what it was asked, for a while,
// or by chance from a seed.

import {
  type ByteSource,
  type ListPage,
  ObjectError,
  type ObjectStorage,
  type ObjectVersion,
  type StoredObject,
} from "../../src/core/object-storage.ts";

/** lost: it is done, and nobody is ever answered. */
export type Fault = "none" | "fail-before" | "fail-after" | "lost";

export class FaultyStorage implements ObjectStorage {
  readonly place: string;
  /** Calls that reached it. */
  calls = 0;
  down = false;
  /** What becomes of each call; `next` comes first. */
  decide: (call: string, name: string) => Fault = () => "none";
  /** Called before each call is done: a test may do something in between. */
  before: (call: string, name: string) => Promise<void> | void = () => {};
  private readonly storage: ObjectStorage;
  private planned: Fault[] = [];

  constructor(storage: ObjectStorage) {
    this.storage = storage;
    this.place = storage.place;
  }

  /** The next calls have this fault. */
  next(fault: Fault, times = 1): void {
    for (let i = 0; i < times; i++) this.planned.push(fault);
  }

  put(name: string, bytes: Uint8Array): Promise<ObjectVersion> {
    return this.call("put", name, () => this.storage.put(name, bytes));
  }
  putIfAbsent(name: string, bytes: Uint8Array): Promise<ObjectVersion> {
    return this.call("putIfAbsent", name, () => this.storage.putIfAbsent(name, bytes));
  }
  compareAndSwap(name: string, bytes: Uint8Array, old: ObjectVersion): Promise<ObjectVersion> {
    return this.call("compareAndSwap", name, () => this.storage.compareAndSwap(name, bytes, old));
  }
  putStream(name: string, source: ByteSource): Promise<void> {
    return this.call("putStream", name, () => this.storage.putStream(name, source));
  }
  get(name: string): Promise<StoredObject> {
    return this.call("get", name, () => this.storage.get(name));
  }
  getRange(name: string, from: number, length: number): Promise<Uint8Array> {
    return this.call("getRange", name, () => this.storage.getRange(name, from, length));
  }
  getStream(name: string, from: number): AsyncIterable<Uint8Array> {
    return this.storage.getStream(name, from);
  }
  list(prefix: string, after?: string): Promise<ListPage> {
    return this.call("list", prefix, () => this.storage.list(prefix, after));
  }
  deleteMany(names: readonly string[]): Promise<void> {
    return this.call("deleteMany", names[0] ?? "", () => this.storage.deleteMany(names));
  }
  close(): Promise<void> {
    return this.storage.close();
  }

  private async call<T>(call: string, name: string, action: () => Promise<T>): Promise<T> {
    this.calls++;
    await this.before(call, name);
    const fault = this.planned.shift() ?? this.decide(call, name);
    if (this.down || fault === "fail-before") throw failure(call, name);
    const done = await action();
    if (fault === "fail-after") throw failure(call, name);
    if (fault === "lost") return new Promise(() => {});
    return done;
  }
}

const failure = (call: string, name: string): ObjectError =>
  new ObjectError("unavailable", `told to fail: ${call} ${name}`);
