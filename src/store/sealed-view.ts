// The sealed layers of a timeline and of its ancestors as they were at one moment, opened from plain values:
// what another thread reads. Layers never change, so neither does what is read here; a file that has been
// removed meanwhile is LayerAbsent.

import type { Group, Kind } from "../core/key.ts";
import { LSN_MAX, type Lsn } from "../core/lsn.ts";
import type { LayerEntry } from "./catalog-entries.ts";
import type { LayerFiles } from "./layer-files.ts";
import { LayerMap } from "./layer-map.ts";
import type { KeyVisitor, VersionVisitor } from "./object-store.ts";
import { type StoredValue, type VersionStore, onceEach, valueIn } from "./version-store.ts";

/** One timeline's sealed layers. */
export interface SealedHop {
  readonly directory: string;
  readonly layers: readonly LayerEntry[];
  /** Versions above it are not read: the branch point, for an ancestor. */
  readonly upTo: Lsn;
  /** Files that this process has compared with their checksums. */
  readonly verified: readonly string[];
}

interface Hop {
  readonly map: LayerMap;
  readonly upTo: Lsn;
}

export class SealedView implements VersionStore {
  /** Nothing is still to come. */
  readonly newestLsn = LSN_MAX;
  private readonly hops: readonly Hop[];

  /** The timeline first, then its ancestors from the nearest on. */
  constructor(hops: readonly SealedHop[], files: LayerFiles) {
    this.hops = hops.map(({ directory, layers, upTo, verified }) => {
      const map = new LayerMap(directory, files, layers);
      for (const file of verified) files.trust(map.pathOf({ file }));
      return { map, upTo };
    });
  }

  /** The timeline's own. */
  get own(): LayerMap {
    return this.hops[0]!.map;
  }

  /** In the order of the hops. */
  get maps(): readonly LayerMap[] {
    return this.hops.map(({ map }) => map);
  }

  visit(group: Group, block: number, at: Lsn, floor: Lsn, visitor: VersionVisitor): boolean {
    let top = at;
    for (const { map, upTo } of this.hops) {
      top = Math.min(top, upTo) as Lsn;
      if (top <= floor) return true;
      for (const { layer } of map.layers) {
        if (!layer.visit(group, block, top, floor, visitor)) return false;
      }
    }
    return true;
  }

  value(group: Group, block: number, at: Lsn): StoredValue | undefined {
    return valueIn(this, group, block, at);
  }

  scan(kind: Kind, a: number | undefined, b: number | undefined, each: KeyVisitor): void {
    const once = onceEach(each);
    for (const { map } of this.hops) {
      for (const { layer } of map.layers) layer.scan(kind, a, b, once);
    }
  }

  hasKind(kind: Kind): boolean {
    return this.hops.some(({ map }) => map.hasKind(kind));
  }
}
