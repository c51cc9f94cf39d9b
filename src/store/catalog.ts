// The catalog of one tenant: timelines, the layer map, leases, settings. A small LMDB environment;
// a change is one transaction that is on disk when the call returns. Read only when something is
// opened or listed, never on the page path.
//
//   key (text)                          value: CRC-32C in 8 hex digits, a space, JSON
//   format                              number
//   tenant                              TenantEntry
//   timeline/<id>                       TimelineEntry
//   layer/<timeline id>/<file>          LayerEntry
//   lease/<timeline id>/<lsn>/<owner>   LeaseEntry     (lsn in 16 hex digits)
//   snapshot/<timeline id>/<name>       SnapshotEntry
//   setting/<name>                      any JSON
//
// A catalog of format 1 is read as it is, and has format 2 from its first change on: a program that
// knows no snapshots must not take it then, because it would let go of what they keep.

import fs from "node:fs";
import { open } from "lmdb";
import type { z } from "zod";
import { prettifyError } from "zod";
import { assert } from "../core/assert.ts";
import type { Holds } from "../core/holds.ts";
import type { TimelineId } from "../core/ids.ts";
import type { Lsn } from "../core/lsn.ts";
import { type Result, err, ok } from "../core/result.ts";
import { crc32c } from "../protocol/crc32c.ts";
import {
  type LayerEntry,
  type LeaseEntry,
  type SettingValue,
  type SnapshotEntry,
  type TenantEntry,
  type TimelineEntry,
  layerEntry,
  leaseEntry,
  settingValue,
  snapshotEntry,
  tenantEntry,
  timelineEntry,
} from "./catalog-entries.ts";
import { lmdbWriteError, makeLockFile, requireSpace } from "./lmdb-space.ts";
import { StoreCorrupt, StoreFailed, StoreFormat, StoreFull, errorText } from "./store-errors.ts";

export const CATALOG_FORMAT = 2;
/** Without snapshots and logical sizes. */
const OLDER_FORMAT = 1;
/** Address space, not memory or disk: 4 GiB hold ten million layer entries. */
const MAP_BYTES = 4 * 1024 ** 3;
const KEY_BYTES_MAX = 400;
// lmdb.h of lmdb 3.5.6: MDB_MAGIC, behind a page header of 24 bytes.
const LMDB_PAGE_BYTES = 4096;
const LMDB_MAGIC_AT = 24;
const LMDB_MAGIC = 0xbeefc0de;

/** A timeline name is taken: the caller chose it, so it is a refusal. */
export interface NameTaken {
  readonly kind: "name-taken";
  readonly by: TimelineId;
}

/** The edits of one transaction. */
export interface CatalogChange {
  putTenant(entry: TenantEntry): void;
  putTimeline(entry: TimelineEntry): void;
  /** Removes the timeline with its layer entries, leases and snapshots. */
  removeTimeline(id: TimelineId): void;
  putLayer(entry: LayerEntry): void;
  removeLayer(entry: Pick<LayerEntry, "timeline" | "file">): void;
  putLease(entry: LeaseEntry): void;
  removeLease(entry: Pick<LeaseEntry, "timeline" | "lsn" | "owner">): void;
  putSnapshot(entry: SnapshotEntry): void;
  removeSnapshot(entry: Pick<SnapshotEntry, "timeline" | "name">): void;
  putSetting(name: string, value: SettingValue): void;
}

/** Where entries are kept: what is used of LMDB. */
export interface CatalogDb {
  get(key: string): string | undefined;
  /** In order, from `start` (inclusive) to `end` (exclusive). */
  getKeys(range: { start?: string; end?: string; limit?: number }): Iterable<string>;
  putSync(key: string, value: string): unknown;
  removeSync(key: string): unknown;
  /** All of `edits` or, when it throws, nothing; on disk when it returns. */
  transactionSync(edits: () => void): void;
  close(): Promise<void>;
}

export class Catalog {
  readonly path: string;
  /** Differs whenever leases or snapshots may have changed, or a branch went: who remembers what is pinned looks again. */
  holdsVersion = 0;
  private readonly db: CatalogDb;
  /** It has the older format, until its next change. */
  private isOlder = false;

  /**
   * Opens or creates the file at `path`, unless it is told where the entries are kept. Throws
   * StoreFormat, StoreCorrupt, StoreFull, StoreFailed.
   */
  constructor(path: string, db: CatalogDb = openCatalogFile(path)) {
    this.path = path;
    this.db = db;
    this.checkFormat();
  }

  tenant(): TenantEntry | undefined {
    return this.one("tenant", tenantEntry);
  }

