// One sealed layer's LMDB file, opened for reading: the only file besides layer-writer.ts and
// catalog.ts that knows lmdb. Reads are exact gets of public API (docs/decisions/002-run-keys.md);
// a file never changes, so one read transaction lasts as long as it is open.

import fs from "node:fs";
import { type RootDatabase, open } from "lmdb";
import { LRUCache } from "lru-cache";
import { type Group, GroupTable } from "../core/key.ts";
import { OPEN_FILES_MAX, RUN_TRUST_MS } from "../core/limits.ts";
import { crc32c } from "../protocol/crc32c.ts";
import { LayerFilter } from "./layer-filter.ts";
import {
  FILTER_KEY,
  HEADER_KEY,
  type LayerHeader,
  decodeHeader,
  unsealed,
} from "./layer-header.ts";
import { FINGERPRINT_BYTES, onRoll, rollBucketOf, rollKey } from "./layer-roll.ts";
import type { LayerFacts } from "./check-layer.ts";
import { makeDirectory } from "./data-dir.ts";
import type { LayerFiles, StoredLayer } from "./layer-files.ts";
import { mergeOf } from "./merge-order.ts";
import { LayerWriter, publishLayerFile, sumFile } from "./layer-writer.ts";
import { LmdbLayer } from "./lmdb-layer.ts";
import { makeLockFile } from "./lmdb-space.ts";
import { LayerAbsent, StoreCorrupt, errorText, isMissing, writeError } from "./store-errors.ts";
import { TrustedRuns } from "./trusted-runs.ts";

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
  /** LMDB met a damaged page: its transaction is of no more use, the file must be opened anew. */
  private isSpoilt = false;
  private isClosed = false;
  private readonly trusted: TrustedRuns | undefined;
  private readonly groups = new GroupTable();
  private readonly scopes: number[] = [];
  private readonly db: RootDatabase<Buffer, Buffer>;
  private readonly read: { transaction: ReturnType<RootDatabase["useReadTransaction"]> };

  /** Opens a file whose bytes are known to be right, and reads its header. Throws StoreCorrupt. */
  constructor(path: string, trusted?: TrustedRuns) {
    this.path = path;
    this.trusted = trusted;
    makeLockFile(path);
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

  get isUsable(): boolean {
    return !this.isSpoilt && !this.isClosed;
  }

  /** True when the key's newest run was compared with its checksum a short while ago. */
  isTrusted(group: Group, block: number): boolean {
    return this.trusted?.has(this.scopeOf(this.trusted, group), block) === true;
  }

  trust(group: Group, block: number): void {
    this.trusted?.add(this.scopeOf(this.trusted, group), block);
  }

  private scopeOf(trusted: TrustedRuns, { kind, a, b, c, d }: Group): number {
    const id = this.groups.id(kind, a, b, c, d);
    return (this.scopes[id] ??= trusted.newScope());
  }

  /** The value of a key, or undefined. The object and its bytes are valid until the next get. */
  get(key: Buffer): FileValue | undefined {
    let found: Buffer | undefined;
    try {
      // lmdb's types leave out getBinaryFast's options (read.js has them).
      found = (this.db as FastGet).getBinaryFast(key, this.read);
    } catch (cause) {
      throw this.spoilt(cause);
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

  /** True when the layer was written with this key, whatever LMDB finds. Throws StoreCorrupt. */
  isOnRoll(group: Group, block: number): boolean {
    return onRoll(this.rollBucket(rollBucketOf(group, block, this.header.keys)), group, block);
  }

  /** Keys in all buckets of the roll. Throws StoreCorrupt. */
  rollSize(buckets: number): number {
    let bytes = 0;
    for (let i = 0; i < buckets; i++) bytes += this.rollBucket(i).length;
    return bytes / FINGERPRINT_BYTES;
  }

  private rollBucket(bucket: number): Uint8Array {
    const stored = this.get(rollKey(bucket));
    const value = stored?.bytes.subarray(0, stored.length);
    return unsealed(value, this.path, `roll bucket ${bucket}`);
  }

  /** Keys from `start` (inclusive) upwards to `end` (exclusive), at most `limit`. Copies. */
  keys(start: Buffer, end: Buffer, limit = Number.MAX_SAFE_INTEGER): Iterable<Buffer> {
    return this.guarded(this.db.getKeys({ ...this.read, start, end, limit }));
  }

  /** The largest key <= `start` that is > `end`. A copy. */
  keyAtOrBelow(start: Buffer, end: Buffer): Buffer | undefined {
    const range = { ...this.read, start, end, reverse: true, limit: 1 };
    for (const key of this.guarded(this.db.getKeys(range))) return key;
    return undefined;
  }

  close(): void {
    this.isClosed = true;
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
      throw this.spoilt(cause);
    }
  }

  private spoilt(cause: unknown): StoreCorrupt {
    if (cause instanceof StoreCorrupt) return cause;
    this.isSpoilt = true;
    return new StoreCorrupt(this.path, `LMDB: ${errorText(cause)}`);
  }
}

interface FastGet {
  getBinaryFast(key: Buffer, options: object): Buffer | undefined;
}

/** What the catalog knows of a file: enough to tell whether it is still the one that was written. */
export interface FileFacts {
  readonly bytes: number;
  readonly crc: number;
}

/**
 * Sealed files that are open, least recently used ones closed; shared by all timelines. A file is
 * compared with its checksum as a whole before LMDB sees it for the first time, because LMDB trusts
 * what it maps: a damaged tree page may end the process.
 */
export class OpenFiles implements LayerFiles {
  private readonly files: LRUCache<string, SealedFile>;
  private readonly verified = new Set<string>();
  private readonly rejected = new Map<string, Rejected>();
  private readonly trusted: TrustedRuns | undefined;
  private readonly nowMs: (() => number) | undefined;
  private trustedSinceMs = 0;

  /** `nowMs`: a clock that never goes back. Without one, every run that is read is compared with its checksum. */
  constructor(filesMax = OPEN_FILES_MAX, nowMs?: () => number) {
    this.nowMs = nowMs;
    if (nowMs !== undefined) this.trusted = new TrustedRuns();
    this.files = new LRUCache({ max: filesMax, dispose: (file) => file.close() });
  }

  /** The file, opened if it is not. Throws StoreCorrupt. Valid until the next call. */
  get(path: string, facts: FileFacts): SealedFile {
    this.distrust();
    const known = this.files.get(path);
    if (known?.isUsable === true) return known;
    if (known !== undefined) this.close(path); // verified long ago, damaged since
    const { size, mtimeMs } = statFile(path);
    const rejected = this.rejected.get(path);
    if (rejected?.mtimeMs === mtimeMs) throw rejected.error;
    try {
      compare(path, { ...facts, bytes: size }, facts);
      if (!this.verified.has(path)) compare(path, sumFileNow(path), facts);
      const file = new SealedFile(path, this.trusted);
      this.verified.add(path);
      this.rejected.delete(path);
      this.files.set(path, file);
      return file;
    } catch (cause) {
      // Not summed again for every read, but when someone has put it back.
      if (cause instanceof StoreCorrupt) this.rejected.set(path, { mtimeMs, error: cause });
      throw cause;
    }
  }

  /** Runs are compared with their checksums again from time to time. */
  private distrust(): void {
    const nowMs = this.nowMs?.() ?? 0;
    if (nowMs - this.trustedSinceMs < RUN_TRUST_MS) return;
    this.trustedSinceMs = nowMs;
    this.trusted?.forget();
  }

  isVerified(path: string): boolean {
    return this.verified.has(path);
  }

  /** Compares the file with its checksum off the event loop, so that its first reader need not. Throws StoreCorrupt. */
  async verify(path: string, facts: FileFacts): Promise<void> {
    try {
      let found: FileFacts;
      try {
        found = await sumFile(path);
      } catch (cause) {
        throw readError(path, cause);
      }
      compare(path, found, facts);
    } catch (cause) {
      const mtimeMs = fs.statSync(path, { throwIfNoEntry: false })?.mtimeMs ?? 0;
      if (cause instanceof StoreCorrupt) this.rejected.set(path, { mtimeMs, error: cause });
      throw cause;
    }
    this.verified.add(path);
    this.rejected.delete(path);
  }

  /** Why the file as a whole was found damaged, when it was last looked at. */
  damageOf(path: string): string | undefined {
    return this.rejected.get(path)?.error.reason;
  }

  /** This process has just written the file and read it back. */
  trust(path: string): void {
    this.verified.add(path);
  }

  /** Closes a file that is to be removed. */
  close(path: string): void {
    this.files.delete(path);
    this.verified.delete(path);
    this.rejected.delete(path);
  }

  closeAll(): void {
    this.files.clear();
  }

  /** Half-written layers, sealed ones that never reached the catalog, and LMDB's lock files of both go. */
  prepare(directory: string, keep: readonly string[]): void {
    makeDirectory(directory);
    const known = new Set(keep.flatMap((file) => [file, `${file}-lock`]));
    for (const name of fs.readdirSync(directory)) {
      if (!known.has(name)) fs.rmSync(`${directory}/${name}`, { force: true });
    }
  }

  create(...[path, timeline, keysMax, sourceBytes, keyBytes]: CreateArgs): LayerWriter {
    return new LayerWriter(path, timeline, keysMax, sourceBytes, keyBytes);
  }

  publish(from: string, to: string): Promise<void> {
    return publishLayerFile(from, to);
  }

  async remove(path: string): Promise<void> {
    await fs.promises.rm(path, { force: true });
    await fs.promises.rm(`${path}-lock`, { force: true });
  }

  removeMerges(directory: string, number: number): void {
    for (const name of fs.readdirSync(directory)) {
      const merge = mergeOf(name);
      if (merge !== undefined && merge >= number)
        fs.rmSync(`${directory}/${name}`, { force: true });
    }
  }

  /** By one rename, so that nobody finds half of it; `prepare` removes what a crash leaves of it. */
  async evict(path: string): Promise<void> {
    this.close(path);
    const gone = `${path}.evicted`;
    try {
      fs.renameSync(path, gone);
      fs.rmSync(`${path}-lock`, { force: true });
      await fs.promises.rm(gone, { force: true });
    } catch (cause) {
      if (!isMissing(cause)) throw writeError(path, "removing", cause);
    }
  }

  layer(path: string, facts: LayerFacts): StoredLayer {
    return new LmdbLayer(path, facts, this);
  }
}

type CreateArgs = Parameters<LayerFiles["create"]>;

function compare(path: string, found: FileFacts, facts: FileFacts): void {
  if (found.bytes !== facts.bytes) {
    throw new StoreCorrupt(path, `it has ${found.bytes} bytes instead of ${facts.bytes}`);
  }
  if (found.crc !== facts.crc) throw new StoreCorrupt(path, "the file does not match its checksum");
}

/** A file that was found corrupt, as it was then. */
interface Rejected {
  readonly mtimeMs: number;
  readonly error: StoreCorrupt;
}

function statFile(path: string): fs.Stats {
  try {
    return fs.statSync(path);
  } catch (cause) {
    throw readError(path, cause);
  }
}

function sumFileNow(path: string): FileFacts {
  let fd = -1;
  try {
    fd = fs.openSync(path, "r");
    const piece = Buffer.allocUnsafe(1024 * 1024);
    let crc = 0;
    for (let bytes = 0; ;) {
      const got = fs.readSync(fd, piece, 0, piece.length, bytes);
      if (got === 0) return { bytes, crc };
      crc = crc32c(piece, 0, got, crc);
      bytes += got;
    }
  } catch (cause) {
    throw readError(path, cause);
  } finally {
    if (fd >= 0) fs.closeSync(fd);
  }
}

const readError = (path: string, cause: unknown): StoreCorrupt =>
  isMissing(cause) ? new LayerAbsent(path) : new StoreCorrupt(path, errorText(cause));
