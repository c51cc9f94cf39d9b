// What a read costs once compaction has caught up: how many layers it finds versions in, and how many records
// it applies. Of pages that read from another database by a copy, only what is their own.

import { KIND } from "../../src/core/key.ts";
import { READ_RECORDS_MAX } from "../../src/core/limits.ts";
import { LSN_INVALID, LSN_MAX, type Lsn } from "../../src/core/lsn.ts";
import { VERSION, endsChain } from "../../src/core/version.ts";
import type { TimelineStore } from "../../src/store/timeline-store.ts";
import { must } from "./law.ts";
import type { Model } from "./model.ts";
import { DBS, RELS, SPC } from "./workload.ts";

const LAYERS_MAX = 8;

/** What the sealed layers of a timeline have been: what bounds a read in the midst of its history. */
export interface Sealed {
  /** Records of the longest chain that one of them had. */
  longestChain: number;
  /** So many tiers were merged at once. */
  mergedAtOnce: number;
}

/** Throws when some page at the end of the timeline takes more than it may. Everything is sealed. */
export function checkBounds(store: TimelineStore, model: Model): void {
  checkPages(store, model, LSN_MAX, READ_RECORDS_MAX);
}

/**
 * As checkBounds, at any LSN that is kept. Where tiers were merged, the newest version of a page has an image
 * if its chain is long; below it lies what those tiers had together.
 */
export function checkHistory(store: TimelineStore, model: Model, at: Lsn, sealed: Sealed): void {
  checkPages(store, model, at, sealed.longestChain * sealed.mergedAtOnce + READ_RECORDS_MAX);
}

function checkPages(store: TimelineStore, model: Model, at: Lsn, recordsMax: number): void {
  for (const db of DBS) {
    for (const rel of RELS) {
      const blocks = model.size(`${db}/${rel}`, Math.min(at, model.last));
      for (let block = 0; block < blocks; block++) checkPage(store, db, rel, block, at, recordsMax);
    }
  }
}

function checkPage(
  store: TimelineStore,
  db: number,
  rel: number,
  block: number,
  at: Lsn,
  recordsMax: number,
): void {
  const group = { kind: KIND.PAGE, a: SPC, b: db, c: rel, d: 0 };
  const layers = new Set<string>();
  let records = 0;
  store.visitNamed(group, block, at, LSN_INVALID, ({ type, flags }, layer) => {
    layers.add(layer);
    if (type === VERSION.RECORD) records++;
    return !endsChain(type, flags);
  });
  const page = `page ${db}/${rel}/${block} at ${at}`;
  must(records <= recordsMax, () => `${page} is read through ${records} records`);
  must(layers.size <= LAYERS_MAX, () => `${page} is read from ${layers.size} layers`);
}
