// Which of a timeline's layers are on the local disk, when each was read, and which may leave it. A
// layer may when object storage has it for certain: the catalog names its object, and so does the
// manifest that this server wrote, with its own generation (I18). Layers that hold more than pages stay:
// taking in WAL and listing read them in their turn. So do those that are being merged.

import path from "node:path";
import type { EvictableLayer } from "../core/backup/evict.ts";
import type { LayerHeat } from "../core/backup/manifest.ts";
import { HEAT_HALF_MS } from "../core/limits.ts";
import type { LayerEntry } from "../store/catalog-entries.ts";
import { fileExists } from "../store/data-dir.ts";
import type { SealedLayer } from "../store/layer-map.ts";
import { errorText } from "../store/store-errors.ts";
import type { Reply } from "./runtime.ts";
import { attachmentOf } from "./backup-tenant.ts";
import { holdsMore } from "./timeline-fetch.ts";
import type { TimelineState } from "./timeline-state.ts";

export interface EvictableFile extends EvictableLayer {
  readonly file: string;
}

/** What is shown of it. */
export interface ResidenceFacts {
  readonly localBytes: number;
  readonly localLayers: number;
  readonly remoteBytes: number;
  readonly remoteLayers: number;
  /** Since the timeline was loaded. */
  readonly evictedLayers: number;
  readonly evictedBytes: number;
  readonly fetchedLayers: number;
}

interface Known {
  reads: number;
  readAtMs: number;
  here: boolean;
  /** Reads, halved with time: as of heatAtMs. */
  heat: number;
  heatAtMs: number;
}

const decayed = ({ heat, heatAtMs }: Known, nowMs: number): number =>
  heat * 2 ** ((heatAtMs - nowMs) / HEAT_HALF_MS);

/** The residence part of one life of a timeline. */
export class Residence {
  readonly counts = { evictedLayers: 0, evictedBytes: 0 };
  /** By file. */
  private known = new Map<string, Known>();
  private layers: readonly SealedLayer[] | undefined;
  private fetched = 0;
  private seeded = false;

  /** Notes which layers came, went or were read since the last look. `fetched`: how many were fetched, counted up. */
  look(layers: readonly SealedLayer[], nowMs: number, fetched: number): void {
    const all = this.layers !== layers || this.fetched !== fetched;
    const known = new Map<string, Known>();
    for (const { entry, layer } of layers) {
      const found = this.known.get(entry.file) ?? {
        ...{ reads: layer.reads, readAtMs: nowMs, here: fileExists(layer.path) },
        ...{ heat: 0, heatAtMs: nowMs },
      };
      if (found.reads !== layer.reads) {
        found.heat = decayed(found, nowMs) + layer.reads - found.reads;
        found.heatAtMs = nowMs;
        found.reads = layer.reads;
        found.readAtMs = nowMs;
        found.here = fileExists(layer.path); // one that was lost shows when it is read
      } else if (all && !found.here && fileExists(layer.path)) {
        found.here = true;
        found.readAtMs = nowMs; // it was fetched for somebody
      }
      known.set(entry.file, found);
    }
    this.known = known;
    this.layers = layers;
    this.fetched = fetched;
  }

  /** Of layers that are read, by file; one more is twice as often. */
  heats(nowMs: number): ReadonlyMap<string, number> {
    const heats = new Map<string, number>();
    for (const [file, known] of this.known) {
      const heat = Math.round(Math.log2(1 + decayed(known, nowMs)));
      if (heat > 0) heats.set(file, heat);
    }
    return heats;
  }

  /** As an earlier process knew it; counts once. */
  seed(heats: readonly LayerHeat[], nowMs: number): void {
    if (this.seeded) return;
    this.seeded = true;
    for (const { file, heat } of heats) {
      const found = this.known.get(file);
      if (found === undefined) continue;
      found.heat = decayed(found, nowMs) + 2 ** heat - 1;
      found.heatAtMs = nowMs;
    }
  }

  isHere(file: string): boolean {
    return this.known.get(file)?.here ?? true;
  }

  readAtMs(file: string): number | undefined {
    return this.known.get(file)?.readAtMs;
  }

