// One timeline's versions: the open layer, frozen ones that are being sealed, sealed files, and below
// them the ancestor up to the branch point. Versions at or below a branch point never change (I1), so
// the ancestor is read directly. Knows nothing of WAL: who ingests asks `sink` and `meta`.

import { assert } from "../core/assert.ts";
import type { ChangeSink, MetadataView } from "../core/change.ts";
import type { MergePlan, Tier } from "../core/compaction.ts";
import type { TimelineId } from "../core/ids.ts";
import { type Group, GroupTable, type Kind } from "../core/key.ts";
import { LSN_INVALID, LSN_MAX, type Lsn } from "../core/lsn.ts";
import type { Version } from "../core/version.ts";
import type { Catalog } from "./catalog.ts";
import type { LayerEntry } from "./catalog-entries.ts";
import { layersPath } from "./data-dir.ts";
import type { LayerFiles } from "./layer-files.ts";
import { LayerMap } from "./layer-map.ts";
import { MemoryLayer } from "./memory-layer.ts";
import { BegunMerge, type EnterPoint } from "./merge-order.ts";
import type { Retained } from "./merge-keep.ts";
import type { KeyVisitor, Layer, VersionVisitor } from "./object-store.ts";
import type { OpenBudget } from "./open-budget.ts";
import { readCounts } from "./read-counts.ts";
import { type SealFault, SealJob } from "./seal-job.ts";
import type { SealedHop } from "./sealed-view.ts";
import type { StoreCorrupt } from "./store-errors.ts";
import { type StoredValue, type VersionStore, onceEach, valueIn } from "./version-store.ts";

export interface TimelineStoreOptions {
  readonly id: TimelineId;
  /** The timeline's directory: data-dir.ts. */
  readonly directory: string;
  readonly catalog: Catalog;
  readonly files: LayerFiles;
  readonly budget: OpenBudget;
  readonly ancestor: { readonly store: TimelineStore; readonly lsn: Lsn } | undefined;
  /** For crash tests. */
  readonly sealFault?: SealFault;
  readonly mergeFault?: (point: EnterPoint) => void;
}

/** Which neighbouring tiers to merge, and how: core/compaction.ts. */
export interface MergeRequest {
  readonly plan: MergePlan;
  readonly retained: Retained;
  readonly nowMs: number;
}

interface Frozen {
  readonly layer: MemoryLayer;
  readonly upTo: Lsn;
  readonly prev: Lsn;
  readonly logicalSize: number | undefined;
}

export class TimelineStore implements VersionStore {
  readonly id: TimelineId;
  readonly groups = new GroupTable();
  readonly meta: MetadataView;
  readonly map: LayerMap;
  private readonly options: TimelineStoreOptions;
  private open: MemoryLayer;
  // Oldest first.
  private frozen: readonly Frozen[] = [];
  private above: TimelineStoreOptions["ancestor"];
  private sealing = false;
  private merging = false;

  /** Opens the store and removes what a crash left half-made. Throws StoreCorrupt, StoreFull, StoreFailed. */
  constructor(options: TimelineStoreOptions) {
    const { id, directory, catalog, files, ancestor } = options;
    this.id = id;
    this.options = options;
    this.above = ancestor;
    const layers = layersPath(directory);
    const entries = catalog.layers(id);
    files.prepare(
      layers,
      entries.map(({ file }) => file),
    );
    this.map = new LayerMap(layers, files, entries);
    this.open = new MemoryLayer(this.groups, options.budget.blocks);
    this.meta = {
      value: (group, block) => this.value(this.groups.group(group), block, LSN_MAX)?.value,
      list: (kind, a, b, each) => this.list(kind, a, b, each),
    };
  }

  get ancestor(): TimelineStoreOptions["ancestor"] {
    return this.above;
  }

  /** The ancestor was loaded anew: what is read of it is read from this store from now on. */
  rebase(store: TimelineStore): void {
    if (this.above === undefined || this.above.store === store) return;
    assert(this.above.store.id === store.id, "a branch keeps its ancestor");
    this.above = { ...this.above, store };
  }

