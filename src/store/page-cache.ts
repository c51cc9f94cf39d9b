// Pages that redo has rebuilt, least recently used ones dropped, bounded in bytes. A page is kept
// with the LSNs it is right for: from its newest version to the highest LSN at which no newer one
// was found. History never changes (I1), so an entry never becomes wrong, only old.

import { LRUCache } from "lru-cache";
import type { TimelineId } from "../core/ids.ts";
import { PAGE_CACHE_BYTES_MAX } from "../core/limits.ts";
import type { Lsn } from "../core/lsn.ts";
import { PAGE_BYTES, type RelTag } from "../core/page.ts";

/** What an entry costs besides its page, about. */
const ENTRY_BYTES = 300;

export interface CachedPage {
  readonly page: Uint8Array;
  /** LSN of the newest version in it. */
  readonly from: Lsn;
  upTo: Lsn;
}

export class PageCache {
  private readonly pages: LRUCache<string, CachedPage>;

  constructor(bytesMax = PAGE_CACHE_BYTES_MAX) {
    this.pages = new LRUCache({ max: Math.floor(bytesMax / (PAGE_BYTES + ENTRY_BYTES)) });
  }

  get(timeline: TimelineId, rel: RelTag, block: number): CachedPage | undefined {
    return this.pages.get(nameOf(timeline, rel, block));
  }

  /** Copies the page. One that is known to be newer stays. */
  put(
    timeline: TimelineId,
    rel: RelTag,
    block: number,
    from: Lsn,
    upTo: Lsn,
    page: Uint8Array,
  ): void {
    const name = nameOf(timeline, rel, block);
    const known = this.pages.peek(name);
    if (known !== undefined && known.from >= from) {
      if (known.from === from && known.upTo < upTo) known.upTo = upTo;
      return;
    }
    this.pages.set(name, { page: page.slice(0, PAGE_BYTES), from, upTo });
  }

  clear(): void {
    this.pages.clear();
  }
}

const nameOf = (timeline: TimelineId, rel: RelTag, block: number): string =>
  `${timeline}/${rel.spc}/${rel.db}/${rel.rel}/${rel.fork}/${block}`;
