// Writes one sealed layer: keys come in key order, a key's versions newest first, everything is
// appended. Nothing is believed of the file until finish() has synced it and the caller has renamed
// and entered it in the catalog. Never blocks for longer than one transaction of the caller's size.

import fs from "node:fs";
import { type RootDatabase, open } from "lmdb";
import { assert } from "../core/assert.ts";
import { type Group, KEY_BYTES } from "../core/key.ts";
import { RUN_BYTES_MAX } from "../core/limits.ts";
import { LSN_INVALID, LSN_MAX, type Lsn } from "../core/lsn.ts";
import type { Version } from "../core/version.ts";
import { crc32c } from "../protocol/crc32c.ts";
import { LayerFilter } from "./layer-filter.ts";
import {
  FILTER_KEY,
  HEADER_KEY,
  LAYER_FORMAT,
  type LayerHeader,
  encodeHeader,
  sealed,
} from "./layer-header.ts";
import { RollBuilder, rollKey } from "./layer-roll.ts";
import { lmdbWriteError, makeLockFile, requireSpace } from "./lmdb-space.ts";
import { RunKey, RunPacker } from "./run.ts";
import { writeError } from "./store-errors.ts";

const APPEND = { append: true };
const MiB = 1024 * 1024;
const LMDB_PAGE_BYTES = 4096;
/**
 * A value that is longer than half of an LMDB page takes whole LMDB pages of its own: an 8 KiB page of
 * PostgreSQL three of 4096 bytes, half again its size, but 17 of 512. Short values pack better, and are
 * written faster, in large ones (docs/decisions/007-pages-in-layers.md).
 */
const LMDB_SMALL_PAGE_BYTES = 512;
/** From so many bytes a key on, values are long. */
const LONG_KEY_BYTES = 1024;
const READ_BACK_BYTES = MiB;

export interface WrittenFile {
  readonly header: LayerHeader;
  /** Size of the file and CRC-32C of all of it. */
  readonly bytes: number;
  readonly crc: number;
}

export class LayerWriter {
  readonly path: string;
  /** Runs written so far: what a turn is measured in. */
  runs = 0;
  private readonly db: RootDatabase<Buffer, Buffer>;
  private readonly timeline: string;
  private readonly filter: LayerFilter;
  private readonly roll = new RollBuilder();
  private readonly key = new RunKey();
  private readonly packer = new RunPacker();
  private readonly previousKey = Buffer.alloc(KEY_BYTES);
  private firstKey = "";
  private keys = 0;
  private versions = 0;
  private kinds = 0;
  private keysCrc = 0;
  private firstLsn: Lsn = LSN_MAX;
  private lastLsn: Lsn = LSN_INVALID;
  private newestRun = true;
  private closed = false;

  /**
   * Begins the file at `path`, replacing what is there. `sourceBytes`: memory or file bytes of what
   * will be written; the map is made large enough for any packing of them. `keyBytes`: of a key's
   * versions, about. Throws StoreFull, StoreFailed.
   */
  constructor(
    path: string,
    timeline: string,
    keysMax: number,
    sourceBytes: number,
    keyBytes: number,
  ) {
    this.path = path;
    this.timeline = timeline;
    this.filter = LayerFilter.forKeys(keysMax);
    removeLayerFile(path);
    requireSpace(path);
    makeLockFile(path);
    try {
      this.db = open<Buffer, Buffer>({
        path,
        noSubdir: true,
        keyEncoding: "binary",
        encoding: "binary",
        pageSize: keyBytes < LONG_KEY_BYTES ? LMDB_PAGE_BYTES : LMDB_SMALL_PAGE_BYTES,
        overlappingSync: false,
        noSync: true,
        maxReaders: 4,
        // Address space, not memory. Runs at worst take twice their bytes.
        mapSize: 64 * MiB + 4 * sourceBytes,
      });
    } catch (cause) {
      throw lmdbWriteError(path, "creating", cause);
    }
  }

  /** One transaction: everything that `write` begins and adds. Throws StoreFull, StoreFailed. */
  turn(write: () => void): void {
    try {
      this.db.transactionSync(write);
    } catch (cause) {
      if (cause instanceof Error && !("code" in cause)) throw cause;
      throw lmdbWriteError(this.path, "writing", cause);
    }
  }

  /** The next key, in key order. Only within a turn, like all that follows. */
  begin(group: Group, block: number): void {
    this.key.set(group, block);
    const { newest } = this.key;
    assert(
      this.keys === 0 || Buffer.compare(this.previousKey, newest) < 0,
      "I5: keys are written in order, each once",
    );
    newest.copy(this.previousKey);
    if (this.keys++ === 0) this.firstKey = newest.toString("hex");
    this.filter.add(group, block);
    this.roll.add(group, block);
    this.kinds |= 1 << group.kind;
    this.newestRun = true;
  }

