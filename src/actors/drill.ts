// One restore drill of one timeline: a sample of its layers comes from object storage into a scratch
// folder, by the manifests as they are there and by nothing that this server remembers; pages are made of
// them as of a sample of LSNs and compared byte by byte with what the timeline serves. Pages are chosen in
// layers that were restored, and in layers as they are here: what the manifest leaves out is missed, too.

import {
  type DrillOutcome,
  type DrillProblem,
  Reservoir,
  restorableTo,
  sampleLayers,
  sampleLsns,
} from "../core/backup/drill.ts";
import { manifestName } from "../core/backup/names.ts";
import { KIND } from "../core/key.ts";
import {
  DRILL_BYTES_MAX,
  DRILL_KEYS_PER_TURN,
  DRILL_LAYERS_MAX,
  DRILL_MS_MAX,
  DRILL_PAGES_A_LAYER,
} from "../core/limits.ts";
import { LSN_INVALID, type Lsn } from "../core/lsn.ts";
import type { ObjectStorage } from "../core/object-storage.ts";
import type { SealedLayer } from "../store/layer-map.ts";
import type { VersionKey } from "../store/run.ts";
import { LayerAbsent } from "../store/store-errors.ts";
import type { TenantHandle, TimelineHandle } from "./directory.ts";
import { type DrillHop, RestoredLayers, problemKind } from "./drill-layers.ts";
import { manifestsOf } from "./drill-manifests.ts";
import { type DrillPage, DrillPages } from "./drill-pages.ts";
import type { RedoPoolMsg } from "./redo-pool.ts";
import type { ActorRef } from "./runtime.ts";
import { cutoffIn } from "./timeline-pins.ts";

export interface DrillParts {
  readonly storage: ObjectStorage;
  readonly tenant: TenantHandle;
  readonly timeline: TimelineHandle;
  /** Empty, and the drill's alone; whoever made it removes it. */
  readonly scratch: string;
  readonly redo: ActorRef<RedoPoolMsg>;
  readonly chance: () => number;
  readonly steadyMs: () => number;
  readonly signal: AbortSignal;
  /** Of restored layers so far. */
  readonly onBytes: (bytes: number) => void;
}

/** Rejects when it cannot be brought to its end, which says nothing of the backup. */
export async function drillTimeline(parts: DrillParts): Promise<DrillOutcome> {
  const { storage, tenant, timeline } = parts;
  const found = await manifestsOf(storage, tenant.id, timeline.entry.id);
  if (!found.ok) {
    const nothing = { upTo: LSN_INVALID, pages: 0, skipped: 0, layers: 0, bytes: 0 };
    return { ...nothing, problems: [found.error] };
  }
  const drill = new Drill(parts, found.value);
  try {
    return await drill.run();
  } finally {
    drill.restored.close();
  }
}

class Drill {
  readonly restored: RestoredLayers;
  private readonly parts: DrillParts;
  private readonly problems: DrillProblem[] = [];
  private readonly range: { readonly floor: Lsn; readonly upTo: Lsn };
  private readonly isLate: () => boolean;

  constructor(parts: DrillParts, hops: readonly DrillHop[]) {
    const { storage, tenant, scratch, signal, onBytes, steadyMs } = parts;
    this.parts = parts;
    const endMs = steadyMs() + DRILL_MS_MAX;
    this.isLate = () => steadyMs() > endMs;
    this.restored = new RestoredLayers({
      ...{ storage, tenant: tenant.id, hops, scratch, signal, onBytes, isLate: this.isLate },
      onProblem: (problem) => void this.problems.push(problem),
    });
    this.range = { floor: this.floorOf(hops), upTo: upToOf(hops) };
  }

