// The sealed layers of one timeline, newest first. Kept in step with the catalog, which is the
// truth: an entry is here when its transaction has happened.

import path from "node:path";
import { assert } from "../core/assert.ts";
import { LSN_INVALID, type Lsn } from "../core/lsn.ts";
import type { LayerEntry } from "./catalog-entries.ts";
import type { LayerFiles, StoredLayer } from "./layer-files.ts";
import { mergeOf } from "./merge-order.ts";
import { LayerAbsent, StoreCorrupt } from "./store-errors.ts";

export interface SealedLayer {
  readonly entry: LayerEntry;
  readonly layer: StoredLayer;
}

export class LayerMap {
  private readonly directory: string;
  private readonly files: LayerFiles;
  private sealed: readonly SealedLayer[] = [];
  /** Bit n: some layer has a key of kind n. */
  private kinds = 0;
  private newest: Lsn = LSN_INVALID;

  constructor(directory: string, files: LayerFiles, entries: readonly LayerEntry[]) {
    this.directory = directory;
    this.files = files;
    this.swap([], entries);
  }

  /** Newest first: of two layers that hold versions of a key, the first has the newer ones. */
  get layers(): readonly SealedLayer[] {
    return this.sealed;
  }

  /** The highest LSN of any version in them; 0: there is none. */
  get newestLsn(): Lsn {
    return this.newest;
  }

  get nextSequence(): number {
    return (this.sealed[0]?.entry.sequence ?? 0) + 1;
  }

  /** A number that no merged layer's name has: see MergeOrder. */
  get nextMerge(): number {
    let highest = 0;
    for (const { entry } of this.sealed) {
      highest = Math.max(highest, mergeOf(entry.file) ?? 0);
    }
    return highest + 1;
  }

  /** Layers in quarantine, and why. */
  get damaged(): readonly { readonly file: string; readonly reason: string }[] {
    return this.sealed.flatMap(({ entry, layer }) => {
      const { damage } = layer;
      return damage === undefined ? [] : [{ file: entry.file, reason: damage }];
    });
  }

  /** Bytes of all files. */
  get bytes(): number {
    return this.sealed.reduce((sum, { entry }) => sum + entry.bytes, 0);
  }

  /** True when some layer has a key of `kind`. */
  hasKind(kind: number): boolean {
    return (this.kinds & (1 << kind)) !== 0;
  }

  /** Layers by sequence, newest first, each in key order: what merging chooses from. */
  get tiers(): readonly (readonly SealedLayer[])[] {
    const tiers: SealedLayer[][] = [];
    for (const layer of this.sealed) {
      const last = tiers.at(-1);
      if (last?.[0]?.entry.sequence === layer.entry.sequence) last.push(layer);
      else tiers.push([layer]);
    }
    return tiers;
  }

  pathOf(entry: Pick<LayerEntry, "file">): string {
    return path.join(this.directory, entry.file);
  }

  /** Compares each file that no one has verified yet with its checksum, off the event loop. */
  async verify(onCorrupt: (error: StoreCorrupt) => void): Promise<void> {
    for (const { entry, layer } of this.sealed) {
      // Merged meanwhile: its file is gone.
      if (!this.sealed.some((now) => now.layer === layer)) continue;
      if (this.files.isVerified(layer.path)) continue;
      try {
        await this.files.verify(layer.path, entry);
      } catch (cause) {
        if (!(cause instanceof StoreCorrupt)) throw cause;
        if (cause instanceof LayerAbsent && entry.object !== undefined) {
          this.files.close(layer.path); // not damaged: it is fetched when it is read
          continue;
        }
        if (this.sealed.some((now) => now.layer === layer)) onCorrupt(cause);
      }
    }
  }

  /** The same layers with other words about them: where object storage has them. */
  annotate(entries: readonly LayerEntry[]): void {
    const byFile = new Map(entries.map((entry) => [entry.file, entry]));
    this.sealed = this.sealed.map((one) => ({
      ...one,
      entry: byFile.get(one.entry.file) ?? one.entry,
    }));
  }

  /** Replaces layers by others that hold the same or newer versions: sealing adds, merging swaps. */
  swap(remove: readonly LayerEntry[], add: readonly LayerEntry[]): void {
    const gone = new Set(remove.map(({ file }) => file));
    const kept = this.sealed.filter(({ entry }) => !gone.has(entry.file));
    assert(kept.length + gone.size === this.sealed.length, "layers to be replaced are in the map");
    const added = add.map((entry) => {
      return { entry, layer: this.files.layer(this.pathOf(entry), entry) };
    });
    this.sealed = [...kept, ...added].sort(
      (x, y) =>
        y.entry.sequence - x.entry.sequence || (x.entry.firstKey < y.entry.firstKey ? -1 : 1),
    );
    this.kinds = this.sealed.reduce((all, { entry }) => all | entry.kinds, 0);
    this.newest = Math.max(LSN_INVALID, ...this.sealed.map(({ entry }) => entry.lastLsn)) as Lsn;
    for (const entry of remove) this.files.close(this.pathOf(entry));
  }
}