  evicted({ file, bytes }: Pick<LayerEntry, "file" | "bytes">): void {
    const found = this.known.get(file);
    if (found !== undefined) found.here = false;
    this.counts.evictedLayers++;
    this.counts.evictedBytes += bytes;
  }
}

/** Undefined: there is no backup, so everything is here or lost. */
export function residenceFacts(state: TimelineState): ResidenceFacts | undefined {
  const { residence } = state;
  const layers = looked(state);
  if (layers === undefined) return undefined;
  const sums = { localBytes: 0, localLayers: 0, remoteBytes: 0, remoteLayers: 0 };
  for (const { entry } of layers) {
    const here = residence.isHere(entry.file);
    sums[here ? "localBytes" : "remoteBytes"] += entry.bytes;
    sums[here ? "localLayers" : "remoteLayers"]++;
  }
  return { ...sums, ...residence.counts, fetchedLayers: fetchedOf(state) };
}

/** Layers that may leave the disk now. */
export function evictable(state: TimelineState): readonly EvictableFile[] {
  const { residence } = state;
  return (looked(state) ?? [])
    .filter(({ entry }) => residence.isHere(entry.file) && mayGo(state, entry))
    .map(({ entry: { file, bytes } }) => ({
      file,
      bytes,
      readAtMs: residence.readAtMs(file) ?? 0,
    }));
}

/** How often each layer is read. */
export function layerHeats(state: TimelineState): ReadonlyMap<string, number> {
  looked(state);
  return state.residence.heats(state.deps.clock.steadyMs());
}

/** What the manifest says of it, when this life reads the manifest for the first time. */
export function seedHeats(state: TimelineState, heats: readonly LayerHeat[]): void {
  looked(state);
  state.residence.seed(heats, state.deps.clock.steadyMs());
}

const fetchedOf = ({ deps }: TimelineState): number =>
  deps.backup?.fetcher.fetchedOf(deps.timelineId) ?? 0;

function looked(state: TimelineState): readonly SealedLayer[] | undefined {
  const { deps, wal, residence } = state;
  if (deps.backup === undefined || wal === undefined) return undefined;
  const { layers } = wal.store.map;
  residence.look(layers, deps.clock.steadyMs(), fetchedOf(state));
  return layers;
}

/** I18: what object storage has for certain, and nobody here works with. */
function mayGo({ deps, backup, retention, phase }: TimelineState, entry: LayerEntry): boolean {
  const { file, object } = entry;
  const { manifest } = backup.known ?? {};
  if (phase.kind !== "active" || backup.fenced !== undefined || holdsMore(entry)) return false;
  if (object === undefined || manifest === undefined) return false;
  if (manifest.generation !== attachmentOf(deps.catalog)?.generation) return false;
  const named = manifest.layers.find((layer) => layer.file === file)?.object;
  if (named?.name !== object.name) return false;
  const merging = retention.job?.sources.some((source) => source.file === file) === true;
  const wanted = retention.preparing?.includes(path.join(deps.layersDirectory, file)) === true;
  return !merging && !wanted;
}

export interface Evicted {
  readonly layers: number;
  readonly bytes: number;
}

/** Takes files away; answers when their space is free. What has come into use since it was planned stays. */
export function evict(state: TimelineState, files: readonly string[], reply: Reply<Evicted>): void {
  const { deps, wal, residence } = state;
  const chosen = new Set(files);
  const may = new Set(evictable(state).map(({ file }) => file));
  const going = (wal?.store.map.layers ?? []).filter(
    ({ entry: { file } }) => chosen.has(file) && may.has(file),
  );
  const bytes = going.reduce((sum, { entry }) => sum + entry.bytes, 0);
  const each = going.map(({ entry, layer }) => {
    residence.evicted(entry);
    return deps.files.evict(layer.path);
  });
  Promise.all(each).then(
    () => reply.answer({ layers: going.length, bytes }),
    (error: unknown) => {
      deps.log.warn({ reason: errorText(error) }, "a layer's file cannot be removed");
      reply.answer({ layers: 0, bytes: 0 });
    },
  );
}
