// After an attach: layers that were read most before come before anybody asks for them, hottest first, few
// at a time and behind everything that a reader waits for. What fails is left to the reader who needs it.
//
// Which layers these are is in the catalog from the attach on, until all of them are here: a restart goes on.

import path from "node:path";
import type { TenantId } from "../core/ids.ts";
import { planWarmUp } from "../core/backup/warm-up.ts";
import { WARM_UP_AT_ONCE } from "../core/limits.ts";
import type { Log } from "../io/log.ts";
import type { Catalog, CatalogChange } from "../store/catalog.ts";
import { fileExists, layersPath, timelinePath } from "../store/data-dir.ts";
import type { TimelineManifest } from "../store/manifest.ts";
import { StoreFull, errorText } from "../store/store-errors.ts";
import type { LayerFetcher, WantedLayer } from "./layer-fetcher.ts";
import type { TenantState } from "./tenant-timelines.ts";

const SETTING = "warm-up";

/** How far it is; read by status. */
export interface WarmUp {
  readonly layers: number;
  readonly bytes: number;
  doneLayers: number;
  doneBytes: number;
  failed: number;
}

/** In the transaction that makes the catalog of a tenant that is attached. */
export function noteWarmUp(
  change: CatalogChange,
  manifests: readonly TimelineManifest[],
  budgetBytes: number,
): void {
  const layers = manifests.flatMap(({ timeline, layers: entries, heat = [] }) => {
    const heats = new Map(heat.map((one) => [one.file, one.heat]));
    return entries.map(({ file, bytes }) => ({
      ...{ name: nameOf(timeline, file), bytes, heat: heats.get(file) ?? 0 },
    }));
  });
  const plan = planWarmUp(layers, budgetBytes).map(({ name }) => name);
  if (plan.length > 0) change.putSetting(SETTING, plan);
}

const nameOf = ({ id }: { readonly id: string }, file: string): string => `${id}/${file}`;

/** Begins what an attach has noted, or goes on with it, when the timelines' directories are in order. */
export function warmUpTick(state: TenantState): void {
  const { handle, shared, self } = state;
  const { backup, log } = shared;
  if (!state.warmUpDue) return;
  const isLoading = [...handle.timelines.values()].some(
    ({ facts }) => facts.phase.kind === "loading",
  );
  if (isLoading) return;
  state.warmUpDue = false;
  const { id: tenant, catalog } = handle;
  if (backup === undefined) return;
  const layers = notedLayers(catalog, tenant, shared.dataDir);
  if (layers === undefined) return;
  const goesOn = (): boolean => !state.over && !self.stopped();
  const { facts, over } = warmUp({ tenant, layers, fetcher: backup.fetcher, goesOn, log });
  backup.warmUps.set(tenant, facts);
  void over.then(() => {
    if (goesOn() && facts.failed === 0) forget(catalog, log);
  });
}

/** Those that are still to come; undefined: nothing is noted. */
function notedLayers(
  catalog: Catalog,
  tenant: TenantId,
  dataDir: string,
): readonly WantedLayer[] | undefined {
  const noted = catalog.setting(SETTING);
  if (!Array.isArray(noted) || noted.length === 0) return undefined;
  const known = new Map<string, WantedLayer>();
  for (const timeline of catalog.timelines()) {
    const folder = layersPath(timelinePath(dataDir, tenant, timeline.id));
    for (const entry of catalog.layers(timeline.id)) {
      const wanted = { tenant, path: path.join(folder, entry.file), entry };
      if (entry.object !== undefined) known.set(nameOf(timeline, entry.file), wanted);
    }
  }
  // Some were merged meanwhile, others are here.
  const layers = noted.flatMap((name) => known.get(String(name)) ?? []);
  return layers.filter((layer) => !fileExists(layer.path));
}

function forget(catalog: Catalog, log: Log): void {
  try {
    catalog.change((change) => change.putSetting(SETTING, []));
  } catch (error) {
    if (!(error instanceof StoreFull)) throw error;
    log.warn({ reason: error.message }, "that hot layers are here cannot be noted now");
  }
}

export interface WarmUpParts {
  readonly tenant: TenantId;
  /** Layers whose files are not here, hottest first. */
  readonly layers: readonly WantedLayer[];
  readonly fetcher: Pick<LayerFetcher, "fetch">;
  /** False: the tenant is gone, or the program stops. */
  readonly goesOn: () => boolean;
  readonly log: Log;
}

/** Begins; `over` is kept when nothing is under way any more. */
export function warmUp(parts: WarmUpParts): {
  readonly facts: WarmUp;
  readonly over: Promise<void>;
} {
  const { layers, fetcher, goesOn, log, tenant } = parts;
  const bytes = layers.reduce((sum, { entry }) => sum + entry.bytes, 0);
  const facts: WarmUp = { layers: layers.length, bytes, doneLayers: 0, doneBytes: 0, failed: 0 };
  let next = 0;
  const worker = async (): Promise<void> => {
    while (next < layers.length && goesOn()) {
      const layer = layers[next++]!;
      try {
        await fetcher.fetch(layer, "background");
        facts.doneLayers++;
        facts.doneBytes += layer.entry.bytes;
      } catch (error) {
        facts.failed++;
        log.warn(
          { tenant, reason: errorText(error) },
          "a layer that was hot cannot be fetched now",
        );
      }
    }
  };
  const all = Promise.all(Array.from({ length: WARM_UP_AT_ONCE }, worker));
  return { facts, over: all.then(() => undefined) };
}
