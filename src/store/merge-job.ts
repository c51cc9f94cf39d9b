// Carries out a MergeOrder: merges neighbouring tiers into one, in bounded turns: keys in order, of each only
// the versions that someone may read (core/gc.ts), an image where many records lie behind a page. Looks at
// some keys, asks WAL redo for their images, then appends them; cuts the result by key range. Knows
// neither catalog nor thread: what it writes counts when the order's timeline enters it.

import { KIND } from "../core/key.ts";
import {
  LAYER_PINS_MAX,
  MERGED_LAYER_BYTES_MAX,
  MERGE_SMALL_BYTES,
  MERGE_IMAGES_PER_TURN,
  MERGE_KEYS_PER_TURN,
  MERGE_TURN_MS_MAX,
} from "../core/limits.ts";
import { LSN_MAX, type Lsn } from "../core/lsn.ts";
import { Keeper } from "../core/gc.ts";
import type { RedoRequest, RedoResult } from "../core/redo-request.ts";
import { VERSION, type Version } from "../core/version.ts";
import { lsnHex } from "./catalog.ts";
import type { LayerEntry } from "./catalog-entries.ts";
import type { LayerFiles, LayerSink } from "./layer-files.ts";
import { ImagePlanner } from "./merge-images.ts";
import { type KeyKeep, KeepRules } from "./merge-keep.ts";
import { type MergeKey, MergeKeys } from "./merge-keys.ts";
import type { MergeCounts, MergeOrder, Merged } from "./merge-order.ts";
import { imageOf, packed } from "./page-image.ts";
import { PageCache } from "./page-cache.ts";
import { PageReader } from "./read-page.ts";
import { SealedView } from "./sealed-view.ts";
import { LayerAbsent } from "./store-errors.ts";

/** Moments between which a crash must lose nothing; tests throw there. */
export type MergePoint = "begun" | "written" | "synced" | "renamed";

export interface MergeJobOptions {
  readonly order: MergeOrder;
  readonly files: LayerFiles;
  readonly steadyMs: () => number;
  readonly fault: (point: MergePoint) => void;
}

/** Pages are read once each: none of them need be kept. */
const CACHE_BYTES = 1024 * 1024;

export type MergeTurn =
  /** Another turn is due. */
  | { readonly kind: "more" }
  /** These pages are needed, for give(); then another turn. */
  | { readonly kind: "redo"; readonly requests: readonly RedoRequest[] }
  /** closeLayer(), then another turn. */
  | { readonly kind: "close" }
  /** An older layer is needed, and its file is not here: when it is, another turn. */
  | { readonly kind: "absent"; readonly error: LayerAbsent }
  /** All is written. */
  | { readonly kind: "written"; readonly merged: Merged };

interface KeyWork {
  readonly key: MergeKey;
  readonly keep: KeyKeep;
  /** Newest first; filled when redo has answered. */
  readonly images: Version[];
}

interface PendingImage {
  readonly work: KeyWork;
  readonly lsn: Lsn;
}

interface MadeImage {
  readonly lsn: Lsn;
  readonly made: RedoRequest | Uint8Array;
}

export class MergeJob {
  readonly counts: MergeCounts;
  private readonly options: MergeJobOptions;
  private readonly rules: KeepRules;
  private readonly planner: ImagePlanner;
  private readonly keys: MergeKeys;
  private readonly keeper = new Keeper();
  private readonly sequence: number;
  private readonly done: LayerEntry[] = [];
  private readonly keysMax: number;
  /** Bytes of a key's versions, about. */
  private readonly keyBytes: number;
  private work: KeyWork[] = [];
  private pending: PendingImage[] = [];
  private surveyed = false;
  /** The key that could not be looked at, because a layer was not here. */
  private held: MergeKey | undefined;
  private writer: LayerSink | undefined;
  private writerBytes = 0;
  private writerKeys = 0;
  // Within a key whose versions take more than one turn: where the next turn goes on.
  private resumeAt: Lsn | undefined;
  private lastLsn: Lsn = LSN_MAX;
  private begun = false;
  private lastWasPage = false;
  private nextImage = 0;
  private turnRuns = 0;

