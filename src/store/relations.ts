// Sizes and directories as of an LSN: what exists, how long it is, what a database consists of. Sizes
// of relations are asked for with every page, so the newest answers are kept with the interval of
// LSNs they hold for.

import { LRUCache } from "lru-cache";
import { MalformedInput } from "../core/assert.ts";
import { type DbCopy, decodeDbCopy } from "../core/db-copy.ts";
import { type Group, KIND, type Kind } from "../core/key.ts";
import { RELATION_SIZES_MAX } from "../core/limits.ts";
import { LSN_INVALID, Lsn } from "../core/lsn.ts";
import { PAGE_BYTES, type RelTag, SPC_DEFAULT } from "../core/page.ts";
import { VERSION } from "../core/version.ts";
import { StoreCorrupt } from "./store-errors.ts";
import type { VersionStore } from "./version-store.ts";

/** What a size lookup answers for something that does not exist. */
export const MISSING = -1;

interface KnownSize {
  readonly blocks: number;
  readonly from: Lsn;
  upTo: Lsn;
}

/** Answers about one timeline's store. Every `at` must be at or below what has been ingested, or LSN_MAX for "now". */
export class Relations {
  private readonly store: VersionStore;
  // Bounded by `maxSize`, because `max` would set its memory aside at once, for every timeline.
  private readonly known = new LRUCache<string, KnownSize>({
    maxSize: RELATION_SIZES_MAX,
    sizeCalculation: () => 1,
  });

  private lastRel: RelTag | undefined;
  private lastAt: Lsn = LSN_INVALID;
  private lastBlocks = MISSING;

  constructor(store: VersionStore) {
    this.store = store;
  }

  /** Blocks of a relation fork at `at`, or MISSING. */
  relSize(rel: RelTag, asked: Lsn): number {
    // Above the newest version nothing changes: so a read of the end is one at an LSN that is settled.
    const at = this.settled(asked);
    // Pages that are read together are mostly of one relation at one LSN.
    if (rel === this.lastRel && at === this.lastAt) return this.lastBlocks;
    const blocks = this.findSize(rel, at);
    this.lastRel = rel;
    this.lastAt = at;
    this.lastBlocks = blocks;
    return blocks;
  }

  private findSize(rel: RelTag, at: Lsn): number {
    const name = `${rel.spc}/${rel.db}/${rel.rel}/${rel.fork}`;
    const known = this.known.get(name);
    if (known !== undefined && known.from <= at && at <= known.upTo) return known.blocks;
    const group = { kind: KIND.REL_SIZE, a: rel.spc, b: rel.db, c: rel.rel, d: rel.fork };
    if (known !== undefined && at > known.upTo) {
      const changed = !this.store.visit(group, 0, at, known.upTo, () => false);
      if (!changed) {
        known.upTo = Math.max(known.upTo, this.settled(at)) as Lsn;
        return known.blocks;
      }
    }
    return this.load(name, group, at);
  }

  exists(rel: RelTag, at: Lsn): boolean {
    return this.relSize(rel, at) !== MISSING;
  }

  /** Relation forks of a database (pg_global: spc 1664, db 0), ascending, with their size in blocks. */
  relations(
    spc: number,
    db: number,
    at: Lsn,
  ): readonly { readonly rel: number; readonly fork: number; readonly blocks: number }[] {
    const found: { rel: number; fork: number; blocks: number }[] = [];
    for (const { group, value } of this.live(KIND.REL_SIZE, spc, db, at)) {
      found.push({ rel: group.c, fork: group.d, blocks: decodeSize(value, "a relation's size") });
    }
    return found.sort((x, y) => x.rel - y.rel || x.fork - y.fork);
  }

  /** Databases with a relation map, ascending; pg_global is spc 1664, db 0. */
  databases(
    at: Lsn,
  ): readonly { readonly spc: number; readonly db: number; readonly relmap: Uint8Array }[] {
    return this.live(KIND.RELMAP, undefined, undefined, at)
      .map(({ group, value }) => ({ spc: group.a, db: group.b, relmap: value }))
      .sort((x, y) => x.spc - y.spc || x.db - y.db);
  }

  /** Bytes of all relations of a database in pg_default; 0 for an unknown one (wire-protocol: DbSize). */
  dbSize(db: number, at: Lsn): number {
    let blocks = 0;
    for (const relation of this.relations(SPC_DEFAULT, db, at)) blocks += relation.blocks;
    return blocks * PAGE_BYTES;
  }

