// For whom the stored bytes of a timeline are kept: a walk over its layers in turns (store/kept-walk.ts),
// one at a time for each timeline, and remembered until layers, cutoff or pins change.

import type { TenantHandle, TimelineHandle } from "../actors/directory.ts";
import type { TenantShared } from "../actors/tenant-timelines.ts";
import { cutoffOf, retainedFamily } from "../actors/timeline-pins.ts";
import type { KeptFor } from "../core/kept-bytes.ts";
import { KEPT_WALKS_MAX } from "../core/limits.ts";
import { KeptWalk } from "../store/kept-walk.ts";
import { StoreCorrupt, isMissing } from "../store/store-errors.ts";
import type { TimelineStore } from "../store/timeline-store.ts";

interface Known {
  readonly layers: unknown;
  readonly retained: string;
  readonly found: Promise<KeptFor | undefined>;
}

const known = new WeakMap<TimelineStore, Known>();

/** Undefined when layers were merged again and again meanwhile, or it is not loaded. Throws StoreCorrupt. */
export async function keptFor(
  shared: TenantShared,
  tenant: TenantHandle,
  { entry }: TimelineHandle,
): Promise<KeptFor | undefined> {
  const { directory, clock } = shared;
  for (let i = 0; i < KEPT_WALKS_MAX; i++) {
    const timeline = tenant.timelines.get(entry.id);
    const { store, readFrom } = timeline ?? {};
    if (timeline === undefined || store === undefined || readFrom === undefined) return undefined;
    const cutoff = cutoffOf(directory, tenant.id, timeline.entry);
    const { pins } = retainedFamily(directory, tenant.id, tenant.catalog, clock.nowMs());
    const lsns = [...new Set(pins(entry.id).map(({ lsn }) => lsn))].sort((x, y) => y - x);
    const { layers } = store.map;
    const retained = [cutoff, ...lsns].join(" ");
    const last = known.get(store);
    if (last?.layers === layers && last.retained === retained) {
      const found = await last.found;
      if (found !== undefined) return found;
    }
    const { relations } = readFrom.pages;
    const found = walk(new KeptWalk(store, relations, { cutoff, pins: lsns }), clock.steadyMs);
    known.set(store, { layers, retained, found });
    // Whoever waits for the same walk hears of it, too.
    found.catch(() => known.delete(store));
    const result = await found;
    if (result !== undefined) return result;
  }
  return undefined;
}

/** Undefined: the layers are others now. */
async function walk(job: KeptWalk, steadyMs: () => number): Promise<KeptFor | undefined> {
  try {
    while (!job.isStale && job.step(steadyMs)) {
      await new Promise((resolve) => setImmediate(resolve));
    }
  } catch (error) {
    // A file that a merge has removed.
    const gone = job.isStale && (error instanceof StoreCorrupt || isMissing(error));
    if (!gone) throw error;
  }
  return job.isStale ? undefined : job.result;
}
