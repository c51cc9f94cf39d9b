// Layers that a restore drill brings from object storage into its scratch folder, and reads there with the
// store's own reader: a view of the timeline that is made of nothing but what the manifests name. A layer
// comes when it is sampled or when a page needs it, within bounds of bytes and time.

import path from "node:path";
import type { DrillProblem, DrillProblemKind } from "../core/backup/drill.ts";
import { timelinePrefix } from "../core/backup/names.ts";
import type { TenantId } from "../core/ids.ts";
import { DRILL_BYTES_MAX, DRILL_OPEN_FILES } from "../core/limits.ts";
import type { Lsn } from "../core/lsn.ts";
import { type ObjectStorage, isObjectError } from "../core/object-storage.ts";
import { fetchLayer } from "../io/objects/layer-object.ts";
import type { LayerEntry } from "../store/catalog-entries.ts";
import { makeDirectory } from "../store/data-dir.ts";
import type { SealedLayer } from "../store/layer-map.ts";
import type { LayerHeader } from "../store/layer-header.ts";
import type { TimelineManifest } from "../store/manifest.ts";
import { OpenFiles } from "../store/sealed-file.ts";
import { SealedView } from "../store/sealed-view.ts";
import { StoreCorrupt, StoreFormat } from "../store/store-errors.ts";
import { readManifest } from "./backup-turn.ts";

/** A manifest, and up to where its versions are read: the branch point, for an ancestor. */
export interface DrillHop {
  readonly manifest: TimelineManifest;
  readonly upTo: Lsn;
}

export interface RestoredParts {
  readonly storage: ObjectStorage;
  readonly tenant: TenantId;
  /** The timeline first, then its ancestors from the nearest on. */
  readonly hops: readonly DrillHop[];
  /** Empty. */
  readonly scratch: string;
  readonly signal: AbortSignal;
  /** The drill's time is up. */
  readonly isLate: () => boolean;
  readonly onProblem: (problem: DrillProblem) => void;
  readonly onBytes: (bytes: number) => void;
}

/** left-out: it is not here, which says nothing of the backup, or was said already. */
export type LayerFate = "here" | "left-out";

interface Restorable {
  readonly manifest: TimelineManifest;
  readonly entry: LayerEntry;
  readonly name: string;
}

export class RestoredLayers {
  readonly view: SealedView;
  layers = 0;
  bytes = 0;
  private readonly parts: RestoredParts;
  private readonly files = new OpenFiles(DRILL_OPEN_FILES);
  private readonly byPath = new Map<string, Restorable>();
  private readonly fates = new Map<string, LayerFate>();

  constructor(parts: RestoredParts) {
    this.parts = parts;
    const { hops, scratch, tenant } = parts;
    const sealed = hops.map(({ manifest, upTo }) => {
      const { timeline, layers } = manifest;
      const directory = path.join(scratch, timeline.id);
      makeDirectory(directory);
      for (const entry of layers) {
        const name = timelinePrefix(tenant, timeline.id) + entry.object!.name;
        this.byPath.set(path.join(directory, entry.file), { manifest, entry, name });
      }
      return { directory, layers, upTo, verified: [] };
    });
    this.view = new SealedView(sealed, this.files);
  }

  /** All that the manifests name, here or not. */
  get all(): readonly SealedLayer[] {
    return this.view.maps.flatMap(({ layers }) => layers);
  }

  /** The object's name of the layer at a path of the view. */
  nameOf(file: string): string {
    return this.byPath.get(file)?.name ?? file;
  }

  /** Rejects with what says nothing of the backup: ObjectError of a storage that is away, what the disk says, the signal's reason. */
  async fetch(file: string): Promise<LayerFate> {
    const known = this.fates.get(file);
    if (known !== undefined) return known;
    const fate = await this.bring(file, this.byPath.get(file)!);
    this.fates.set(file, fate);
    return fate;
  }

  close(): void {
    this.files.closeAll();
  }

  private async bring(file: string, of: Restorable): Promise<LayerFate> {
    const { storage, signal, isLate, onBytes } = this.parts;
    const { entry, name } = of;
    signal.throwIfAborted();
    if (isLate() || this.bytes + entry.bytes > DRILL_BYTES_MAX) return "left-out";
    try {
      await fetchLayer(storage, name, file, entry);
      this.bytes += entry.bytes;
      this.layers++;
      onBytes(this.bytes);
      this.files.trust(file);
      const { header } = this.files.get(file, entry);
      const wrong = notAsNamed(header, entry);
      if (wrong === undefined) return "here";
      this.parts.onProblem({ kind: "wrong", name, detail: wrong });
    } catch (error) {
      const kind = problemKind(error);
      if (kind === undefined) throw error;
      // A manifest that was written meanwhile may name it no more: then it was deleted, rightly.
      if (!(await this.isStillNamed(of))) return "left-out";
      const detail =
        kind === "missing" ? "the manifest names it, and it is not there" : textOf(error);
      this.parts.onProblem({ kind, name, detail });
    }
    // Nothing is to be read of it.
    this.files.close(file);
    await this.files.remove(file);
    return "left-out";
  }

  private async isStillNamed({ manifest, entry }: Restorable): Promise<boolean> {
    const { storage, tenant } = this.parts;
    const now = await readManifest(storage, tenant, manifest.timeline.id);
    const name = entry.object!.name;
    return (
      now.manifest === undefined || now.manifest.layers.some((one) => one.object!.name === name)
    );
  }
}

const textOf = (error: unknown): string => (error instanceof Error ? error.message : String(error));

/** What an error says of an object; undefined: nothing. */
export function problemKind(error: unknown): DrillProblemKind | undefined {
  if (isObjectError(error, "not-found")) return "missing";
  // In the clear where it must not be, or encrypted with another key: it cannot be restored.
  const unreadable = isObjectError(error, "corrupt") || isObjectError(error, "no-key");
  const broken = error instanceof StoreCorrupt || error instanceof StoreFormat;
  return unreadable || broken ? "corrupt" : undefined;
}

const SAME = ["timeline", "firstLsn", "lastLsn", "keys", "runs", "versions", "kinds"] as const;

function notAsNamed(header: LayerHeader, entry: LayerEntry): string | undefined {
  for (const field of [...SAME, "firstKey", "lastKey"] as const) {
    if (header[field] === entry[field]) continue;
    return `the layer says ${field} ${header[field]}, the manifest says ${entry[field]}`;
  }
  return undefined;
}
