// A disk in memory, for most seeds of the simulator: sealed layers as sorted lists of versions, the
// catalog as a map. What was not made durable may or may not be there after a crash.

import type { TimelineId } from "../../src/core/ids.ts";
import { type Group, KEY_BYTES, compareGroups, writeKey } from "../../src/core/key.ts";
import { LSN_INVALID, LSN_MAX, type Lsn } from "../../src/core/lsn.ts";
import { type Version, endsChain } from "../../src/core/version.ts";
import type { CatalogDb } from "../../src/store/catalog.ts";
import type { LayerFacts, OnOpenChain } from "../../src/store/check-layer.ts";
import type { LayerFiles, LayerSink, StoredLayer } from "../../src/store/layer-files.ts";
import type { LayerHeader } from "../../src/store/layer-header.ts";
import type { WrittenFile } from "../../src/store/layer-writer.ts";
import { mergeOf } from "../../src/store/merge-order.ts";
import type { CheckReport, KeyVisitor, LayerCursor } from "../../src/store/object-store.ts";
import type { VersionVisitor } from "../../src/store/object-store.ts";
import type { VersionKey } from "../../src/store/run.ts";
import { StoreCorrupt } from "../../src/store/store-errors.ts";
import type { Random } from "./random.ts";

interface StoredKey extends VersionKey {
  /** Newest first. */
  readonly versions: Version[];
}

interface StoredFile {
  readonly keys: readonly StoredKey[];
  readonly written: WrittenFile | undefined;
}

/** A version is many times a run here, so that small layers take several turns. */
const RUNS_PER_VERSION = 90;

const compareKeys = (x: VersionKey, y: VersionKey): number =>
  compareGroups(x.group, y.group) || x.block - y.block;

const hexOf = ({ group, block }: VersionKey): string => {
  const bytes = Buffer.alloc(KEY_BYTES);
  writeKey(new DataView(bytes.buffer, bytes.byteOffset, KEY_BYTES), 0, group, block);
  return bytes.toString("hex");
};

export class MemoryDisk implements LayerFiles {
  private readonly files = new Map<string, StoredFile>();
  /** Removed, which a crash may undo: no one syncs a directory after an unlink. */
  private readonly removed = new Map<string, StoredFile>();
  private readonly entries = new Map<string, string>();

  /** What a crash leaves. */
  crash(random: Random): void {
    for (const [path, file] of this.removed) {
      if (random.below(2) === 0 && !this.files.has(path)) this.files.set(path, file);
    }
    this.removed.clear();
    for (const [path, { written }] of [...this.files]) {
      if (written === undefined && random.below(2) === 0) this.files.delete(path);
    }
  }

  /** Names of the files of a directory. */
  names(directory: string): readonly string[] {
    const paths = [...this.files.keys()].filter((path) => path.startsWith(`${directory}/`));
    return paths.map((path) => path.slice(directory.length + 1));
  }

  removeAll(directory: string): void {
    for (const name of this.names(directory)) void this.remove(`${directory}/${name}`);
  }

  prepare(directory: string, keep: readonly string[]): void {
    for (const name of this.names(directory)) {
      if (!keep.includes(name)) this.files.delete(`${directory}/${name}`);
    }
  }

  create(path: string, timeline: string): LayerSink {
    this.files.set(path, { keys: [], written: undefined });
    return new MemorySink(this.files, path, timeline as TimelineId);
  }

  publish(from: string, to: string): Promise<void> {
    const file = this.files.get(from);
    if (file === undefined) throw new Error(`${from} is not there to be renamed`);
    this.files.delete(from);
    this.files.set(to, file);
    return Promise.resolve();
  }

  remove(path: string): Promise<void> {
    const file = this.files.get(path);
    if (file !== undefined) this.removed.set(path, file);
    this.files.delete(path);
    return Promise.resolve();
  }

  removeMerges(directory: string, number: number): void {
    for (const name of this.names(directory)) {
      if ((mergeOf(name) ?? -1) >= number) this.files.delete(`${directory}/${name}`);
    }
  }

  evict(path: string): Promise<void> {
    this.files.delete(path);
    return Promise.resolve();
  }

  layer(path: string, facts: LayerFacts): StoredLayer {
    return new MemoryStoredLayer(path, facts, () => {
      const file = this.files.get(path);
      if (file?.written === undefined) throw new StoreCorrupt(path, "the file is missing");
      return file.keys;
    });
  }

  isVerified(): boolean {
    return true;
  }

  verify(): Promise<void> {
    return Promise.resolve();
  }

  trust(): void {}

  close(): void {}

  closeAll(): void {}

  /** The catalog's entries. */
  get catalog(): CatalogDb {
    const { entries } = this;
    return {
      get: (key) => entries.get(key),
      getKeys: ({ start = "", end, limit }) => {
        const keys = [...entries.keys()].filter(
          (key) => key >= start && (end === undefined || key < end),
        );
        return keys.sort().slice(0, limit);
      },
      putSync: (key, value) => entries.set(key, value),
      removeSync: (key) => entries.delete(key),
      transactionSync: (edits) => {
        const before = [...entries];
        try {
          edits();
        } catch (error) {
          entries.clear();
          for (const [key, value] of before) entries.set(key, value);
          throw error;
        }
      },
      close: () => Promise.resolve(),
    };
  }
}

