// After an attach: layers that were read most before come before anybody asks for them, hottest first, few
// at a time and behind everything that a reader waits for. What fails is left to the reader who needs it.

import type { TenantId } from "../core/ids.ts";
import { planWarmUp } from "../core/backup/warm-up.ts";
import { WARM_UP_AT_ONCE } from "../core/limits.ts";
import type { Log } from "../io/log.ts";
import { errorText } from "../store/store-errors.ts";
import type { LayerFetcher, WantedLayer } from "./layer-fetcher.ts";

/** How far it is; read by status. */
export interface WarmUp {
  readonly layers: number;
  readonly bytes: number;
  doneLayers: number;
  doneBytes: number;
  failed: number;
}

export interface WarmUpParts {
  readonly tenant: TenantId;
  /** Layers whose files are not here, and how often they were read. */
  readonly layers: readonly (WantedLayer & { readonly heat: number })[];
  readonly budgetBytes: number;
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
  const { layers, budgetBytes, fetcher, goesOn, log, tenant } = parts;
  const sized = layers.map((wanted) => ({ ...wanted, bytes: wanted.entry.bytes }));
  const plan = planWarmUp(sized, budgetBytes);
  const bytes = plan.reduce((sum, layer) => sum + layer.bytes, 0);
  const facts: WarmUp = { layers: plan.length, bytes, doneLayers: 0, doneBytes: 0, failed: 0 };
  let next = 0;
  const worker = async (): Promise<void> => {
    while (next < plan.length && goesOn()) {
      const layer = plan[next++]!;
      try {
        await fetcher.fetch(layer, "background");
        facts.doneLayers++;
        facts.doneBytes += layer.bytes;
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
