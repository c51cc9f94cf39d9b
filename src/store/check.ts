// Walks everything a tenant has on disk and reports each broken invariant of docs/invariants.md with
// its number and place. Changes nothing; may run beside a working tenant, in bounded turns.

import { type Group, KIND } from "../core/key.ts";
import { LSN_INVALID, Lsn } from "../core/lsn.ts";
import type { Catalog } from "./catalog.ts";
import { type SizedMap, logicalSizeOf } from "./check-size.ts";
import type { LayerEntry, TimelineEntry } from "./catalog-entries.ts";
import { checkWal } from "./check-wal.ts";
import { layersPath, walPath } from "./data-dir.ts";
import type { LayerFiles } from "./layer-files.ts";
import { LayerMap, type SealedLayer } from "./layer-map.ts";
import { sumFile } from "./layer-writer.ts";
import type { CheckReport } from "./object-store.ts";
import { LayerAbsent, StoreCorrupt, errorText, isMissing } from "./store-errors.ts";

export interface CheckTarget {
  readonly catalog: Catalog;
  readonly files: LayerFiles;
  /** A timeline's directory: data-dir.ts. */
  readonly directoryOf: (timeline: TimelineEntry) => string;
  /** Awaited between turns of a few ms: lets others work. */
  readonly turn: () => Promise<void>;
  /** Bytes of layers that are checked, of all that there are. */
  readonly onProgress?: (bytes: number, bytesAll: number) => void;
  /** Brings the file of a layer that object storage has; undefined: such layers are counted, not checked. */
  readonly fetchLayer?: ((entry: LayerEntry, path: string) => Promise<void>) | undefined;
}

export interface CheckResult {
  readonly timelines: number;
  readonly layers: number;
  readonly versions: number;
  readonly walSegments: number;
  /** Layers whose files are in object storage only: nothing was said of them. */
  readonly remote: number;
  /** "I5: place: what was found". Empty: all is well. */
  readonly problems: readonly string[];
}

export async function checkStore(target: CheckTarget): Promise<CheckResult> {
  const walker = new StoreCheck(target);
  return walker.run();
}

class StoreCheck {
  private readonly target: CheckTarget;
  private readonly problems: string[] = [];
  private readonly maps = new Map<string, LayerMap>();
  private layers = 0;
  private versions = 0;
  private walSegments = 0;
  private remote = 0;
  private bytes = 0;
  private bytesAll = 0;
  private readonly report: CheckReport = (invariant, where, found) => {
    this.problems.push(`${invariant}: ${where}: ${found}`);
  };

  constructor(target: CheckTarget) {
    this.target = target;
  }

  async run(): Promise<CheckResult> {
    const { catalog } = this.target;
    let timelines: readonly TimelineEntry[] = [];
    try {
      const found = catalog.timelines();
      for (const timeline of found) this.maps.set(timeline.id, this.mapOf(timeline));
      timelines = found;
    } catch (cause) {
      this.report("I12", catalog.path, errorText(cause));
    }
    const byId = new Map<string, TimelineEntry>(timelines.map((entry) => [entry.id, entry]));
    for (const { layers } of this.maps.values()) {
      for (const { entry } of layers) this.bytesAll += entry.bytes;
    }
    // First, while the layers are those that the catalog had.
    for (const timeline of timelines) {
      this.checkLogicalSize(timeline, byId);
      await this.target.turn();
    }
    for (const timeline of timelines) {
      this.checkEntry(timeline, byId);
      this.checkRanges(timeline);
      this.checkSnapshots(timeline, byId);
      for (const sealed of this.maps.get(timeline.id)!.layers) {
        await this.checkLayer(timeline, sealed, byId);
        this.bytes += sealed.entry.bytes;
        this.target.onProgress?.(this.bytes, this.bytesAll);
      }
      const directory = walPath(this.target.directoryOf(timeline));
      // As it is now: a seal during the walk lets go of WAL that was needed when it began.
      const now = catalog.timeline(timeline.id) ?? timeline;
      const { segments } = await checkWal(directory, now.sealedLsn, this.report);
      this.walSegments += segments;
    }
    const { layers, versions, walSegments, remote, problems } = this;
    return { timelines: timelines.length, layers, versions, walSegments, remote, problems };
  }

  private mapOf(timeline: TimelineEntry): LayerMap {
    const { catalog, files, directoryOf } = this.target;
    return new LayerMap(layersPath(directoryOf(timeline)), files, catalog.layers(timeline.id));
  }