  async run(): Promise<DrillOutcome> {
    const { restored, problems, range } = this;
    const { timeline, redo, signal } = this.parts;
    const chosen = [...(await this.inBackup()), ...(await this.here())];
    const pages = new DrillPages({ restored, redo, timeline: timeline.ref });
    let [same, skipped] = [0, 0];
    for (const page of chosen) {
      signal.throwIfAborted();
      const compared = this.isLate() ? "left-out" : await pages.compare(page);
      if (compared === "same") same++;
      else if (compared === "left-out") skipped++;
      else problems.push({ kind: "differs", name: page.name, detail: compared.detail });
    }
    const { layers, bytes } = restored;
    return { upTo: range.upTo, pages: same, skipped, layers, bytes, problems };
  }

  /** Below it somebody may have been told already that history is gone. */
  private floorOf([own]: readonly DrillHop[]): Lsn {
    const { tenant, timeline } = this.parts;
    const { layers, timeline: entry } = own!.manifest;
    const served = cutoffIn(tenant.timelines, timeline.entry);
    const told = Math.max(served, entry.readableFrom, entry.cutoff ?? LSN_INVALID);
    // A manifest may name many layers: too many for arguments.
    return layers.reduce((most, { reducedTo = 0 }) => Math.max(most, reducedTo), told) as Lsn;
  }

  /** Pages of layers that the manifests name. */
  private async inBackup(): Promise<readonly DrillPage[]> {
    const all = this.restored.all.map((one) => ({ one, bytes: one.entry.bytes }));
    const most = { count: DRILL_LAYERS_MAX, bytes: DRILL_BYTES_MAX / 2 };
    const pages: DrillPage[] = [];
    for (const { one } of sampleLayers(all, most, this.parts.chance)) {
      if ((await this.restored.fetch(one.layer.path)) !== "here") continue;
      const name = this.restored.nameOf(one.layer.path);
      try {
        pages.push(...(await this.pagesOf(one, name)));
      } catch (error) {
        const kind = problemKind(error);
        if (kind === undefined || !(error instanceof Error)) throw error;
        this.problems.push({ kind, name, detail: error.message });
      }
    }
    return pages;
  }

  /** Pages of layers that this server reads. */
  private async here(): Promise<readonly DrillPage[]> {
    const { tenant, timeline, chance } = this.parts;
    const layers = timeline.store?.map.layers ?? [];
    const sealed = layers
      .filter(({ entry }) => entry.firstLsn <= this.range.upTo)
      .map((one) => ({ one, bytes: 0 }));
    const name = manifestName(tenant.id, timeline.entry.id);
    const pages: DrillPage[] = [];
    for (const { one } of sampleLayers(sealed, { count: DRILL_LAYERS_MAX, bytes: 0 }, chance)) {
      try {
        pages.push(...(await this.pagesOf(one, name)));
      } catch (error) {
        // It has left the disk, or was merged meanwhile.
        if (!(error instanceof LayerAbsent)) throw error;
      }
    }
    return pages;
  }

  /** Of one layer, each as of one or two LSNs. Rejects with StoreCorrupt. */
  private async pagesOf(
    { entry, layer }: SealedLayer,
    name: string,
  ): Promise<readonly DrillPage[]> {
    const { chance, signal } = this.parts;
    const keys = new Reservoir<VersionKey>(DRILL_PAGES_A_LAYER, chance);
    let last: VersionKey | undefined;
    do {
      signal.throwIfAborted();
      const some = layer.keysAfter(last, DRILL_KEYS_PER_TURN);
      last = some.at(-1);
      for (const key of some) if (key.group.kind === KIND.PAGE) keys.show(key);
      await new Promise((resolve) => setImmediate(resolve));
      // Pages come before all else.
    } while (last !== undefined && last.group.kind === KIND.PAGE);
    return keys.kept.flatMap(({ group: { a, b, c, d }, block }) =>
      sampleLsns(entry, this.range, chance).map((at) => ({
        ...{ rel: { spc: a, db: b, rel: c, fork: d }, block, at, name },
      })),
    );
  }
}

const upToOf = (hops: readonly DrillHop[]): Lsn =>
  restorableTo(
    hops.map(({ manifest, upTo }) => ({ sealedLsn: manifest.timeline.sealedLsn, upTo })),
  );