  /** Bytes of all relations of all databases. Walks all sizes. */
  logicalSize(at: Lsn): number {
    let blocks = 0;
    for (const { value } of this.live(KIND.REL_SIZE, undefined, undefined, at)) {
      blocks += decodeSize(value, "a relation's size");
    }
    return blocks * PAGE_BYTES;
  }

  /** Blocks of an SLRU segment, or MISSING. */
  slruSize(slru: number, segment: number, at: Lsn): number {
    const group = { kind: KIND.SLRU_SIZE, a: slru, b: 0, c: segment, d: 0 };
    const found = this.store.value(group, 0, at);
    return found === undefined ? MISSING : decodeSize(found.value, "an SLRU segment's size");
  }

  /** Segment numbers of an SLRU, ascending. */
  slruSegments(slru: number, at: Lsn): readonly number[] {
    return this.live(KIND.SLRU_SIZE, slru, undefined, at)
      .map(({ group }) => group.c)
      .sort((x, y) => x - y);
  }

  /** Prepared transactions, ascending: xid and the main data of the PREPARE record. */
  twoPhase(at: Lsn): readonly { readonly xid: number; readonly body: Uint8Array }[] {
    return this.live(KIND.TWO_PHASE, undefined, undefined, at)
      .map(({ group, value }) => ({ xid: group.c, body: value }))
      .sort((x, y) => x.xid - y.xid);
  }

  /** Replication origins, ascending, with their remote LSN. */
  origins(at: Lsn): readonly { readonly id: number; readonly lsn: Lsn }[] {
    return this.live(KIND.ORIGIN, undefined, undefined, at)
      .map(({ group, value }) => ({ id: group.c, lsn: decodeLsn(value) }))
      .sort((x, y) => x.id - y.id);
  }

  /** pg_control as a file, or undefined before it is known. */
  control(at: Lsn): Uint8Array | undefined {
    return this.store.value({ kind: KIND.CONTROL, a: 0, b: 0, c: 0, d: 0 }, 0, at)?.value;
  }

  /** The CheckPoint struct as of `at`. */
  checkpoint(at: Lsn): Uint8Array | undefined {
    return this.store.value({ kind: KIND.CHECKPOINT, a: 0, b: 0, c: 0, d: 0 }, 0, at)?.value;
  }

  /** Where pages of a database that was made by copying files come from; undefined for all others. */
  dbCopy(spc: number, db: number, at: Lsn): DbCopy | undefined {
    if (!this.store.hasKind(KIND.DB_COPY)) return undefined;
    const found = this.store.value({ kind: KIND.DB_COPY, a: spc, b: db, c: 0, d: 0 }, 0, at);
    return found === undefined ? undefined : decodeDbCopy(found.value);
  }

  private load(name: string, group: Group, at: Lsn): number {
    let blocks = MISSING;
    let from = LSN_INVALID;
    this.store.visit(group, 0, at, LSN_INVALID, ({ type, bytes, start, length, lsn }) => {
      from = lsn;
      if (type === VERSION.VALUE) {
        blocks = decodeSize(bytes.subarray(start, start + length), "a relation's size");
      }
      return false;
    });
    const upTo = this.settled(at);
    const known = this.known.get(name);
    // An answer about the past does not push out what is known of the present.
    const isNewer = known === undefined || known.from < from;
    if (from !== LSN_INVALID && from <= upTo && isNewer) {
      this.known.set(name, { blocks, from, upTo });
    }
    return blocks;
  }

  /** Up to where an answer at `at` can never change. */
  private settled(at: Lsn): Lsn {
    return Math.min(at, this.store.newestLsn) as Lsn;
  }

  private live(
    kind: Kind,
    a: number | undefined,
    b: number | undefined,
    at: Lsn,
  ): { readonly group: Group; readonly value: Uint8Array }[] {
    const keys: { readonly group: Group; readonly block: number }[] = [];
    this.store.scan(kind, a, b, (group, block) => keys.push({ group, block }));
    const found: { group: Group; value: Uint8Array }[] = [];
    for (const { group, block } of keys) {
      const value = this.store.value(group, block, at);
      if (value !== undefined) found.push({ group, value: value.value });
    }
    return found;
  }
}

function decodeSize(value: Uint8Array, what: string): number {
  if (value.length !== 4) throw new StoreCorrupt(what, `${value.length} bytes instead of 4`);
  return new DataView(value.buffer, value.byteOffset, 4).getUint32(0, true);
}

function decodeLsn(value: Uint8Array): Lsn {
  if (value.length !== 8) throw new MalformedInput(`origin LSN of ${value.length} bytes`);
  const view = new DataView(value.buffer, value.byteOffset, 8);
  return Lsn.fromParts(view.getUint32(4, true), view.getUint32(0, true));
}