  /** Where changes go: another one after each freeze(). */
  get sink(): ChangeSink {
    return this.open;
  }

  get openIsEmpty(): boolean {
    return this.open.versions === 0;
  }

  /** Memory of the open layer, bytes. */
  get openBytes(): number {
    return this.open.bytes;
  }

  get isSealing(): boolean {
    return this.frozen.length > 0;
  }

  /** Bytes of sealed layers on disk, ancestors' not included. */
  get sealedBytes(): number {
    return this.map.bytes;
  }

  /** No version that is still to come has an LSN at or below this one. */
  get newestLsn(): Lsn {
    // Asked for with every page: no list is walked but that of frozen layers, which is mostly empty.
    let newest = Math.max(this.open.lastLsn, this.map.newestLsn, this.above?.lsn ?? LSN_INVALID);
    for (let i = 0; i < this.frozen.length; i++) {
      newest = Math.max(newest, this.frozen[i]!.layer.lastLsn);
    }
    return newest as Lsn;
  }

  /** Tells the shared budget what the open and frozen layers cost; to be called after each batch. */
  account(): void {
    let frozen = 0;
    for (const { layer } of this.frozen) frozen += layer.bytes;
    this.options.budget.report(this, this.open.bytes, frozen);
  }

  visit(group: Group, block: number, at: Lsn, floor: Lsn, visitor: VersionVisitor): boolean {
    const id = this.groups.find(group);
    if (id >= 0) {
      readCounts.layers += this.frozen.length + (this.open.versions > 0 ? 1 : 0);
      if (!this.open.visitId(id, block, at, floor, visitor)) return false;
      for (let i = this.frozen.length - 1; i >= 0; i--) {
        if (!this.frozen[i]!.layer.visitId(id, block, at, floor, visitor)) return false;
      }
    }
    for (const { layer } of this.map.layers) {
      if (!layer.visit(group, block, at, floor, visitor)) return false;
    }
    const { ancestor } = this;
    if (ancestor === undefined || ancestor.lsn <= floor) return true;
    const upTo = Math.min(at, ancestor.lsn) as Lsn;
    return ancestor.store.visit(group, block, upTo, floor, visitor);
  }

  /** As visit, naming the layer each version lies in ("open", "frozen" or a file) and whose it is. */
  visitNamed(
    group: Group,
    block: number,
    at: Lsn,
    floor: Lsn,
    visitor: (version: Version, layer: string, timeline: TimelineId) => boolean,
  ): boolean {
    const named: (readonly [Layer, string])[] = [[this.open, "open"]];
    for (const { layer } of [...this.frozen].reverse()) named.push([layer, "frozen"]);
    for (const { layer, entry } of this.map.layers) named.push([layer, entry.file]);
    for (const [layer, name] of named) {
      if (!layer.visit(group, block, at, floor, (v) => visitor(v, name, this.id))) return false;
    }
    const { ancestor } = this;
    if (ancestor === undefined || ancestor.lsn <= floor) return true;
    const upTo = Math.min(at, ancestor.lsn) as Lsn;
    return ancestor.store.visitNamed(group, block, upTo, floor, visitor);
  }

  value(group: Group, block: number, at: Lsn): StoredValue | undefined {
    return valueIn(this, group, block, at);
  }

  scan(kind: Kind, a: number | undefined, b: number | undefined, each: KeyVisitor): void {
    const once = onceEach(each);
    for (let store: TimelineStore | undefined = this; store; store = store.ancestor?.store) {
      store.open.scan(kind, a, b, once);
      for (const { layer } of store.frozen) layer.scan(kind, a, b, once);
      for (const { layer } of store.map.layers) layer.scan(kind, a, b, once);
    }
  }

  hasKind(kind: Kind): boolean {
    return (
      this.open.hasKind(kind) ||
      this.frozen.some(({ layer }) => layer.hasKind(kind)) ||
      this.map.hasKind(kind) ||
      (this.ancestor?.store.hasKind(kind) ?? false)
    );
  }

