// GetPage@LSN: a page as of an LSN, or the redo request that makes it. docs/wire-protocol.md has the
// rules for pages past the end and for missing relations. Nothing here waits or talks to anyone.

import { MalformedInput } from "../core/assert.ts";
import type { ReadError } from "../core/errors.ts";
import { type Group, KIND } from "../core/key.ts";
import { DB_COPY_DEPTH_MAX } from "../core/limits.ts";
import { LSN_INVALID, Lsn } from "../core/lsn.ts";
import { PAGE_BYTES, type RelTag, SLRU_SEGMENT_BLOCKS, formatRel } from "../core/page.ts";
import { Chain, type ChainOutcome } from "../core/reconstruct.ts";
import type { RedoRequest, RedoStep } from "../core/redo-request.ts";
import { type Result, err, ok } from "../core/result.ts";
import { restorePage } from "../protocol/restore-page.ts";
import type { PageCache } from "./page-cache.ts";
import { MISSING, Relations } from "./relations.ts";
import { StoreCorrupt } from "./store-errors.ts";
import type { TimelineStore } from "./timeline-store.ts";

/** undefined: the page was written. Tell a request from an error by isRedo(). */
export type PageRead = RedoRequest | ReadError | undefined;

export const isRedo = (read: RedoRequest | ReadError): read is RedoRequest => "steps" in read;

/** Reads of one timeline. */
export class PageReader {
  readonly store: TimelineStore;
  readonly relations: Relations;
  private readonly cache: PageCache;
  private readonly chain = new Chain(restorePage);

  constructor(store: TimelineStore, cache: PageCache) {
    this.store = store;
    this.cache = cache;
    this.relations = new Relations(store);
  }

  /**
   * The page at `block` as of `at`, written to `out` at `outOffset`; zeros past the relation's end. Of a
   * redo request, the base lies in `out` too: it must be taken before the result is written there.
   * `at` is at or below what has been ingested.
   */
  readPage(rel: RelTag, block: number, at: Lsn, out: Uint8Array, outOffset: number): PageRead {
    try {
      const size = this.relations.relSize(rel, at);
      if (size === MISSING) return { kind: "relation-missing", rel, at };
      const page = out.subarray(outOffset, outOffset + PAGE_BYTES);
      if (block >= size) {
        page.fill(0);
        return undefined;
      }
      if (this.fromCache(rel, block, at, page)) return undefined;
      return this.rebuild(rel, block, at, page);
    } catch (cause) {
      return corruptError(cause, () => `page ${formatRel(rel)} block ${block}`);
    }
  }

  /** Keeps a page that redo has made of `request`, for later reads. Copies it. */
  remember(rel: RelTag, block: number, request: RedoRequest, page: Uint8Array): void {
    const records = request.steps.findLast((step) => step.records.count > 0)?.records;
    if (records === undefined) return;
    // A page of a copied database is its page only from the copy on.
    const copy = this.relations.dbCopy(rel.spc, rel.db, request.at);
    const newest = records.lsn(records.count - 1);
    const from = Math.max(newest, copy?.lsn ?? LSN_INVALID) as Lsn;
    const upTo = Math.min(request.at, this.store.newestLsn) as Lsn;
    if (from <= upTo) this.cache.put(this.store.id, rel, block, from, upTo, page);
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

  private fromCache(rel: RelTag, block: number, at: Lsn, page: Uint8Array): boolean {
    const { cache, store } = this;
    const slot = cache.find(store.id, rel, block);
    if (slot === undefined || at < cache.from(slot)) return false;
    const upTo = cache.upTo(slot);
    if (at > upTo) {
      // Anything newer than the cached page?
      const same = store.visit(pageGroup(rel), block, at, upTo, () => false);
      if (!same || this.copiedSince(rel, upTo, at)) return false;
      cache.extend(slot, Math.min(at, store.newestLsn) as Lsn);
    }
    page.set(cache.page(slot));
    return true;
  }

  /** The database was dropped and its oid given to a copy of another, since `after`. */
  private copiedSince(rel: RelTag, after: Lsn, at: Lsn): boolean {
    const copy = this.relations.dbCopy(rel.spc, rel.db, at);
    return copy !== undefined && copy.lsn > after;
  }

  private rebuild(rel: RelTag, block: number, at: Lsn, page: Uint8Array): PageRead {
    const { chain, store } = this;
    chain.begin(at, page);
    // The page's own key first; then, if its database was copied, the key in the source database.
    const tags: RelTag[] = [];
    let tag = rel;
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
      const ended = !store.visit(pageGroup(tag), block, upTo, copy?.lsn ?? LSN_INVALID, (v) =>
        chain.offer(v),
      );
      if (ended || copy === undefined) break;
      tag = { spc: copy.srcSpc, db: copy.srcDb, rel: tag.rel, fork: tag.fork };
      upTo = copy.lsn;
      chain.enterSource(upTo);
    }
    const outcome = chain.outcome();
    if (outcome.kind === "page") return undefined;
    if (outcome.kind !== "redo") {
      throw new StoreCorrupt(`page ${formatRel(rel)} block ${block}`, outcomeText(outcome));
    }
    const steps: RedoStep[] = [];
    outcome.steps.forEach((records, i) => {
      if (records.count > 0) steps.push({ rel: tags[i]!, block, records });
    });
    return { base: outcome.base, steps, at };
  }
}

const pageGroup = (rel: RelTag): Group => {
  return { kind: KIND.PAGE, a: rel.spc, b: rel.db, c: rel.rel, d: rel.fork };
};

function outcomeText(outcome: ChainOutcome): string {
  if (outcome.kind === "corrupt") return outcome.reason;
  return outcome.kind === "none" ? "it has no version" : `it has a ${outcome.kind} as its version`;
}

/** What was stored does not make sense: the read fails, the program goes on. */
function corruptError(cause: unknown, what: () => string): ReadError {
  if (cause instanceof StoreCorrupt) {
    return { kind: "corrupt", what: cause.what, reason: cause.reason };
  }
  if (cause instanceof MalformedInput) {
    return { kind: "corrupt", what: what(), reason: cause.message };
  }
  throw cause;
}
