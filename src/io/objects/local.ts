// Object storage in a directory: one file an object, complete when it has its name. For a disk of
// another machine, and for trying things out; the disk that holds the data directory is no backup.
//
// A conditional replacement needs no lock: version n of an object is the file NAME~n, and a hard link
// makes NAME~(n+1) only for the first who tries. The highest n counts. "~" is in no object's name.

import { randomBytes } from "node:crypto";
import fs from "node:fs/promises";
import path from "node:path";
import { OBJECT_BYTES_MAX, OBJECT_LIST_MAX, OBJECT_PART_BYTES } from "../../core/limits.ts";
import {
  type ByteSource,
  type ListPage,
  type ListedObject,
  ObjectError,
  type ObjectStorage,
  type ObjectVersion,
  type StoredObject,
  checkObjectName,
} from "../../core/object-storage.ts";

const TEMPORARY = "~writing";
const VERSIONED = /^(.*)~(\d+)$/;

interface Found {
  readonly file: string;
  readonly version: ObjectVersion;
  /** 0: the plain file. */
  readonly number: number;
}

export class LocalStorage implements ObjectStorage {
  readonly place: string;
  private readonly root: string;
  private readonly known = new Set<string>();

  /** `root` is made when it is first written to. */
  constructor(root: string) {
    this.root = path.resolve(root);
    this.place = `file://${this.root}`;
  }

  put(name: string, bytes: Uint8Array): Promise<ObjectVersion> {
    return this.guard(name, () => this.replace(name, onePiece(bytes)));
  }

  putStream(name: string, source: ByteSource): Promise<void> {
    return this.guard(name, async () => void (await this.replace(name, source())));
  }

  putIfAbsent(name: string, bytes: Uint8Array): Promise<ObjectVersion> {
    return this.guard(name, async () => {
      if ((await this.find(name)) !== undefined) throw exists(name);
      const file = this.fileOf(name);
      if (!(await this.link(onePiece(bytes), file))) throw exists(name);
      return plainVersion(file);
    });
  }

  compareAndSwap(name: string, bytes: Uint8Array, expected: ObjectVersion): Promise<ObjectVersion> {
    return this.guard(name, async () => {
      const before = await this.find(name);
      if (before?.version !== expected) throw changed(name);
      const number = before.number + 1;
      const file = `${this.fileOf(name)}~${number}`;
      if (!(await this.link(onePiece(bytes), file))) throw changed(name);
      // Someone was further already, and has removed the versions between.
      const numbers = await this.numbers(name);
      if (numbers.some((other) => other > number)) {
        await fs.rm(file, { force: true });
        throw changed(name);
      }
      const old = numbers.filter((other) => other < number);
      for (const other of old) await fs.rm(`${this.fileOf(name)}~${other}`, { force: true });
      await fs.rm(this.fileOf(name), { force: true });
      return versionOf(number);
    });
  }

  get(name: string): Promise<StoredObject> {
    return this.guard(name, () =>
      this.reading(name, async ({ file, version }) => {
        const { size } = await fs.stat(file);
        if (size > OBJECT_BYTES_MAX) {
          throw new ObjectError("failed", `${name} has ${size} bytes: too many to be read whole`);
        }
        return { bytes: await fs.readFile(file), version };
      }),
    );
  }

  getRange(name: string, from: number, length: number): Promise<Uint8Array> {
    return this.guard(name, () =>
      this.reading(name, async ({ file }) => {
        const handle = await fs.open(file, "r");
        try {
          const bytes = new Uint8Array(length);
          const { bytesRead } = await handle.read(bytes, 0, length, from);
          return bytes.subarray(0, bytesRead);
        } finally {
          await handle.close();
        }
      }),
    );
  }

  async *getStream(name: string, from: number): AsyncIterable<Uint8Array> {
    for (let at = from; ;) {
      const piece = await this.getRange(name, at, OBJECT_PART_BYTES);
      if (piece.length > 0) yield piece;
      if (piece.length < OBJECT_PART_BYTES) return;
      at += piece.length;
    }
  }

  list(prefix: string, after = ""): Promise<ListPage> {
    return this.guard(prefix, async () => {
      const found = new Map<string, ListedObject>();
      await this.walk(path.join(this.root, path.posix.dirname(`${prefix}x`)), (listed) => {
        const { name } = listed;
        if (name.startsWith(prefix) && name > after) found.set(name, listed);
      });
      const all = [...found.values()].sort((x, y) => (x.name < y.name ? -1 : 1));
      const objects = all.slice(0, OBJECT_LIST_MAX);
      return { objects, after: objects.length < all.length ? objects.at(-1)!.name : undefined };
    });
  }

  deleteMany(names: readonly string[]): Promise<void> {
    return this.guard("", async () => {
      for (const name of names) {
        const file = this.fileOf(name);
        await fs.rm(file, { force: true });
        for (const number of (await this.numbers(name)).sort((x, y) => x - y)) {
          await fs.rm(`${file}~${number}`, { force: true });
        }
      }
    });
  }

  async close(): Promise<void> {}

  private fileOf(name: string): string {
    checkObjectName(name);
    return path.join(this.root, name);
  }

  /** Numbers of the versions that were swapped in. */
  private async numbers(name: string): Promise<number[]> {
    const file = this.fileOf(name);
    const base = path.basename(file);
    const found: number[] = [];
    for (const entry of await entriesOf(path.dirname(file))) {
      const match = VERSIONED.exec(entry.name);
      if (match?.[1] === base) found.push(Number(match[2]));
    }
    return found;
  }

