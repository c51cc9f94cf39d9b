// Reads that met a layer whose file is not here. The layer is fetched beside the actor, and the request
// comes again as if it were new; it waits until a deadline, and nobody else waits for it.

import { FETCH_WAIT_MS_MAX } from "../core/limits.ts";
import type { ReadError } from "../core/errors.ts";
import { KIND } from "../core/key.ts";
import type { TenantId } from "../core/ids.ts";
import type { LayerEntry } from "../store/catalog-entries.ts";
import type { SealedLayer } from "../store/layer-map.ts";
import { LayerAbsent, errorText } from "../store/store-errors.ts";
import type { TimelineStore } from "../store/timeline-store.ts";
import type { Directory } from "./directory.ts";
import type { FetchLane, LayerFetcher } from "./layer-fetcher.ts";
import { after } from "./runtime.ts";
import type { ReadMsg, TimelineState } from "./timeline-state.ts";

/** Fetches what a batch needs, then asks for it again. */
export function fetchAndRead(
  state: TimelineState,
  msg: ReadMsg,
  paths: readonly string[],
  refuse: (msg: ReadMsg, error: ReadError) => void,
): void {
  const { deps, self } = state;
  const steadyMs = deps.clock.steadyMs();
  const untilMs = msg.fetchUntilMs ?? steadyMs + FETCH_WAIT_MS_MAX;
  const give = (reason: string): void =>
    refuse(msg, { kind: "layer-absent", path: paths[0]!, reason });
  if (steadyMs >= untilMs) return give("it did not come in time");
  let over = false;
  const end = (then: () => void): void => {
    if (over) return;
    over = true;
    cancel();
    then();
  };
  const cancel = after(untilMs - steadyMs, () => end(() => give("it did not come in time")));
  state.readFrom!.fetch!(paths).then(
    () => end(() => self.tell({ ...msg, fetchUntilMs: untilMs })),
    (error: unknown) => end(() => give(errorText(error))),
  );
}

interface FetchFrom {
  readonly directory: Directory;
  readonly tenantId: TenantId;
  readonly backup?: { readonly fetcher: LayerFetcher } | undefined;
}

/** Fetches layers by the path of their files. Rejects when one cannot be had. */
export async function fetchPaths(
  { directory, tenantId, backup }: FetchFrom,
  paths: readonly string[],
  lane: FetchLane,
): Promise<void> {
  const layers = paths.map((path) => findLayer(directory, tenantId, path)?.entry);
  await Promise.all(
    layers.map((entry, i) => {
      // Merged meanwhile: whoever wanted it looks again, at others.
      if (entry === undefined) return undefined;
      const path = paths[i]!;
      if (backup === undefined) throw new LayerAbsent(path);
      return backup.fetcher.fetch({ tenant: tenantId, path, entry }, lane);
    }),
  );
}

/** The layer whose file has this path; undefined: there is none any more. */
export function findLayer(
  directory: Directory,
  tenant: TenantId,
  path: string,
): SealedLayer | undefined {
  for (const { store } of directory.tenants.get(tenant)?.timelines.values() ?? []) {
    const found = store?.map.layers.find(({ layer }) => layer.path === path);
    if (found !== undefined) return found;
  }
  return undefined;
}

/** Everything but pages: what taking in WAL reads, and listing, in its turn. */
export const holdsMore = ({ kinds }: Pick<LayerEntry, "kinds">): boolean =>
  (kinds & ~(1 << KIND.PAGE)) !== 0;

/** Fetches what must be here before a timeline can live: all layers that hold more than pages. */
export async function fetchForLoading(
  fetcher: LayerFetcher,
  tenant: TenantId,
  entries: readonly LayerEntry[],
  pathOf: (entry: LayerEntry) => string,
  isHere: (path: string) => boolean,
): Promise<void> {
  const absent = entries.filter(
    (entry) => entry.object !== undefined && holdsMore(entry) && !isHere(pathOf(entry)),
  );
  await Promise.all(
    absent.map((entry) => fetcher.fetch({ tenant, path: pathOf(entry), entry }, "urgent")),
  );
}

/** Layers of these tiers whose files are not here. */
export const absentLayers = (
  store: TimelineStore,
  from: number,
  to: number,
  isHere: (path: string) => boolean,
): readonly string[] =>
  store.map.tiers
    .slice(from, to + 1)
    .flat()
    .map(({ layer }) => layer.path)
    .filter((path) => !isHere(path));
