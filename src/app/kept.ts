// For whom the stored bytes of a timeline are kept: a walk over its layers in turns (store/kept-walk.ts),
// one at a time for each timeline, and remembered until layers, cutoff or pins change. Layers that are not
// here are fetched one after the other as the walk comes to them, so that a disk that is smaller than the
// timeline is enough; or, for whoever only looks, there is no answer.

import type { TenantHandle, TimelineHandle } from "../actors/directory.ts";
import type { TenantShared } from "../actors/tenant-timelines.ts";
import { cutoffOf, retainedFamily } from "../actors/timeline-pins.ts";
import type { ReadFrom } from "../actors/timeline-reads.ts";
import type { KeptFor } from "../core/kept-bytes.ts";
import { KEPT_WALKS_MAX } from "../core/limits.ts";
import { KeptWalk } from "../store/kept-walk.ts";
import { LayerAbsent, StoreCorrupt, isMissing } from "../store/store-errors.ts";
import type { TimelineStore } from "../store/timeline-store.ts";

/** "away": not all layers are here. */
export type KeptBy = KeptFor | "away";

interface Known {
  readonly layers: unknown;
  readonly retained: string;
  readonly found: Promise<KeptBy | undefined>;
}

const known = new WeakMap<TimelineStore, Known>();

/**
 * Undefined when layers were merged again and again meanwhile, or it is not loaded. Throws StoreCorrupt;
 * what a fetch rejects with.
 */
export async function keptFor(
  shared: TenantShared,
  tenant: TenantHandle,
  { entry }: TimelineHandle,
  remote: "fetch" | "leave",
): Promise<KeptBy | undefined> {
  const { directory, clock } = shared;
  for (let i = 0; i < KEPT_WALKS_MAX; i++) {
    const timeline = tenant.timelines.get(entry.id);
    const { store, readFrom, residence } = timeline ?? {};
    if (timeline === undefined || store === undefined || readFrom === undefined) return undefined;
    const cutoff = cutoffOf(directory, tenant.id, timeline.entry);
    const { pins } = retainedFamily(directory, tenant.id, tenant.catalog, clock.nowMs());
    const lsns = [...new Set(pins(entry.id).map(({ lsn }) => lsn))].sort((x, y) => y - x);
    const { layers } = store.map;
    const retained = [cutoff, ...lsns].join(" ");
    const last = known.get(store);
    if (last?.layers === layers && last.retained === retained) {
      const found = await last.found;
      if (typeof found === "object") return found;
    }
    if (remote === "leave" && (residence?.()?.remoteLayers ?? 0) > 0) return "away";
    const { relations } = readFrom.pages;
    const job = new KeptWalk(store, relations, { cutoff, pins: lsns });
    const fetch = remote === "fetch" ? readFrom.fetch : undefined;
    const found = walk(job, clock.steadyMs, fetch, readFrom.fetch !== undefined);
    known.set(store, { layers, retained, found });
    // Whoever waits for the same walk hears of it, too.
    found.catch(() => known.delete(store));
    const result = await found;
    if (result !== undefined) return result;
  }
  return undefined;
}

/** Undefined: the layers are others now. */
async function walk(
  job: KeptWalk,
  steadyMs: () => number,
  fetch: ReadFrom["fetch"],
  mayBeAway: boolean,
): Promise<KeptBy | undefined> {
  let fetched: string | undefined;
  for (let more = true; more && !job.isStale;) {
    try {
      more = job.step(steadyMs);
      fetched = undefined;
      await new Promise((resolve) => setImmediate(resolve));
    } catch (error) {
      // A file that a merge has removed.
      if (job.isStale && (error instanceof StoreCorrupt || isMissing(error))) break;
      if (!(error instanceof LayerAbsent) || !mayBeAway || error.path === fetched) throw error;
      if (fetch === undefined) return "away";
      fetched = error.path;
      await fetch([fetched]);
    }
  }
  return job.isStale ? undefined : job.result;
}