  /** I12: ancestors exist, lead somewhere, and positions are in order. */
  private checkEntry(timeline: TimelineEntry, byId: ReadonlyMap<string, TimelineEntry>): void {
    const where = `timeline "${timeline.name}"`;
    const met = new Set<string>();
    for (let each = timeline; each.ancestor !== undefined;) {
      if (met.has(each.id)) return this.report("I12", where, "it is its own ancestor");
      met.add(each.id);
      const next = byId.get(each.ancestor.id);
      if (next === undefined) {
        return this.report("I12", where, `ancestor ${each.ancestor.id} is not in the catalog`);
      }
      each = next;
    }
    const { ancestor, sealedLsn, sealedPrev } = timeline;
    if (ancestor !== undefined && sealedLsn < ancestor.lsn) {
      this.report("I12", where, "its sealed position lies before its branch point");
    }
    if (sealedPrev > sealedLsn) this.report("I12", where, "its last record starts after its end");
  }

  /** I7: layers are within the sealed position and follow each other. */
  private checkRanges(timeline: TimelineEntry): void {
    const map = this.maps.get(timeline.id)!;
    let newer: LayerEntry | undefined;
    for (const { entry } of map.layers) {
      const path = map.pathOf(entry);
      if (entry.lastLsn > timeline.sealedLsn) {
        this.report("I7", path, `reaches ${Lsn.format(entry.lastLsn)}, beyond the sealed position`);
      }
      if (entry.firstLsn > entry.lastLsn) this.report("I7", path, "its range is empty");
      const above = timeline.ancestor === undefined || entry.firstLsn > timeline.ancestor.lsn;
      if (!above) this.report("I7", path, "holds versions from before the branch point");
      if (newer !== undefined && newer.sequence !== entry.sequence) {
        if (entry.lastLsn > newer.firstLsn) {
          this.report("I7", path, `overlaps the newer ${newer.file} in LSNs`);
        }
      }
      newer = entry;
    }
  }

  /** I15: a snapshot is a record boundary that its timeline has. */
  private checkSnapshots(timeline: TimelineEntry, byId: ReadonlyMap<string, TimelineEntry>): void {
    let eldest = timeline;
    for (let hops = 0; eldest.ancestor !== undefined && hops < byId.size; hops++) {
      eldest = byId.get(eldest.ancestor.id) ?? eldest;
    }
    const base = eldest.baseLsn;
    for (const { name, lsn } of this.target.catalog.snapshots(timeline.id)) {
      if (lsn >= base && lsn % 8 === 0) continue;
      const found = `snapshot "${name}" is at ${Lsn.format(lsn)}, where no record begins`;
      this.report("I15", `timeline "${timeline.name}"`, found);
    }
  }

  /** I14: what is kept of the size of all relations is what a walk finds. */
  private checkLogicalSize(
    timeline: TimelineEntry,
    byId: ReadonlyMap<string, TimelineEntry>,
  ): void {
    const kept = timeline.sealedLogicalSize;
    const lineage = this.lineage(timeline, byId);
    if (kept === undefined || lineage === undefined) return;
    try {
      const walked = logicalSizeOf(lineage);
      if (walked === kept) return;
      const found = `its relations have ${walked} bytes, it is kept as ${kept}`;
      this.report("I14", `timeline "${timeline.name}"`, found);
    } catch (cause) {
      // A layer is damaged, reported when its turn comes, or was merged meanwhile.
      if (!(cause instanceof StoreCorrupt) && !isMissing(cause)) throw cause;
    }
  }

  /** The timeline and its ancestors, each with up to where it counts; undefined when that is in memory. */
  private lineage(
    timeline: TimelineEntry,
    byId: ReadonlyMap<string, TimelineEntry>,
  ): readonly SizedMap[] | undefined {
    const maps: SizedMap[] = [];
    let upTo = timeline.sealedLsn;
    for (let each = timeline; ;) {
      if (each.sealedLsn < upTo) return undefined;
      maps.push({ map: this.maps.get(each.id)!, upTo });
      if (each.ancestor === undefined) return maps;
      upTo = Math.min(upTo, each.ancestor.lsn) as Lsn;
      const above = byId.get(each.ancestor.id);
      if (above === undefined || maps.length > byId.size) return undefined; // I12
      each = above;
    }
  }