  /**
   * The open layer takes no more changes, and a new one takes its place; all of them are at or below
   * `upTo`, the end of the last record taken in. `prev`: that record's start (0: unknown);
   * `logicalSize`: bytes of all relations there, if known.
   */
  freeze(upTo: Lsn, prev: Lsn, logicalSize?: number): void {
    assert(this.open.lastLsn <= upTo, "I3: a frozen layer ends where its last record does");
    this.open.freeze();
    this.frozen = [...this.frozen, { layer: this.open, upTo, prev, logicalSize }];
    this.open = new MemoryLayer(this.groups, this.options.budget.blocks);
    this.account();
  }

  /** The job that seals the oldest frozen layer; undefined when there is none. One at a time. */
  beginSeal(nowMs: number): SealJob | undefined {
    assert(!this.sealing, "one seal job at a time");
    const oldest = this.frozen[0];
    if (oldest === undefined) return undefined;
    this.sealing = true;
    return new SealJob({
      layer: oldest.layer,
      timeline: this.id,
      directory: layersPath(this.options.directory),
      files: this.options.files,
      sequence: this.map.nextSequence,
      nowMs,
      fault: this.options.sealFault ?? ((): void => {}),
      enter: (entry) => this.enter(oldest, entry),
      over: () => {
        this.sealing = false;
      },
    });
  }

  /** Newest first: what planMerge decides on. */
  get tiers(): readonly Tier[] {
    return this.map.tiers.map((layers) => {
      const entries = layers.map(({ entry }) => entry);
      const sum = (of: (entry: LayerEntry) => number): number =>
        entries.reduce((total, entry) => total + of(entry), 0);
      return {
        bytes: sum(({ bytes }) => bytes),
        keys: sum(({ keys }) => keys),
        versions: sum(({ versions }) => versions),
        lastLsn: Math.max(...entries.map(({ lastLsn }) => lastLsn)) as Lsn,
        chainRecords: Math.max(...entries.map(({ chainRecords }) => chainRecords ?? 0)),
        reducedTo: Math.min(...entries.map(({ reducedTo }) => reducedTo ?? 0)) as Lsn,
        // All layers of a tier were written by one merge.
        pins: entries[0]?.pins ?? [],
      };
    });
  }

  /** An ancestor whose versions up to the branch point are not all sealed: no merge can begin before. */
  get unsealedAncestor(): TimelineStore | undefined {
    const { catalog } = this.options;
    for (let hop = this.above; hop !== undefined; hop = hop.store.above) {
      const sealed = catalog.timeline(hop.store.id)?.sealedLsn ?? LSN_INVALID;
      if (sealed < hop.lsn) return hop.store;
    }
    return undefined;
  }

  /** Up to here every version, the ancestors' included, is in sealed layers. A merge's cutoff is at or below it. */
  get sealedUpTo(): Lsn {
    const { catalog } = this.options;
    const own = catalog.timeline(this.id)?.sealedLsn ?? LSN_INVALID;
    return Math.max(own, this.above?.lsn ?? LSN_INVALID) as Lsn;
  }

  /** Begins a merge of sealed tiers, for somebody to carry out. One at a time; sealing goes on beside it. */
  beginMerge({ plan, retained, nowMs }: MergeRequest): BegunMerge {
    assert(!this.merging, "one merge at a time");
    assert(
      this.unsealedAncestor === undefined && retained.cutoff <= this.sealedUpTo,
      "I9: a merge looks at nothing that is not sealed",
    );
    const { directory, files } = this.options;
    const { tiers } = this.map;
    this.merging = true;
    return new BegunMerge({
      order: {
        ...{ timeline: this.id, directory: layersPath(directory), view: this.sealedHops() },
        plan: { from: plan.from, to: plan.to },
        bottom: plan.to === tiers.length - 1 && this.ancestor === undefined,
        ...{ retained, nowMs, number: this.map.nextMerge },
      },
      sources: tiers
        .slice(plan.from, plan.to + 1)
        .flat()
        .map(({ entry }) => entry),
      files,
      fault: this.options.mergeFault ?? ((): void => {}),
      enter: (remove, add) => this.enterMerged(remove, add),
      over: () => {
        this.merging = false;
      },
    });
  }

