// GetPage@LSN: a page as of an LSN, or the redo request that makes it. docs/wire-protocol.md has the
// rules for pages past the end and for missing relations. Nothing here waits or talks to anyone.

import { MalformedInput } from "../core/assert.ts";
import type { ReadError } from "../core/errors.ts";
import { type Group, GroupTable, KIND } from "../core/key.ts";
import { DB_COPY_DEPTH_MAX, RELATION_SIZES_MAX } from "../core/limits.ts";
import { LSN_INVALID, Lsn } from "../core/lsn.ts";
import { PAGE_BYTES, type RelTag, SLRU_SEGMENT_BLOCKS, formatRel } from "../core/page.ts";
import { Chain, type ChainOutcome } from "../core/reconstruct.ts";
import type { RedoRequest, RedoStep } from "../core/redo-request.ts";
import { type Result, err, ok } from "../core/result.ts";
import type { Version } from "../core/version.ts";
import { restorePage } from "../protocol/restore-page.ts";
import type { CacheScope, PageCache } from "./page-cache.ts";
import { readCounts } from "./read-counts.ts";
import { MISSING, Relations } from "./relations.ts";
import { LayerAbsent, StoreCorrupt } from "./store-errors.ts";
import type { VersionStore } from "./version-store.ts";

/** undefined: the page was written. Tell a request from an error by isRedo(). */
export type PageRead = RedoRequest | ReadError | undefined;

export const isRedo = (read: RedoRequest | ReadError): read is RedoRequest => "steps" in read;

/** What reading a page took. */
export interface ReadCost {
  /** A version was looked for at all: not a page past the end, not a missing relation. */
  looked: boolean;
  /** The cache had it. */
  cached: boolean;
  /** Layers looked into, and WAL records to be applied. */
  layers: number;
  records: number;
}

const ANY = (): boolean => false;

/** Reads of one timeline. */
export class PageReader {
  readonly store: VersionStore;
  readonly relations: Relations;
  /** Of the last page that was read. */
  readonly last: ReadCost = { layers: 0, records: 0, looked: false, cached: false };
  private readonly cache: PageCache;
  private readonly chain = new Chain(restorePage);
  private readonly offer = (version: Version): boolean => this.chain.offer(version);
  // Relation forks that pages were read of, and what stands for each in the cache.
  private forks = new GroupTable();
  private scopes: CacheScope[] = [];
  // Pages that are read together are mostly of one fork.
  private rel: RelTag | undefined;
  private group: Group = { kind: KIND.PAGE, a: 0, b: 0, c: 0, d: 0 };
  private scope: CacheScope = 0;

  constructor(store: VersionStore, cache: PageCache) {
    this.store = store;
    this.cache = cache;
    this.relations = new Relations(store);
  }

  /**
   * The page at `block` as of `at`, written to `out` at `outOffset`; zeros past the relation's end. What
   * a redo request makes is written there too. `at` is at or below what has been ingested.
   */
  readPage(rel: RelTag, block: number, at: Lsn, out: Uint8Array, outOffset: number): PageRead {
    const { last } = this;
    last.looked = last.cached = false;
    try {
      const size = this.relations.relSize(rel, at);
      if (size === MISSING) return { kind: "relation-missing", rel, at };
      if (block >= size) {
        out.fill(0, outOffset, outOffset + PAGE_BYTES);
        return undefined;
      }
      if (rel !== this.rel) this.enter(rel);
      const before = readCounts.layers;
      last.looked = true;
      last.records = 0;
      last.cached = this.fromCache(rel, block, at, out, outOffset);
      const read = last.cached ? undefined : this.rebuild(rel, block, at, out, outOffset);
      last.layers = readCounts.layers - before;
      return read;
    } catch (cause) {
      return corruptError(cause, () => `page ${formatRel(rel)} block ${block}`);
    }
  }

  /** Keeps a page that redo has made of `request`, for later reads. Copies it. */
  remember(rel: RelTag, block: number, request: RedoRequest, page: Uint8Array): void {
    const records = request.steps.findLast((step) => step.records.count > 0)?.records;
    if (records === undefined) return;
    if (rel !== this.rel) this.enter(rel);
    this.keep(rel, block, records.lsn(records.count - 1), request.at, page, 0, true);
  }

  /** Keeps a page, whose newest version is at `newest`, as it is at `at`. */
  private keep(
    rel: RelTag,
    block: number,
    newest: Lsn,
    at: Lsn,
    out: Uint8Array,
    start: number,
    byRedo: boolean,
  ): void {
    // A page of a copied database is its page only from the copy on.
    const copy = this.relations.dbCopy(rel.spc, rel.db, at);
    const from = Math.max(newest, copy?.lsn ?? LSN_INVALID) as Lsn;
    const upTo = Math.min(at, this.store.newestLsn) as Lsn;
    if (from <= upTo) this.cache.put(this.scope, block, from, upTo, out, start, !byRedo);
  }

  private enter(rel: RelTag): void {
    const group: Group = { kind: KIND.PAGE, a: rel.spc, b: rel.db, c: rel.rel, d: rel.fork };
    if (this.forks.size > RELATION_SIZES_MAX) {
      // What the cache has of them is not found any more, and is dropped in its turn.
      this.forks = new GroupTable();
      this.scopes = [];
    }
    const fork = this.forks.id(group.kind, group.a, group.b, group.c, group.d);
    this.scope = this.scopes[fork] ??= this.cache.newScope();
    this.group = this.forks.group(fork);
    this.rel = rel;
  }

