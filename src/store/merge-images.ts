// Which pages should get an image while they are merged: those where many records lie behind a version
// that someone reads from. The image is the page as the store reads it, at an LSN that is kept.

import { KIND } from "../core/key.ts";
import { IMAGE_OPS_MAX, IMAGE_RECORDS_MAX } from "../core/limits.ts";
import { LSN_INVALID, LSN_MAX, type Lsn } from "../core/lsn.ts";
import { PAGE_BYTES, type RelTag } from "../core/page.ts";
import { Chain } from "../core/reconstruct.ts";
import type { RedoRequest } from "../core/redo-request.ts";
import { VERSION, type Version, endsChain } from "../core/version.ts";
import { restorePage } from "../protocol/restore-page.ts";
import type { KeyKeep } from "./merge-keep.ts";
import type { MergeKey } from "./merge-keys.ts";
import { type PageReader, isRedo } from "./read-page.ts";
import { LayerAbsent } from "./store-errors.ts";

export interface WantedImage {
  /** LSN of the version that it replaces. */
  readonly lsn: Lsn;
  /** Where it is read: an LSN at which the merged tiers are complete and that version is the newest. */
  readonly at: Lsn;
}

interface Counter extends WantedImage {
  records: number;
  ops: number;
}

const isLongChain = ({ records, ops }: Pick<Counter, "records" | "ops">): boolean =>
  records > IMAGE_RECORDS_MAX || ops > IMAGE_OPS_MAX;

export class ImagePlanner {
  private readonly reader: PageReader;
  private readonly newest: Lsn;
  private readonly oldest: Lsn;
  private readonly chain = new Chain(restorePage);

  /** `newest`, `oldest`: the LSNs between which the versions lie of the tiers that are merged. */
  constructor(reader: PageReader, newest: Lsn, oldest: Lsn) {
    this.reader = reader;
    this.newest = newest;
    this.oldest = oldest;
  }

  /** LSNs at which the key should get an image, newest first. */
  wanted(key: MergeKey, keep: KeyKeep): readonly WantedImage[] {
    const { kind } = key.group;
    if (kind !== KIND.PAGE && kind !== KIND.SLRU_PAGE) return [];
    const kept = keep.cutoffNeeded ? [keep.cutoff, ...keep.pins] : keep.pins;
    // Tiers that are newer have versions of their own below these LSNs: an image must not show them.
    const points = kept.map((lsn) => Math.min(lsn, this.newest) as Lsn);
    const found: WantedImage[] = [];
    let counters: Counter[] = [];
    let next = 0;
    let first = true;
    let lastLsn: Lsn = LSN_MAX;
    const end = (): void => {
      for (const { lsn, at, ...counts } of counters) {
        const isLong = isLongChain(counts);
        if (isLong && !found.some((image) => image.lsn === lsn)) found.push({ lsn, at });
      }
      counters = [];
    };
    const count = ({ type, flags }: Version): void => {
      for (const counter of counters) {
        if (type === VERSION.RECORD) counter.records++;
        if (type === VERSION.OP) counter.ops++;
      }
      if (endsChain(type, flags)) end();
    };
    for (const layer of key.layers) {
      const more = layer.visit(key.group, key.block, LSN_MAX, LSN_INVALID, (version) => {
        const { lsn } = version;
        if (lsn !== lastLsn) {
          if (first && lsn > keep.cutoff) counters.push({ lsn, at: lsn, records: 0, ops: 0 });
          first = false;
          let at: Lsn | undefined;
          for (; next < points.length && lsn <= points[next]!; next++) at ??= points[next]!;
          if (at !== undefined) counters.push({ lsn, at, records: 0, ops: 0 });
        }
        lastLsn = lsn;
        count(version);
        return counters.length > 0 || next < points.length;
      });
      if (!more) break;
    }
    // What lies below the merged tiers is read with them.
    const below = (this.oldest - 1) as Lsn;
    if (counters.length > 0) {
      this.reader.store.visit(key.group, key.block, below, LSN_INVALID, (version) => {
        count(version);
        return !counters.every(isLongChain);
      });
    }
    end();
    return found;
  }

  /** The page, or the request that makes it; undefined when it is better left as it is. Throws LayerAbsent. */
  make(key: MergeKey, { lsn, at }: WantedImage): RedoRequest | Uint8Array | undefined {
    const { group, block } = key;
    const page = new Uint8Array(PAGE_BYTES);
    if (group.kind === KIND.SLRU_PAGE) return this.slruPage(key, at, page);
    const rel: RelTag = { spc: group.a, db: group.b, rel: group.c, fork: group.d };
    const { relations } = this.reader;
    if (block >= relations.relSize(rel, at)) return undefined;
    // The database's oid was given to a copy since: the page is not made of this version.
    const copy = relations.dbCopy(rel.spc, rel.db, at);
    if (copy !== undefined && copy.lsn >= lsn) return undefined;
    const read = this.reader.readPage(rel, block, at, page, 0);
    if (read === undefined) return page;
    if (isRedo(read)) return read;
    if (read.kind === "layer-absent") throw new LayerAbsent(read.path);
    return undefined;
  }

  private slruPage(key: MergeKey, at: Lsn, page: Uint8Array): Uint8Array | undefined {
    const { group, block } = key;
    if (block >= this.reader.relations.slruSize(group.a, group.c, at)) return undefined;
    this.chain.begin(at, page);
    this.reader.store.visit(group, block, at, LSN_INVALID, (version) => this.chain.offer(version));
    return this.chain.outcome().kind === "page" ? page : undefined;
  }
}