  /** The sealed layers that are read from here. */
  private sealedHops(upTo = LSN_MAX): readonly SealedHop[] {
    const { map, above, options } = this;
    const verified = map.layers.filter(({ layer }) => options.files.isVerified(layer.path));
    const hop: SealedHop = {
      directory: layersPath(options.directory),
      // Without what is long, and of no use to a reader.
      layers: map.layers.map(({ entry: { pins: _pins, object: _object, ...entry } }) => entry),
      upTo,
      verified: verified.map(({ entry }) => entry.file),
    };
    return above === undefined ? [hop] : [hop, ...above.store.sealedHops(above.lsn)];
  }

  // I9: old layers go and new ones come in one transaction; the old files are removed after it.
  private enterMerged(remove: readonly LayerEntry[], add: readonly LayerEntry[]): void {
    const { catalog, files } = this.options;
    const named = catalog.change((change) => {
      assert(
        catalog.timeline(this.id) !== undefined,
        "a timeline that is merged is in the catalog",
      );
      for (const entry of remove) change.removeLayer(entry);
      for (const entry of add) change.putLayer(entry);
    });
    assert(named.ok, "merging renames nothing");
    this.map.swap(remove, add);
    for (const entry of add) files.trust(this.map.pathOf(entry));
  }

  /**
   * Compares the sealed files that have not been read since the process started with their checksums,
   * one after the other, off the event loop. To be started after opening: the first read of a file that
   * is not verified yet does it on the spot (about 0.5 ms a MB).
   */
  verifyFiles(onCorrupt: (error: StoreCorrupt) => void): Promise<void> {
    return this.map.verify(onCorrupt);
  }

  /** Gives up the memory and its share of the budget; the files stay. */
  close(): void {
    this.options.budget.report(this, 0, 0);
    for (const { entry } of this.map.layers) this.options.files.close(this.map.pathOf(entry));
  }

  // I9: the layer and the position it moves are one transaction; WAL below it may go afterwards.
  private enter({ layer, upTo, prev, logicalSize }: Frozen, entry: LayerEntry | undefined): void {
    const { catalog } = this.options;
    const named = catalog.change((change) => {
      const timeline = catalog.timeline(this.id);
      assert(timeline !== undefined, `timeline ${this.id} is in the catalog while it is sealed`);
      assert(upTo >= timeline.sealedLsn, "I9: the sealed position goes forward");
      if (entry !== undefined) change.putLayer(entry);
      const { sealedLogicalSize: _old, ...rest } = timeline;
      const size = logicalSize === undefined ? {} : { sealedLogicalSize: logicalSize };
      change.putTimeline({ ...rest, sealedLsn: upTo, sealedPrev: prev, ...size });
    });
    assert(named.ok, "sealing renames nothing");
    if (entry !== undefined) {
      this.map.swap([], [entry]);
      this.options.files.trust(this.map.pathOf(entry));
    }
    this.frozen = this.frozen.filter((frozen) => frozen.layer !== layer);
    // A record that began before a freeze may lie in this layer's memory and belong to a newer one.
    const newer = [this.open, ...this.frozen.map((frozen) => frozen.layer)];
    layer.release((chunk) => newer.some((one) => one.holds(chunk)));
    this.account();
  }

  private list(
    kind: number,
    a: number | undefined,
    b: number | undefined,
    each: (group: number, block: number, value: Uint8Array) => void,
  ): void {
    // Listed first: the caller may put changes while it is called back.
    const keys: { readonly group: Group; readonly block: number }[] = [];
    this.scan(kind as Kind, a, b, (group, block) => keys.push({ group, block }));
    for (const { group, block } of keys) {
      const found = this.value(group, block, LSN_MAX);
      if (found === undefined) continue;
      const { kind: k, a: ga, b: gb, c, d } = group;
      each(this.groups.id(k, ga, gb, c, d), block, found.value);
    }
  }
}
