// One sealed layer's LMDB file, opened for reading: the only file besides layer-writer.ts and
// catalog.ts that knows lmdb. Reads are exact gets of public API (docs/decisions/002-run-keys.md);
// a file never changes, so one read transaction lasts as long as it is open.

import fs from "node:fs";
import { type RootDatabase, open } from "lmdb";
import { LRUCache } from "lru-cache";
import { OPEN_FILES_MAX } from "../core/limits.ts";
import { LayerFilter } from "./layer-filter.ts";
import {
  FILTER_KEY,
  HEADER_KEY,
  type LayerHeader,
  decodeHeader,
  unsealed,
} from "./layer-header.ts";
import { StoreCorrupt, StoreFailed, errorText, isMissing } from "./store-errors.ts";

// Values up to this size come in lmdb's one shared buffer, whose `length` it overrides: views of
// our own are made of it, and made anew only when lmdb replaces the buffer.
let shared: Uint8Array | undefined;
let view: Uint8Array = new Uint8Array(0);
let data = new DataView(view.buffer);

/** A value as it lies in lmdb's memory: valid until the next get of any file. */
export interface FileValue {
  bytes: Uint8Array;
  view: DataView;
  length: number;
}
const value: FileValue = { bytes: view, view: data, length: 0 };

export class SealedFile {
  readonly path: string;
  readonly header: LayerHeader;
  readonly filter: LayerFilter;
  private readonly db: RootDatabase<Buffer, Buffer>;
  private readonly read: { transaction: ReturnType<RootDatabase["useReadTransaction"]> };

  /** Opens and validates. Throws StoreCorrupt. `bytes` is what the catalog says the file's size is. */
  constructor(path: string, bytes: number) {
    this.path = path;
    checkSize(path, bytes);
    try {
      this.db = open<Buffer, Buffer>({
        path,
        noSubdir: true,
        readOnly: true,
        keyEncoding: "binary",
        encoding: "binary",
        pageSize: 4096,
        maxReaders: 4,
      });
    } catch (cause) {
      throw new StoreCorrupt(path, `LMDB cannot open it: ${errorText(cause)}`);
    }
    this.read = { transaction: this.db.useReadTransaction() };
    try {
      this.header = decodeHeader(this.copy(HEADER_KEY), path);
      const filter = LayerFilter.from(unsealed(this.copy(FILTER_KEY), path, "filter"));
      if (filter === undefined) throw new StoreCorrupt(path, "its filter has a wrong size");
      this.filter = filter;
    } catch (cause) {
      this.close();
      throw cause;
    }
  }

  /** The value of a key, or undefined. The object and its bytes are valid until the next get. */
  get(key: Buffer): FileValue | undefined {
    let found: Buffer | undefined;
    try {
      // lmdb's types leave out getBinaryFast's options (read.js has them).
      found = (this.db as FastGet).getBinaryFast(key, this.read);
    } catch (cause) {
      throw new StoreCorrupt(this.path, `LMDB: ${errorText(cause)}`);
    }
    if (found === undefined) return undefined;
    if (found !== shared) {
      shared = found;
      view = new Uint8Array(found.buffer, found.byteOffset);
      data = new DataView(found.buffer, found.byteOffset);
    }
    value.bytes = view;
    value.view = data;
    value.length = found.length;
    return value;
  }

  /** Keys from `start` (inclusive) upwards to `end` (exclusive). Copies. */
  keys(start: Buffer, end: Buffer): Iterable<Buffer> {
    return this.guarded(this.db.getKeys({ ...this.read, start, end }));
  }

  /** The largest key <= `start` that is > `end`. A copy. */
  keyAtOrBelow(start: Buffer, end: Buffer): Buffer | undefined {
    const range = { ...this.read, start, end, reverse: true, limit: 1 };
    for (const key of this.guarded(this.db.getKeys(range))) return key;
    return undefined;
  }

  close(): void {
    try {
      this.read.transaction.done();
    } finally {
      void this.db.close();
    }
  }

  private copy(key: Buffer): Uint8Array | undefined {
    const found = this.get(key);
    return found?.bytes.slice(0, found.length);
  }

  private *guarded(keys: Iterable<Buffer>): Generator<Buffer> {
    try {
      yield* keys;
    } catch (cause) {
      if (cause instanceof StoreCorrupt) throw cause;
      throw new StoreCorrupt(this.path, `LMDB: ${errorText(cause)}`);
    }
  }
}

interface FastGet {
  getBinaryFast(key: Buffer, options: object): Buffer | undefined;
}

function checkSize(path: string, bytes: number): void {
  let size: number;
  try {
    size = fs.statSync(path).size;
  } catch (cause) {
    if (isMissing(cause)) throw new StoreCorrupt(path, "the file is missing");
    throw new StoreFailed(path, "looking at", cause);
  }
  if (size !== bytes) throw new StoreCorrupt(path, `it has ${size} bytes instead of ${bytes}`);
}

/** Sealed files that are open, least recently used ones closed; shared by all timelines. */
export class OpenFiles {
  private readonly files: LRUCache<string, SealedFile>;

  constructor(filesMax = OPEN_FILES_MAX) {
    this.files = new LRUCache({ max: filesMax, dispose: (file) => file.close() });
  }

  /** The file, opened if it is not. Throws StoreCorrupt. Valid until the next call. */
  get(path: string, bytes: number): SealedFile {
    let file = this.files.get(path);
    if (file === undefined) {
      file = new SealedFile(path, bytes);
      this.files.set(path, file);
    }
    return file;
  }

  /** Closes a file that is to be removed. */
  close(path: string): void {
    this.files.delete(path);
  }

  closeAll(): void {
    this.files.clear();
  }
}