class MemorySink implements LayerSink {
  readonly path: string;
  runs = 0;
  private readonly files: Map<string, StoredFile>;
  private readonly timeline: string;
  private readonly keys: StoredKey[] = [];
  private bytes = 0;

  constructor(files: Map<string, StoredFile>, path: string, timeline: string) {
    this.files = files;
    this.path = path;
    this.timeline = timeline;
  }

  turn(write: () => void): void {
    write();
  }

  begin(group: Group, block: number): void {
    const last = this.keys.at(-1);
    const key = { group: { ...group }, block, versions: [] };
    if (last !== undefined && compareKeys(last, key) >= 0) throw new Error("I5: keys in order");
    this.keys.push(key);
  }

  add(version: Version): void {
    const { bytes, start, length } = version;
    const copy = { ...version, bytes: bytes.slice(start, start + length), start: 0 };
    this.keys.at(-1)!.versions.push(copy);
    this.runs += RUNS_PER_VERSION;
    this.bytes += 32 + length;
  }

  end(): void {}

  finish(): Promise<WrittenFile> {
    const { keys, bytes, timeline } = this;
    const lsns = keys.flatMap(({ versions }) => versions.map(({ lsn }) => lsn));
    const header: LayerHeader = {
      format: 1,
      timeline,
      firstLsn: Math.min(...lsns) as Lsn,
      lastLsn: Math.max(...lsns) as Lsn,
      firstKey: hexOf(keys[0]!),
      lastKey: hexOf(keys.at(-1)!),
      keys: keys.length,
      runs: this.runs,
      versions: lsns.length,
      kinds: keys.reduce((kinds, { group }) => kinds | (1 << group.kind), 0),
      keysCrc: 0,
    };
    const written = { header, bytes, crc: 0 };
    this.files.set(this.path, { keys, written });
    return Promise.resolve(written);
  }

  abandon(): Promise<void> {
    this.files.delete(this.path);
    return Promise.resolve();
  }
}

class MemoryStoredLayer implements StoredLayer {
  readonly path: string;
  readonly firstLsn: Lsn;
  readonly lastLsn: Lsn;
  readonly versions: number;
  readonly damage = undefined;
  readonly reads = 0;
  private readonly keys: () => readonly StoredKey[];

  constructor(path: string, facts: LayerFacts, keys: () => readonly StoredKey[]) {
    this.path = path;
    this.firstLsn = facts.firstLsn;
    this.lastLsn = facts.lastLsn;
    this.versions = facts.versions;
    this.keys = keys;
  }

  distrust(): void {}

  visit(group: Group, block: number, at: Lsn, floor: Lsn, visitor: VersionVisitor): boolean {
    const found = this.keys().find((key) => compareKeys(key, { group, block }) === 0);
    return found === undefined || show(found, at, floor, visitor);
  }

  scan(kind: number, a: number | undefined, b: number | undefined, each: KeyVisitor): void {
    for (const { group, block } of this.keys()) {
      if (group.kind !== kind || (a !== undefined && group.a !== a)) continue;
      if (b === undefined || group.b === b) each(group, block);
    }
  }

  cursor(): LayerCursor {
    throw new Error("sealed layers are merged by keysAfter");
  }

  keysAfter(after: VersionKey | undefined, limit: number): readonly VersionKey[] {
    const keys = this.keys();
    const from = after === undefined ? 0 : keys.findIndex((key) => compareKeys(key, after) > 0);
    return from < 0 ? [] : keys.slice(from, from + Math.min(limit, 3));
  }

  check(report: CheckReport): void {
    this.beginCheck(report, () => {})();
  }

  beginCheck(report: CheckReport, onOpenChain: OnOpenChain): () => boolean {
    return () => {
      for (const key of this.keys()) {
        let newer: Lsn = LSN_MAX;
        for (const { lsn } of key.versions) {
          if (lsn > newer) report("I2", this.path, `${lsn} under ${newer}`);
          if (lsn < this.firstLsn || lsn > this.lastLsn) report("I7", this.path, `${lsn}`);
          newer = lsn;
        }
        const oldest = key.versions.at(-1);
        if (oldest === undefined) report("I5", this.path, "a key without versions");
        else if (!endsChain(oldest.type, oldest.flags)) {
          onOpenChain(key.group, key.block, oldest.lsn);
        }
      }
      return false;
    };
  }
}

function show(key: StoredKey, at: Lsn, floor: Lsn, visitor: VersionVisitor): boolean {
  for (const version of key.versions) {
    if (version.lsn <= Math.max(floor, LSN_INVALID)) return true;
    if (version.lsn <= at && !visitor({ ...version })) return false;
  }
  return true;
}