  timeline(id: TimelineId): TimelineEntry | undefined {
    return this.one(`timeline/${id}`, timelineEntry);
  }

  /** In order of ids. */
  timelines(): readonly TimelineEntry[] {
    return this.all("timeline/", timelineEntry);
  }

  /** Newest first: by sequence, then by key range. */
  layers(timeline: TimelineId): readonly LayerEntry[] {
    const layers = [...this.all(`layer/${timeline}/`, layerEntry)];
    return layers.sort((x, y) => y.sequence - x.sequence || (x.firstKey < y.firstKey ? -1 : 1));
  }

  leases(timeline: TimelineId): readonly LeaseEntry[] {
    return this.all(`lease/${timeline}/`, leaseEntry);
  }

  /** In order of names. */
  snapshots(timeline: TimelineId): readonly SnapshotEntry[] {
    return this.all(`snapshot/${timeline}/`, snapshotEntry);
  }

  /** What is held of a timeline: core/holds.ts. */
  holds(timeline: TimelineId): Holds<LeaseEntry, SnapshotEntry> {
    return { leases: this.leases(timeline), snapshots: this.snapshots(timeline) };
  }

  setting(name: string): SettingValue | undefined {
    return this.one(`setting/${name}`, settingValue);
  }

  /**
   * One transaction, durable when this returns; nothing of it happened when it throws or refuses.
   * The edits see the state before them through the catalog's own reads.
   */
  change(edit: (change: CatalogChange) => void): Result<void, NameTaken> {
    let taken: NameTaken | undefined;
    try {
      // Without overlappingSync the commit inside fsyncs before transactionSync returns.
      this.db.transactionSync(() => {
        const renamed = new Set<TimelineId>();
        if (this.isOlder) this.put("format", CATALOG_FORMAT);
        edit(this.edits(renamed));
        if (renamed.size > 0) taken = this.clashingName();
        if (taken !== undefined) throw new Refused();
      });
    } catch (cause) {
      if (cause instanceof Refused && taken !== undefined) return err(taken);
      if (cause instanceof Error && !isLmdbError(cause)) throw cause;
      throw this.orUnusable(lmdbWriteError(this.path, "writing", cause));
    }
    this.isOlder = false;
    return ok(undefined);
  }

  /**
   * LMDB that could not write one of its two first pages, even for want of space, answers nothing more until it is
   * opened anew: the process must stop. (On most file systems those pages have their place on the disk.)
   */
  private orUnusable(error: StoreFull | StoreFailed): StoreFull | StoreFailed {
    if (error instanceof StoreFailed) return error;
    try {
      this.db.transactionSync(() => {});
      return error;
    } catch (cause) {
      const again = lmdbWriteError(this.path, "writing", cause);
      return again instanceof StoreFull ? error : again;
    }
  }

  async close(): Promise<void> {
    await this.db.close();
  }

  private edits(renamed: Set<TimelineId>): CatalogChange {
    const put = (key: string, value: unknown): void => this.put(key, value);
    const putHold = (key: string, value: unknown): void => {
      this.holdsVersion++;
      put(key, value);
    };
    const remove = (key: string): void => void this.db.removeSync(key);
    const removeHold = (key: string): void => {
      this.holdsVersion++;
      remove(key);
    };
    return {
      putTenant: (entry) => put("tenant", entry),
      putTimeline: (entry) => {
        if (this.timeline(entry.id)?.name !== entry.name) renamed.add(entry.id);
        put(`timeline/${entry.id}`, entry);
      },
      removeTimeline: (id) => {
        removeHold(`timeline/${id}`);
        for (const prefix of [`layer/${id}/`, `lease/${id}/`, `snapshot/${id}/`]) {
          for (const key of this.keys(prefix)) remove(key);
        }
      },
      putLayer: (entry) => put(layerKey(entry), entry),
      removeLayer: (entry) => remove(layerKey(entry)),
      putLease: (entry) => putHold(leaseKey(entry), entry),
      removeLease: (entry) => removeHold(leaseKey(entry)),
      putSnapshot: (entry) => {
        putHold(snapshotKey(entry), entry);
      },
      removeSnapshot: (entry) => removeHold(snapshotKey(entry)),
      putSetting: (name, value) => put(`setting/${name}`, value),
    };
  }

  private clashingName(): NameTaken | undefined {
    const byName = new Map<string, TimelineId>();
    for (const { id, name } of this.timelines()) {
      if (byName.has(name)) return { kind: "name-taken", by: byName.get(name)! };
      byName.set(name, id);
    }
    return undefined;
  }