  /** The key's next older version. */
  add(version: Version): void {
    const { packer } = this;
    // Versions of one LSN stay in one run: the LSN is the run's key.
    if (
      packer.count > 0 &&
      version.lsn !== packer.lastLsn &&
      packer.sizeWith(version) > RUN_BYTES_MAX
    ) {
      this.putRun(version.lsn);
    }
    packer.add(version);
    this.versions++;
    if (version.lsn < this.firstLsn) this.firstLsn = version.lsn;
    if (version.lsn > this.lastLsn) this.lastLsn = version.lsn;
  }

  /** The key is complete. */
  end(): void {
    if (this.packer.count > 0) this.putRun(0);
  }

  /** Completes, closes and syncs the file, and reads it back for its checksum. */
  async finish(): Promise<WrittenFile> {
    const header: LayerHeader = {
      format: LAYER_FORMAT,
      timeline: this.timeline,
      firstLsn: this.firstLsn,
      lastLsn: this.lastLsn,
      firstKey: this.firstKey,
      lastKey: this.previousKey.toString("hex"),
      keys: this.keys,
      runs: this.runs,
      versions: this.versions,
      kinds: this.kinds,
      keysCrc: this.keysCrc,
    };
    this.turn(() => {
      this.db.putSync(HEADER_KEY, encodeHeader(header), APPEND);
      this.db.putSync(FILTER_KEY, sealed(this.filter.bytes()), APPEND);
      this.roll.buckets().forEach((bucket, i) => {
        this.db.putSync(rollKey(i), sealed(bucket), APPEND);
      });
    });
    this.closed = true;
    await this.db.close();
    try {
      return { header, ...(await syncAndSum(this.path)) };
    } catch (cause) {
      throw writeError(this.path, "syncing", cause);
    }
  }

  /** Gives up: closes and removes the file. */
  async abandon(): Promise<void> {
    if (!this.closed) {
      this.closed = true;
      await this.db.close();
    }
    removeLayerFile(this.path);
  }

  private putRun(olderLsn: number): void {
    const { packer } = this;
    const key = this.newestRun ? this.key.newest : this.key.older(packer.newestLsn);
    this.newestRun = false;
    this.keysCrc = crc32c(key, 0, key.length, this.keysCrc);
    const run = packer.finish(key, olderLsn);
    this.db.putSync(key, Buffer.from(run.buffer, run.byteOffset, run.length), APPEND);
    this.runs++;
  }
}

/** Removes a layer file and LMDB's lock file beside it, if they exist. */
export function removeLayerFile(path: string): void {
  fs.rmSync(path, { force: true });
  fs.rmSync(`${path}-lock`, { force: true });
}

/** Moves a finished file to its name; durable when the promise is kept. */
export async function publishLayerFile(from: string, to: string): Promise<void> {
  try {
    await fs.promises.rename(from, to);
    // Its readers need one; it has its block already.
    await fs.promises.rename(`${from}-lock`, `${to}-lock`);
    await syncDirectory(to.slice(0, to.lastIndexOf("/")));
  } catch (cause) {
    throw writeError(to, "renaming", cause);
  }
}

/** Makes names created, renamed or removed in a directory durable. */
export async function syncDirectory(path: string): Promise<void> {
  const directory = await fs.promises.open(path, "r");
  try {
    await directory.sync();
  } finally {
    await directory.close();
  }
}

/** CRC-32C of a whole file, read in pieces off the event loop. */
export async function sumFile(path: string): Promise<{ bytes: number; crc: number }> {
  const file = await fs.promises.open(path, "r");
  try {
    return await sumOpenFile(file);
  } finally {
    await file.close();
  }
}

async function syncAndSum(path: string): Promise<{ bytes: number; crc: number }> {
  const file = await fs.promises.open(path, "r+");
  try {
    await file.sync();
    return await sumOpenFile(file);
  } finally {
    await file.close();
  }
}

async function sumOpenFile(file: fs.promises.FileHandle): Promise<{ bytes: number; crc: number }> {
  const piece = Buffer.allocUnsafe(READ_BACK_BYTES);
  let crc = 0;
  let bytes = 0;
  for (;;) {
    const { bytesRead } = await file.read(piece, 0, piece.length, bytes);
    if (bytesRead === 0) return { bytes, crc };
    crc = crc32c(piece, 0, bytesRead, crc);
    bytes += bytesRead;
  }
}