  private async find(name: string): Promise<Found | undefined> {
    const file = this.fileOf(name);
    const number = Math.max(0, ...(await this.numbers(name)));
    if (number > 0) return { file: `${file}~${number}`, version: versionOf(number), number };
    try {
      return { file, version: await plainVersion(file), number };
    } catch (cause) {
      if (codeOf(cause) === "ENOENT") return undefined;
      throw cause;
    }
  }

  /** Reads the version that counts; if it was replaced meanwhile, the next one. */
  private async reading<T>(name: string, read: (found: Found) => Promise<T>): Promise<T> {
    let seen: string | undefined;
    for (;;) {
      const found = await this.find(name);
      if (found === undefined || found.file === seen) throw notFound(name, this.place);
      try {
        return await read(found);
      } catch (cause) {
        if (codeOf(cause) !== "ENOENT") throw cause;
        seen = found.file;
      }
    }
  }

  private async replace(name: string, pieces: AsyncIterable<Uint8Array>): Promise<ObjectVersion> {
    const file = this.fileOf(name);
    const temporary = await this.write(file, pieces);
    await fs.rename(temporary, file);
    for (const number of await this.numbers(name)) {
      await fs.rm(`${file}~${number}`, { force: true });
    }
    await syncDirectory(path.dirname(file));
    return plainVersion(file);
  }

  /** Gives the bytes the name `file`; false when there is such a file. */
  private async link(pieces: AsyncIterable<Uint8Array>, file: string): Promise<boolean> {
    const temporary = await this.write(file, pieces);
    try {
      await fs.link(temporary, file);
      await syncDirectory(path.dirname(file));
      return true;
    } catch (cause) {
      if (codeOf(cause) === "EEXIST") return false;
      throw cause;
    } finally {
      await fs.rm(temporary, { force: true });
    }
  }

  /** Writes and syncs a file beside `file`. */
  private async write(file: string, pieces: AsyncIterable<Uint8Array>): Promise<string> {
    await this.makeDirectory(path.dirname(file));
    const temporary = `${file}.${randomBytes(6).toString("hex")}${TEMPORARY}`;
    const handle = await fs.open(temporary, "wx", 0o600);
    try {
      for await (const piece of pieces) await handle.writeFile(piece);
      await handle.sync();
    } catch (cause) {
      await fs.rm(temporary, { force: true });
      throw cause;
    } finally {
      await handle.close();
    }
    return temporary;
  }

  private async makeDirectory(directory: string): Promise<void> {
    if (this.known.has(directory)) return;
    const first = await fs.mkdir(directory, { recursive: true, mode: 0o700 });
    if (first !== undefined) {
      const top = path.dirname(first);
      for (let at = directory; at !== top; at = path.dirname(at)) {
        await syncDirectory(path.dirname(at));
      }
    }
    this.known.add(directory);
  }

  private async walk(directory: string, each: (object: ListedObject) => void): Promise<void> {
    for (const entry of await entriesOf(directory)) {
      const file = path.join(directory, entry.name);
      if (entry.isDirectory()) {
        await this.walk(file, each);
        continue;
      }
      if (entry.name.endsWith(TEMPORARY)) continue;
      const name = path.relative(this.root, file).split(path.sep).join("/");
      const facts = await fs.stat(file).catch(() => undefined); // removed meanwhile
      if (facts === undefined) continue;
      const { size: bytes, mtimeMs: modifiedMs } = facts;
      each({ name: VERSIONED.exec(name)?.[1] ?? name, bytes, modifiedMs });
    }
  }

  private async guard<T>(what: string, action: () => Promise<T>): Promise<T> {
    try {
      return await action();
    } catch (cause) {
      throw this.errorOf(what, cause);
    }
  }

  private errorOf(what: string, cause: unknown): unknown {
    const code = codeOf(cause);
    if (cause instanceof ObjectError || code === undefined) return cause;
    const place = what === "" ? this.place : `${this.place}/${what}`;
    switch (code) {
      case "ENOENT":
        return notFound(what, this.place);
      case "EACCES":
      case "EPERM":
      case "EROFS":
        return new ObjectError(
          "denied",
          `${place} cannot be used (${code}); make it a directory that this user can write`,
          cause,
        );
      case "ENOSPC":
      case "EDQUOT":
      case "EIO":
      case "ESTALE":
        return new ObjectError("unavailable", `${place}: ${code}; free space or check that disk`);
      default:
        return new ObjectError("failed", `${place}: ${String(cause)}`, cause);
    }
  }
}

const versionOf = (number: number): ObjectVersion => `~${number}` as ObjectVersion;

async function plainVersion(file: string): Promise<ObjectVersion> {
  const { ino, mtimeNs } = await fs.stat(file, { bigint: true });
  return `${ino}-${mtimeNs}` as ObjectVersion;
}

async function* onePiece(bytes: Uint8Array): AsyncIterable<Uint8Array> {
  yield bytes;
}

async function entriesOf(directory: string) {
  try {
    return await fs.readdir(directory, { withFileTypes: true });
  } catch (cause) {
    if (codeOf(cause) === "ENOENT") return [];
    throw cause;
  }
}

async function syncDirectory(directory: string): Promise<void> {
  const handle = await fs.open(directory, "r");
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}

const codeOf = (cause: unknown): string | undefined =>
  cause instanceof Error && "code" in cause ? String(cause.code) : undefined;

const notFound = (name: string, place: string): ObjectError =>
  new ObjectError("not-found", `${name} is not in ${place}`);
const exists = (name: string): ObjectError => new ObjectError("exists", `${name} exists already`);
const changed = (name: string): ObjectError =>
  new ObjectError("changed", `${name} was changed by someone else`);