  constructor(options: MergeJobOptions) {
    const { order, files } = options;
    this.options = options;
    files.removeMerges(order.directory, order.number);
    const view = new SealedView(order.view, files);
    const reader = new PageReader(view, new PageCache(CACHE_BYTES));
    const tiers = view.own.tiers.slice(order.plan.from, order.plan.to + 1);
    this.rules = new KeepRules(view, reader.relations, order.retained);
    this.keys = new MergeKeys(tiers);
    const entries = tiers.flatMap((tier) => tier.map(({ entry }) => entry));
    const newest = Math.max(...entries.map(({ lastLsn }) => lastLsn)) as Lsn;
    const oldest = Math.min(...entries.map(({ firstLsn }) => firstLsn)) as Lsn;
    this.planner = new ImagePlanner(reader, newest, oldest);
    this.sequence = entries[0]!.sequence;
    const readBytes = entries.reduce((sum, { bytes }) => sum + bytes, 0);
    const keys = entries.reduce((sum, entry) => sum + entry.keys, 0);
    // So many keys fill a layer, about; its filter is made for them.
    this.keyBytes = Math.max(readBytes / Math.max(keys, 1), 16);
    this.keysMax = Math.min(keys, Math.ceil((1.5 * MERGED_LAYER_BYTES_MAX) / this.keyBytes)) + 1;
    this.counts = { readBytes, writtenBytes: 0, droppedVersions: 0, keptVersions: 0, images: 0 };
    options.fault("begun");
  }

  /** One bounded turn. Throws StoreCorrupt, StoreFull, StoreFailed; then abandon(). */
  step(): MergeTurn {
    if (this.work.length === 0 && !this.surveyed) {
      const requests = this.survey();
      if (requests instanceof LayerAbsent) return { kind: "absent", error: requests };
      if (requests.length > 0) return { kind: "redo", requests };
      return { kind: "more" };
    }
    if (this.work.length === 0) {
      if (this.writer !== undefined) return { kind: "close" };
      return { kind: "written", merged: { layers: this.done, counts: this.counts } };
    }
    const full = this.write();
    return { kind: full ? "close" : "more" };
  }

  /** What redo made of the requests of the last turn. A page that could not be made has no image. */
  give(results: readonly RedoResult[]): void {
    this.pending.forEach(({ work, lsn }, i) => {
      const result = results[i];
      if (result?.ok === true) this.addImage(work, imageOf(result.page, lsn));
    });
    this.pending = [];
  }

  /** Completes the file that is being written. */
  async closeLayer(): Promise<void> {
    const { writer } = this;
    if (writer === undefined) return;
    const { fault, files, order } = this.options;
    const { directory, timeline, nowMs, number, retained } = order;
    fault("written");
    const { header, bytes, crc } = await writer.finish();
    fault("synced");
    const { firstLsn, lastLsn, firstKey, lastKey, keys, runs, versions, kinds } = header;
    const name = [this.sequence.toString(16).padStart(8, "0"), lsnHex(firstLsn), lsnHex(lastLsn)];
    const file = `${name.join("-")}-m${number.toString(16)}-${this.done.length}.layer`;
    await files.publish(writer.path, `${directory}/${file}`);
    this.writer = undefined;
    this.done.push({
      ...{ file, timeline, sequence: this.sequence, createdAtMs: nowMs },
      ...{ firstLsn, lastLsn, firstKey, lastKey },
      ...{ bytes, crc, keys, runs, versions, kinds },
      reducedTo: retained.cutoff,
      ...(this.rules.pins.length <= LAYER_PINS_MAX && { pins: [...this.rules.pins] }),
    });
    this.counts.writtenBytes += bytes;
    fault("renamed");
  }

  /** Removes what was written; the tiers stay as they are. */
  async abandon(): Promise<void> {
    const { files, order } = this.options;
    await this.writer?.abandon();
    for (const { file } of this.done) await files.remove(`${order.directory}/${file}`);
  }

  /** Looks at the next keys: how they are kept, and which pages should get an image. */
  private survey(): readonly RedoRequest[] | LayerAbsent {
    const { steadyMs } = this.options;
    const end = steadyMs() + MERGE_TURN_MS_MAX;
    const requests: RedoRequest[] = [];
    while (this.work.length < MERGE_KEYS_PER_TURN && requests.length < MERGE_IMAGES_PER_TURN) {
      const key = this.held ?? this.keys.next();
      this.held = undefined;
      if (key === undefined) {
        this.surveyed = true;
        break;
      }
      const keep = this.rules.of(key.group, key.block);
      const images = this.imagesOf(key, keep);
      if (images instanceof LayerAbsent) {
        this.held = key;
        // What was found so far goes on; the next turn comes back to this key.
        return this.work.length === 0 ? images : requests;
      }
      const work: KeyWork = { key, keep, images: [] };
      this.work.push(work);
      for (const { lsn, made } of images) {
        if ("steps" in made) {
          this.pending.push({ work, lsn });
          requests.push(made);
        } else this.addImage(work, imageOf(made, lsn));
      }
      if (this.work.length % 16 === 0 && steadyMs() > end) break;
    }
    return requests;
  }

