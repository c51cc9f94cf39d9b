// The logical size of a timeline by a walk over its sealed layers: what the kept one is compared with.

import { type Group, KIND } from "../core/key.ts";
import { LSN_INVALID, type Lsn } from "../core/lsn.ts";
import { PAGE_BYTES } from "../core/page.ts";
import { VERSION } from "../core/version.ts";
import type { LayerMap } from "./layer-map.ts";
import { StoreCorrupt } from "./store-errors.ts";

/** Layers of a timeline, and the LSN up to which they count. */
export interface SizedMap {
  readonly map: LayerMap;
  readonly upTo: Lsn;
}

/** `lineage`: the timeline, then its ancestors. Throws StoreCorrupt. */
export function logicalSizeOf(lineage: readonly SizedMap[]): number {
  const groups = new Map<string, Group>();
  for (const { map } of lineage) {
    for (const { layer } of map.layers) {
      layer.scan(KIND.REL_SIZE, undefined, undefined, (group) => {
        groups.set(`${group.a}/${group.b}/${group.c}/${group.d}`, group);
      });
    }
  }
  let blocks = 0;
  for (const group of groups.values()) blocks += blocksOf(lineage, group);
  return blocks * PAGE_BYTES;
}

function blocksOf(lineage: readonly SizedMap[], group: Group): number {
  let blocks = 0;
  for (const { map, upTo } of lineage) {
    for (const { layer } of map.layers) {
      const none = layer.visit(group, 0, upTo, LSN_INVALID, ({ type, bytes, start, length }) => {
        if (type !== VERSION.VALUE) return false;
        if (length !== 4) throw new StoreCorrupt(layer.path, "a relation's size has not 4 bytes");
        blocks = new DataView(bytes.buffer, bytes.byteOffset + start, 4).getUint32(0, true);
        return false;
      });
      if (!none) return blocks;
    }
  }
  return 0;
}