  private checkFormat(): void {
    const text = this.db.get("format");
    if (text === undefined) {
      const [first] = this.db.getKeys({ limit: 1 });
      if (first !== undefined) throw new StoreCorrupt(this.path, "it has no format number");
      this.change(() => this.put("format", CATALOG_FORMAT));
      return;
    }
    const format = this.parse("format", text);
    this.isOlder = format === OLDER_FORMAT;
    if (format !== CATALOG_FORMAT && !this.isOlder) {
      throw new StoreFormat(
        `${this.path} has catalog format ${String(format)}, this program reads ` +
          `${OLDER_FORMAT} and ${CATALOG_FORMAT}; use the version of pageserver that wrote it`,
      );
    }
  }

  private put(key: string, value: unknown): void {
    assert(key.length <= KEY_BYTES_MAX, `catalog key of ${key.length} characters`);
    const json = JSON.stringify(value);
    this.db.putSync(key, `${sum(key, json)} ${json}`);
  }

  private keys(prefix: string): readonly string[] {
    return this.read(() => [...this.db.getKeys({ start: prefix, end: `${prefix}\uffff` })]);
  }

  private all<S extends z.ZodType>(prefix: string, schema: S): readonly z.infer<S>[] {
    return this.keys(prefix).map((key) => this.one(key, schema)!);
  }

  private one<S extends z.ZodType>(key: string, schema: S): z.infer<S> | undefined {
    const text = this.read(() => this.db.get(key));
    if (text === undefined) return undefined;
    const entry = schema.safeParse(this.parse(key, text));
    if (!entry.success) throw new StoreCorrupt(this.path, `${key}: ${prettifyError(entry.error)}`);
    return entry.data;
  }

  private read<T>(from: () => T): T {
    try {
      return from();
    } catch (cause) {
      if (!(cause instanceof Error) || !isLmdbError(cause)) throw cause;
      throw new StoreFailed(this.path, "reading", cause);
    }
  }

  private parse(key: string, text: string): unknown {
    const json = text.slice(9);
    if (text.slice(0, 9) !== `${sum(key, json)} `) {
      throw new StoreCorrupt(this.path, `${key} fails its checksum`);
    }
    return JSON.parse(json);
  }
}

/** The LMDB file at `path`, created if it is missing. Throws StoreCorrupt, StoreFull, StoreFailed. */
export function openCatalogFile(path: string): CatalogDb {
  const isNew = !fs.existsSync(path);
  if (!isNew) checkLmdbFile(path);
  else requireSpace(path);
  makeLockFile(path);
  try {
    return open<string, string>({
      path,
      noSubdir: true,
      encoding: "string",
      pageSize: 4096,
      overlappingSync: false,
      maxReaders: 8,
      mapSize: MAP_BYTES,
    });
  } catch (cause) {
    if (isNew) throw lmdbWriteError(path, "creating", cause);
    throw new StoreCorrupt(path, `LMDB cannot open it: ${errorText(cause)}`);
  }
}

/** LMDB ends the process when it is given something else: its two meta pages must look like its own. */
function checkLmdbFile(path: string): void {
  const meta = Buffer.alloc(2 * LMDB_PAGE_BYTES);
  const fd = fs.openSync(path, "r");
  const got = fs.readSync(fd, meta, 0, meta.length, 0);
  fs.closeSync(fd);
  if (got === 0) return; // created, and the crash came before its first transaction
  for (const page of [0, LMDB_PAGE_BYTES]) {
    if (got < meta.length || meta.readUInt32LE(page + LMDB_MAGIC_AT) !== LMDB_MAGIC) {
      throw new StoreCorrupt(path, "it is not an LMDB file");
    }
  }
}

/** Its bindings say so by an errno, or only in words. */
const isLmdbError = (cause: Error): boolean => "code" in cause || /\bMDB_/.test(cause.message);

/** Rolls a transaction back; caught in `change`. */
class Refused extends Error {}

const sum = (key: string, json: string): string =>
  crc32c(Buffer.from(key + json))
    .toString(16)
    .padStart(8, "0");

const layerKey = (entry: Pick<LayerEntry, "timeline" | "file">): string =>
  `layer/${entry.timeline}/${entry.file}`;

const leaseKey = (entry: Pick<LeaseEntry, "timeline" | "lsn" | "owner">): string =>
  `lease/${entry.timeline}/${lsnHex(entry.lsn)}/${entry.owner}`;

const snapshotKey = (entry: Pick<SnapshotEntry, "timeline" | "name">): string =>
  `snapshot/${entry.timeline}/${entry.name}`;

/** 16 hex digits: text order is LSN order. */
export const lsnHex = (lsn: Lsn): string => lsn.toString(16).padStart(16, "0");
