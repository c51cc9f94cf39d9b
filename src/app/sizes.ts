// Sizes of a timeline: what its database has, what is on disk, what its history comes to, and what its
// branch tree would cost if nothing were stored twice (core/synthetic-size.ts).

import type { TenantHandle, TimelineHandle } from "../actors/directory.ts";
import type { TenantShared } from "../actors/tenant-timelines.ts";
import { cutoffIn, retainedFamily } from "../actors/timeline-pins.ts";
import { Family } from "../core/gc.ts";
import { LOGICAL_SIZES_MAX } from "../core/limits.ts";
import type { Lsn } from "../core/lsn.ts";
import {
  type SizePoint,
  type SizedTimeline,
  historyBytes,
  rootOf,
  sizePoints,
  syntheticSize,
} from "../core/synthetic-size.ts";
import type { SizesInfo } from "../protocol/api.ts";
import { localBytes } from "./info.ts";
import type { TimelineStore } from "../store/timeline-store.ts";

/** Undefined while the timeline is not loaded. Walks sizes of relations, in turns. */
export async function timelineSizes(
  shared: TenantShared,
  tenant: TenantHandle,
  timeline: TimelineHandle,
): Promise<SizesInfo | undefined> {
  const { store, sizes, entry } = timeline;
  if (store === undefined || sizes === undefined) return undefined;
  const { logical, wal } = sizes();
  const layers = localBytes(timeline);
  const synthetic = await treeSize(shared, tenant, timeline);
  const history = historyBytes(sized(timeline), cutoffIn(tenant.timelines, entry));
  return {
    ...{ logical, layers, wal, history },
    physical: layers + wal,
    ...(synthetic !== undefined && { synthetic }),
  };
}

const sized = ({ entry, facts }: TimelineHandle): SizedTimeline => ({
  ...entry,
  end: facts.positions.visible,
});

/** Undefined while a timeline of the tree is not loaded. */
async function treeSize(
  { directory, clock }: TenantShared,
  { id, catalog, timelines }: TenantHandle,
  timeline: TimelineHandle,
): Promise<number | undefined> {
  const family = new Family([...timelines.values()].map(sized));
  const { ownPins } = retainedFamily(directory, id, catalog, clock.nowMs());
  const points = sizePoints(family, rootOf(family, timeline.entry.id), ownPins);
  const found = new Map<SizePoint, number>();
  for (const point of points) {
    if (point.needed === "range") continue;
    const size = sizeAt(timelines, timelines.get(point.timeline), point.lsn);
    if (size === undefined) return undefined;
    found.set(point, size);
    await new Promise((resolve) => setImmediate(resolve));
  }
  return syntheticSize(points, (point) => found.get(point)!);
}

/** History does not change: what was walked once stays. */
const known = new WeakMap<TimelineStore, Map<Lsn, number>>();

function sizeAt(
  timelines: TenantHandle["timelines"],
  timeline: TimelineHandle | undefined,
  lsn: Lsn,
): number | undefined {
  const { store, readFrom, asleep, entry } = timeline ?? {};
  if (asleep !== undefined && entry !== undefined) {
    const { ancestor, sealedLsn, sealedLogicalSize } = entry;
    if (ancestor !== undefined && lsn <= ancestor.lsn) {
      return sizeAt(timelines, timelines.get(ancestor.id), lsn);
    }
    if (lsn === sealedLsn && sealedLogicalSize !== undefined) return sealedLogicalSize;
    // Whoever asks again finds it loaded.
    timeline!.ref.tell({ kind: "wake" });
    return undefined;
  }
  if (store === undefined || readFrom === undefined) return undefined;
  const sizes = known.get(store) ?? new Map<Lsn, number>();
  known.set(store, sizes);
  let size = sizes.get(lsn);
  if (size === undefined) {
    size = readFrom.pages.relations.logicalSize(lsn);
    if (sizes.size >= LOGICAL_SIZES_MAX) sizes.clear();
    sizes.set(lsn, size);
  }
  return size;
}
