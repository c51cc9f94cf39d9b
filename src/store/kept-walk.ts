// Walks all sealed versions of a timeline in bounded turns and adds up for whom they are kept
// (core/kept-bytes.ts). Reads only; layers that are merged meanwhile end the walk, and the caller begins
// anew. A layer whose file is not here stops it at its key: it goes on from there when the file is.

import { type KeptFor, KeptBytes } from "../core/kept-bytes.ts";
import { MERGE_KEYS_PER_TURN, MERGE_TURN_MS_MAX } from "../core/limits.ts";
import { LSN_INVALID, LSN_MAX, type Lsn } from "../core/lsn.ts";
import type { VersionType } from "../core/version.ts";
import { KeepRules, type Retained } from "./merge-keep.ts";
import { type MergeKey, MergeKeys } from "./merge-keys.ts";
import type { Relations } from "./relations.ts";
import type { TimelineStore } from "./timeline-store.ts";

/** Bytes that a version costs besides its contents, in a run. */
const VERSION_OVERHEAD_BYTES = 8;

interface Met {
  readonly lsn: Lsn;
  readonly type: VersionType;
  readonly flags: number;
  readonly bytes: number;
}

export class KeptWalk {
  private readonly store: TimelineStore;
  private readonly layers: unknown;
  private readonly rules: KeepRules;
  private readonly keys: MergeKeys;
  private readonly sums: KeptBytes;
  /** Of which not all layers could be read. */
  private unread: MergeKey | undefined;

  constructor(store: TimelineStore, relations: Relations, retained: Retained) {
    this.store = store;
    this.layers = store.map.layers;
    this.rules = new KeepRules(store, relations, retained);
    this.keys = new MergeKeys(store.map.tiers);
    this.sums = new KeptBytes(retained.pins.filter((lsn) => lsn < retained.cutoff));
  }

  /** True when other layers have taken the place of those that are walked. */
  get isStale(): boolean {
    return this.store.map.layers !== this.layers;
  }

  /** One turn; true when there is more. Throws StoreCorrupt; after LayerAbsent it may be called again. */
  step(steadyMs: () => number): boolean {
    const { sums } = this;
    const end = steadyMs() + MERGE_TURN_MS_MAX;
    for (let i = 1; i <= MERGE_KEYS_PER_TURN; i++) {
      const key = (this.unread ??= this.keys.next());
      if (key === undefined) return false;
      const { cutoff, cutoffNeeded, pins } = this.rules.of(key.group, key.block);
      const versions = versionsOf(key);
      this.unread = undefined;
      sums.begin(cutoff, cutoffNeeded, pins);
      for (const { lsn, type, flags, bytes } of versions) sums.add(lsn, type, flags, bytes);
      if (i % 16 === 0 && steadyMs() > end) break;
    }
    return true;
  }

  /** What was found, as bytes of the layers' files: keys, filters and what pages leave empty are shared out. */
  get result(): KeptFor {
    const { kept, totalBytes } = this.sums;
    const scale = totalBytes === 0 ? 0 : this.store.sealedBytes / totalBytes;
    const scaled = (bytes: number): number => Math.round(bytes * scale);
    return {
      windowBytes: scaled(kept.windowBytes),
      supersededBytes: scaled(kept.supersededBytes),
      pins: new Map(
        [...kept.pins].map(([lsn, { bytes, aloneBytes }]) => [
          lsn,
          { bytes: scaled(bytes), aloneBytes: scaled(aloneBytes) },
        ]),
      ),
    };
  }
}

/** All of them, before any is counted: a layer may not be here. */
function versionsOf({ group, block, layers }: MergeKey): readonly Met[] {
  const versions: Met[] = [];
  for (const layer of layers) {
    layer.visit(group, block, LSN_MAX, LSN_INVALID, ({ lsn, type, flags, length }) => {
      versions.push({ lsn, type, flags, bytes: length + VERSION_OVERHEAD_BYTES });
      return true;
    });
  }
  return versions;
}