  private async checkLayer(
    timeline: TimelineEntry,
    { entry, layer }: SealedLayer,
    byId: ReadonlyMap<string, TimelineEntry>,
  ): Promise<void> {
    if (!(await this.checkFile(timeline, entry, layer.path))) return;
    this.layers++;
    const { turn } = this.target;
    const open: { group: Group; block: number; oldest: Lsn }[] = [];
    const step = layer.beginCheck(this.report, (group, block, oldest) => {
      open.push({ group, block, oldest });
    });
    for (let more = true; more;) {
      more = step();
      for (const { group, block, oldest } of open.splice(0)) {
        await this.withOlder(() => this.checkChain(timeline, entry, group, block, oldest, byId));
      }
      await turn();
    }
    this.versions += entry.versions;
  }

  /** I4, before LMDB maps it: what LMDB does with damaged pages is not for us to say. False: it is not to be read. */
  private async checkFile(
    timeline: TimelineEntry,
    entry: LayerEntry,
    path: string,
  ): Promise<boolean> {
    const { catalog, fetchLayer } = this.target;
    for (let tries = 0; ; tries++) {
      try {
        const { bytes, crc } = await sumFile(path);
        if (bytes === entry.bytes && crc === entry.crc) return true;
        this.report("I4", path, "the file does not match its checksum");
        return false;
      } catch (cause) {
        // Swapped for another, or its timeline deleted, since the catalog was read.
        const now = catalog.layers(timeline.id).find(({ file }) => file === entry.file);
        if (now === undefined) return false;
        const missing = isMissing(cause);
        if (missing && now.object !== undefined && fetchLayer === undefined) {
          this.remote++;
          return false;
        }
        if (missing && now.object !== undefined && tries === 0) {
          if (await this.fetched(now, path)) continue;
          return false;
        }
        this.report("I4", path, missing ? "the file is missing" : errorText(cause));
        return false;
      }
    }
  }

  private async fetched(entry: LayerEntry, path: string): Promise<boolean> {
    try {
      await this.target.fetchLayer!(entry, path);
      return true;
    } catch (cause) {
      this.report("I17", path, `it cannot be fetched: ${errorText(cause)}`);
      return false;
    }
  }

  /** Runs a check that reads older layers: one that is away is fetched, if that is wanted; else its turn says so. */
  private async withOlder(check: () => void): Promise<void> {
    const met = new Set<string>();
    for (;;) {
      try {
        return check();
      } catch (cause) {
        // An older layer is damaged: reported when its turn comes.
        if (!(cause instanceof StoreCorrupt)) throw cause;
        if (!(cause instanceof LayerAbsent) || this.target.fetchLayer === undefined) return;
        const entry = this.entryAt(cause.path);
        if (entry?.object === undefined || met.has(cause.path)) return;
        met.add(cause.path);
        await this.target.fetchLayer(entry, cause.path).catch(() => undefined);
      }
    }
  }

  private entryAt(path: string): LayerEntry | undefined {
    for (const map of this.maps.values()) {
      const found = map.layers.find(({ layer }) => layer.path === path);
      if (found !== undefined) return found.entry;
    }
    return undefined;
  }

  /** I11: what a page's oldest version here builds on is in an older layer or in an ancestor. */
  private checkChain(
    timeline: TimelineEntry,
    entry: LayerEntry,
    group: Group,
    block: number,
    oldest: Lsn,
    byId: ReadonlyMap<string, TimelineEntry>,
  ): void {
    let upTo = oldest;
    let below = entry.sequence;
    for (let each: TimelineEntry | undefined = timeline; each !== undefined;) {
      const map = this.maps.get(each.id)!;
      // Pages of a copied database may begin in another one.
      if (map.hasKind(KIND.DB_COPY)) return;
      for (const older of map.layers) {
        if (older.entry.sequence >= below) continue;
        if (!older.layer.visit(group, block, upTo, LSN_INVALID, () => false)) return;
      }
      const from: TimelineEntry["ancestor"] = each.ancestor;
      each = from === undefined ? undefined : byId.get(from.id);
      if (from === undefined || each === undefined) break;
      // The ancestor's versions below the branch point may still be in memory.
      if (each.sealedLsn < from.lsn) return;
      upTo = from.lsn;
      below = Number.MAX_SAFE_INTEGER;
    }
    const page = `${group.kind}/${group.a}/${group.b}/${group.c}/${group.d} block ${block}`;
    const found = `${page}: the version at ${Lsn.format(oldest)} has nothing to build on`;
    this.report("I11", this.maps.get(timeline.id)!.pathOf(entry), found);
  }
}
