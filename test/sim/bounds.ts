// What a read costs once compaction has caught up: how many layers it finds versions in, and how many records
// it applies. Of pages that read from another database by a copy, only what is their own.

import { KIND } from "../../src/core/key.ts";
import { READ_RECORDS_MAX } from "../../src/core/limits.ts";
import { LSN_INVALID, LSN_MAX } from "../../src/core/lsn.ts";
import { VERSION, endsChain } from "../../src/core/version.ts";
import type { TimelineStore } from "../../src/store/timeline-store.ts";
import { must } from "./law.ts";
import type { Model } from "./model.ts";
import { DBS, RELS, SPC } from "./workload.ts";

const LAYERS_MAX = 8;

/** Throws when some page at the end of the timeline takes more than it may. Everything is sealed. */
export function checkBounds(store: TimelineStore, model: Model): void {
  for (const db of DBS) {
    for (const rel of RELS) {
      const blocks = model.size(`${db}/${rel}`, model.last);
      for (let block = 0; block < blocks; block++) checkPage(store, db, rel, block);
    }
  }
}

function checkPage(store: TimelineStore, db: number, rel: number, block: number): void {
  const group = { kind: KIND.PAGE, a: SPC, b: db, c: rel, d: 0 };
  const layers = new Set<string>();
  let records = 0;
  store.visitNamed(group, block, LSN_MAX, LSN_INVALID, ({ type, flags }, layer) => {
    layers.add(layer);
    if (type === VERSION.RECORD) records++;
    return !endsChain(type, flags);
  });
  const page = `page ${db}/${rel}/${block}`;
  must(records <= READ_RECORDS_MAX, () => `${page} is read through ${records} records`);
  must(layers.size <= LAYERS_MAX, () => `${page} is read from ${layers.size} layers`);
}