  /** All images of a key, or none when a layer below the merged ones is not here. */
  private imagesOf(key: MergeKey, keep: KeyKeep): readonly MadeImage[] | LayerAbsent {
    try {
      return this.planner.wanted(key, keep).flatMap((wanted) => {
        const made = this.planner.make(key, wanted);
        return made === undefined ? [] : [{ lsn: wanted.lsn, made }];
      });
    } catch (cause) {
      if (cause instanceof LayerAbsent) return cause;
      throw cause;
    }
  }

  private addImage(work: KeyWork, image: Version): void {
    work.images.push(image);
    work.images.sort((x, y) => y.lsn - x.lsn);
    this.counts.images++;
  }

  /** Appends keys; true when the file has its size. */
  private write(): boolean {
    const { steadyMs, files, order } = this.options;
    const { directory, timeline, number } = order;
    if (this.writer === undefined) {
      const path = `${directory}/merge-${number.toString(16)}-${this.done.length}.tmp`;
      const bytes = 2 * MERGED_LAYER_BYTES_MAX + this.counts.readBytes;
      this.writer = files.create(path, timeline, this.keysMax, bytes, this.keyBytes);
      this.writerBytes = this.writerKeys = 0;
      this.lastWasPage = false;
    }
    const { writer } = this;
    const end = steadyMs() + MERGE_TURN_MS_MAX;
    this.turnRuns = writer.runs + MERGE_KEYS_PER_TURN;
    let full = false;
    let keys = 0;
    writer.turn(() => {
      while (keys < this.work.length && writer.runs < this.turnRuns && !full) {
        const work = this.work[keys]!;
        full = this.endsPages(work);
        if (full || !this.writeKey(work)) break;
        keys++;
        full = this.writerBytes >= MERGED_LAYER_BYTES_MAX || this.writerKeys >= this.keysMax;
        if (keys % 16 === 0 && steadyMs() > end) break;
      }
    });
    this.work.splice(0, keys);
    if (this.writerKeys > 0) return full;
    // Nothing was kept: no file for nothing.
    if (this.work.length === 0 && this.surveyed) this.discard();
    return false;
  }

  /** What is no page is read by everything: it gets a file of its own, unless there is too little of all. */
  private endsPages({ key }: KeyWork): boolean {
    const isPage = key.group.kind === KIND.PAGE;
    return this.lastWasPage && !isPage && this.writerBytes >= MERGE_SMALL_BYTES;
  }

  private discard(): void {
    const { writer } = this;
    this.writer = undefined;
    void writer?.abandon();
  }

  /** False when the turn is over in the middle of the key. */
  private writeKey(work: KeyWork): boolean {
    const { key, keep, images } = work;
    if (this.resumeAt === undefined) {
      this.keeper.begin(keep.cutoff, keep.cutoffNeeded, keep.pins);
      this.begun = false;
      this.nextImage = 0;
      this.lastLsn = LSN_MAX;
    }
    const at = this.resumeAt ?? LSN_MAX;
    this.resumeAt = undefined;
    const offer = (version: Version): boolean => {
      if (this.writer!.runs >= this.turnRuns && version.lsn < this.lastLsn) {
        this.resumeAt = (this.lastLsn - 1) as Lsn;
        return false;
      }
      this.lastLsn = version.lsn;
      for (; this.nextImage < images.length; this.nextImage++) {
        const image = images[this.nextImage]!;
        if (image.lsn < version.lsn) break;
        this.put(key, image);
      }
      this.put(key, version);
      return !this.keeper.done;
    };
    for (const layer of key.layers) {
      if (!layer.visit(key.group, key.block, at, 0 as Lsn, offer)) break;
    }
    if (this.resumeAt !== undefined) return false;
    if (this.begun) this.writer!.end();
    return true;
  }

  private put(key: MergeKey, version: Version): void {
    const { keeper, counts } = this;
    const { type, lsn, flags } = version;
    // Where nothing older is, there is nothing to be hidden by it.
    const isLast = (): boolean =>
      type === VERSION.TOMBSTONE && this.options.order.bottom && lsn <= this.rules.cutoff;
    if (!keeper.keeps(lsn, type, flags) || (isLast() && keeper.done)) {
      counts.droppedVersions++;
      return;
    }
    const writer = this.writer!;
    if (!this.begun) {
      writer.begin(key.group, key.block);
      this.lastWasPage = key.group.kind === KIND.PAGE;
      this.begun = true;
      this.writerKeys++;
      this.writerBytes += 64;
    }
    const kept = packed(version);
    writer.add(kept);
    counts.keptVersions++;
    this.writerBytes += kept.length + 8;
  }
}
