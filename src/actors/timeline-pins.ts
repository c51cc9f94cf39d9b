// What of a timeline may be read at this moment, and which LSNs are kept for whom: its cutoff, its leases
// and snapshots, long reads, and what its branches need of it. Decisions are in core/gc.ts and
// core/holds.ts.

import type { BackupSource } from "../core/backup-source.ts";
import { Family, type Pin, branchCutoff } from "../core/gc.ts";
import { type Holds, holdPins, isLive } from "../core/holds.ts";
import type { TenantId, TimelineId } from "../core/ids.ts";
import { READER_PIN_MS } from "../core/limits.ts";
import { LSN_INVALID, type Lsn } from "../core/lsn.ts";
import type { Readable } from "../core/request-lsn.ts";
import type { Catalog } from "../store/catalog.ts";
import type { TimelineEntry } from "../store/catalog-entries.ts";
import { StoreFull } from "../store/store-errors.ts";
import type { Directory, TimelineHandle } from "./directory.ts";
import type { TimelineState } from "./timeline-state.ts";

/** The cutoff of a timeline now. A look at its ancestors in memory. */
export function cutoffOf(directory: Directory, tenant: TenantId, entry: TimelineEntry): Lsn {
  return cutoffIn(directory.tenants.get(tenant)?.timelines, entry);
}

export function cutoffIn(
  timelines: ReadonlyMap<TimelineId, TimelineHandle> | undefined,
  entry: TimelineEntry,
): Lsn {
  const own = entry.cutoff ?? LSN_INVALID;
  const { ancestor } = entry;
  if (ancestor === undefined) return Math.max(own, entry.readableFrom) as Lsn;
  const above = timelines?.get(ancestor.id);
  const cutoff = above === undefined ? ancestor.lsn : cutoffIn(timelines, above.entry);
  return branchCutoff(own, ancestor.lsn, cutoff);
}

/** What the timeline can answer at this moment. */
export function readableNow(state: TimelineState): Readable {
  const { deps, readable } = state;
  const handle = deps.directory.find(deps.tenantId, deps.timelineId);
  if (handle === undefined) return readable;
  const cutoff = cutoffOf(deps.directory, deps.tenantId, handle.entry);
  const nowMs = deps.clock.nowMs();
  const pinned = holdPins(holdsOf(state), nowMs).map(({ lsn }) => lsn);
  return { ...readable, cutoff, pinned };
}

/** Leases and snapshots, as the catalog has them; in memory while it says that they are the same. */
function holdsOf({ deps, retention }: TimelineState): Holds {
  const { catalog, timelineId } = deps;
  if (retention.holdsVersion !== catalog.holdsVersion) {
    retention.holdsVersion = catalog.holdsVersion;
    retention.holds = catalog.holds(timelineId);
  }
  return retention.holds;
}

/** The source of a backup, whose LSN is kept for as long as it is read. */
export function heldSource(state: TimelineState, source: BackupSource): BackupSource {
  const { retention, deps } = state;
  const touch = (): void => {
    retention.readers.set(source.lsn, deps.clock.steadyMs() + READER_PIN_MS);
  };
  touch();
  return {
    ...source,
    relations: (spc, db) => {
      touch();
      return source.relations(spc, db);
    },
    pages: (rel, from, count) => {
      touch();
      return source.pages(rel, from, count);
    },
  };
}

/** What is kept of this timeline for its own readers. */
export function pinsOf(state: TimelineState): readonly Pin[] {
  const { deps, retention } = state;
  const steadyMs = deps.clock.steadyMs();
  for (const [lsn, untilMs] of retention.readers) {
    if (untilMs < steadyMs) retention.readers.delete(lsn);
  }
  const readers = [...retention.readers.keys()];
  return [
    ...holdPins(holdsOf(state), deps.clock.nowMs()),
    ...readers.map((lsn): Pin => ({ lsn, reason: { kind: "reader" } })),
  ];
}

const catalogPins = (catalog: Catalog, id: TimelineId, nowMs: number): readonly Pin[] =>
  holdPins(catalog.holds(id), nowMs);

/** The LSNs that a timeline's own leases and snapshots hold now. */
export const heldLsns = (catalog: Catalog, id: TimelineId, nowMs: number): readonly Lsn[] =>
  catalogPins(catalog, id, nowMs).map(({ lsn }) => lsn);

/** Removes leases that have ended from the catalog. Throws StoreCorrupt, StoreFailed. */
export function dropExpiredLeases(
  catalog: Catalog,
  timelines: readonly TimelineId[],
  nowMs: number,
): void {
  const over = timelines.flatMap((id) =>
    catalog.leases(id).filter((lease) => !isLive(lease, nowMs)),
  );
  try {
    if (over.length > 0) catalog.change((change) => over.forEach((old) => change.removeLease(old)));
  } catch (error) {
    // No room to remove them: that must not hold up a merge, which makes room.
    if (!(error instanceof StoreFull)) throw error;
  }
}

/** All timelines of the tenant, and what each is kept for. */
export function retainedFamily(
  directory: Directory,
  tenant: TenantId,
  catalog: Catalog,
  nowMs: number,
) {
  const family = new Family(catalog.timelines());
  const ownPins = (id: TimelineId): readonly Pin[] =>
    directory.find(tenant, id)?.pins?.() ?? catalogPins(catalog, id, nowMs);
  return { family, ownPins, pins: (id: TimelineId) => family.pins(id, ownPins) };
}