  /** An SLRU segment as of `at`: its blocks, one after the other. */
  readSlruSegment(slru: number, segment: number, at: Lsn): Result<Uint8Array, ReadError> {
    const what = `SLRU ${slru} segment ${segment.toString(16).toUpperCase().padStart(4, "0")}`;
    try {
      const blocks = this.relations.slruSize(slru, segment, at);
      if (blocks === MISSING) {
        return err({
          kind: "bad-request",
          message: `${what} does not exist at ${Lsn.format(at)}`,
        });
      }
      if (blocks > SLRU_SEGMENT_BLOCKS) {
        throw new StoreCorrupt(what, `${blocks} blocks instead of at most ${SLRU_SEGMENT_BLOCKS}`);
      }
      const group = { kind: KIND.SLRU_PAGE, a: slru, b: 0, c: segment, d: 0 };
      const pages = new Uint8Array(blocks * PAGE_BYTES);
      for (let block = 0; block < blocks; block++) {
        const page = pages.subarray(block * PAGE_BYTES, (block + 1) * PAGE_BYTES);
        this.chain.begin(at, page);
        this.store.visit(group, block, at, LSN_INVALID, (v) => this.chain.offer(v));
        const outcome = this.chain.outcome();
        if (outcome.kind !== "page") {
          throw new StoreCorrupt(`${what} block ${block}`, outcomeText(outcome));
        }
      }
      return ok(pages);
    } catch (cause) {
      return err(corruptError(cause, () => what));
    }
  }

  private fromCache(
    rel: RelTag,
    block: number,
    asked: Lsn,
    out: Uint8Array,
    outOffset: number,
  ): boolean {
    const { cache, store } = this;
    const slot = cache.find(this.scope, block);
    if (slot === undefined) return false;
    // There is nothing above the newest version: no layer has to be asked what is new since then.
    const at = Math.min(asked, store.newestLsn) as Lsn;
    if (at < cache.from(slot)) return false;
    const upTo = cache.upTo(slot);
    if (at > upTo) {
      // Anything newer than the cached page?
      const same = store.visit(this.group, block, at, upTo, ANY);
      if (!same || this.copiedSince(rel, upTo, at)) return false;
      cache.extend(slot, at);
    }
    out.set(cache.page(slot), outOffset);
    return true;
  }

  /** The database was dropped and its oid given to a copy of another, since `after`. */
  private copiedSince(rel: RelTag, after: Lsn, at: Lsn): boolean {
    const copy = this.relations.dbCopy(rel.spc, rel.db, at);
    return copy !== undefined && copy.lsn > after;
  }

  private rebuild(
    rel: RelTag,
    block: number,
    at: Lsn,
    out: Uint8Array,
    outOffset: number,
  ): PageRead {
    const { chain, store } = this;
    chain.begin(at, out, outOffset);
    // The page's own key first; then, if its database was copied, the key in the source database.
    const tags: RelTag[] = [];
    let tag = rel;
    let group = this.group;
    let upTo = at;
    for (let depth = 0; ; depth++) {
      if (depth > DB_COPY_DEPTH_MAX) {
        throw new StoreCorrupt(
          formatRel(rel),
          `copied through over ${DB_COPY_DEPTH_MAX} databases`,
        );
      }
      tags.unshift(tag);
      const copy = this.relations.dbCopy(tag.spc, tag.db, upTo);
      const ended = !store.visit(group, block, upTo, copy?.lsn ?? LSN_INVALID, this.offer);
      if (ended || copy === undefined) break;
      tag = { spc: copy.srcSpc, db: copy.srcDb, rel: tag.rel, fork: tag.fork };
      group = { kind: KIND.PAGE, a: tag.spc, b: tag.db, c: tag.rel, d: tag.fork };
      upTo = copy.lsn;
      chain.enterSource(upTo);
    }
    const outcome = chain.outcome();
    if (outcome.kind === "page") {
      // A copy of what is stored costs as much from here as from there.
      if (!chain.isPlain) this.keep(rel, block, chain.newestLsn, at, out, outOffset, false);
      return undefined;
    }
    if (outcome.kind !== "redo") {
      throw new StoreCorrupt(`page ${formatRel(rel)} block ${block}`, outcomeText(outcome));
    }
    const steps: RedoStep[] = [];
    outcome.steps.forEach((records, i) => {
      this.last.records += records.count;
      if (records.count > 0) steps.push({ rel: tags[i]!, block, records });
    });
    const page = outcome.base ?? out.subarray(outOffset, outOffset + PAGE_BYTES);
    return { base: outcome.base, out: page, steps, at };
  }
}

function outcomeText(outcome: ChainOutcome): string {
  if (outcome.kind === "corrupt") return outcome.reason;
  return outcome.kind === "none" ? "it has no version" : `it has a ${outcome.kind} as its version`;
}

/** What was stored does not make sense: the read fails, the program goes on. */
function corruptError(cause: unknown, what: () => string): ReadError {
  if (cause instanceof StoreCorrupt) {
    if (cause instanceof LayerAbsent) {
      return { kind: "layer-absent", path: cause.path, reason: cause.reason };
    }
    return { kind: "corrupt", what: cause.what, reason: cause.reason };
  }
  if (cause instanceof MalformedInput) {
    return { kind: "corrupt", what: what(), reason: cause.message };
  }
  throw cause;
}
