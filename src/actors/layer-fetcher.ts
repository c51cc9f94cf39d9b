// Fetches layers whose files are not here: evicted, or of a tenant that was just attached. Whoever
// wants the same one waits for the same fetch; what a reader waits for comes before background work.

import { errorCode } from "../core/error-code.ts";
import { timelinePrefix } from "../core/backup/names.ts";
import { LAYER_FETCHES_MAX } from "../core/limits.ts";
import type { TenantId, TimelineId } from "../core/ids.ts";
import { ObjectError, type ObjectStorage } from "../core/object-storage.ts";
import { fetchLayer } from "../io/objects/layer-object.ts";
import type { LayerEntry } from "../store/catalog-entries.ts";
import type { LayerFiles } from "../store/layer-files.ts";
import { StoreFull } from "../store/store-errors.ts";

/** urgent: a reader waits. */
export type FetchLane = "urgent" | "background";

export interface WantedLayer {
  readonly tenant: TenantId;
  readonly path: string;
  readonly entry: LayerEntry;
}

export class LayerFetcher {
  /** Since the start. */
  readonly counts = { fetched: 0, bytes: 0, failed: 0 };
  private readonly storages: Readonly<Record<FetchLane, ObjectStorage>>;
  private readonly files: LayerFiles;
  private readonly underWay = new Map<string, Promise<void>>();
  private readonly waiting: Record<FetchLane, (() => void)[]> = { urgent: [], background: [] };
  private readonly byTimeline = new Map<TimelineId, number>();
  private running = 0;

  constructor(storages: Readonly<Record<FetchLane, ObjectStorage>>, files: LayerFiles) {
    this.storages = storages;
    this.files = files;
  }

  /** Layers of a timeline that were fetched, counted up. */
  fetchedOf(timeline: TimelineId): number {
    return this.byTimeline.get(timeline) ?? 0;
  }

  /** Resolves when the file is here, whole. Rejects with ObjectError, StoreFull. */
  fetch(wanted: WantedLayer, lane: FetchLane): Promise<void> {
    const known = this.underWay.get(wanted.path);
    if (known !== undefined) return known;
    const fetching = this.run(wanted, lane).finally(() => this.underWay.delete(wanted.path));
    this.underWay.set(wanted.path, fetching);
    return fetching;
  }

  private async run({ tenant, path, entry }: WantedLayer, lane: FetchLane): Promise<void> {
    const { object } = entry;
    if (object === undefined) {
      throw new ObjectError("not-found", `${path} is missing, and object storage does not have it`);
    }
    await this.slot(lane);
    try {
      const name = timelinePrefix(tenant, entry.timeline) + object.name;
      await fetchLayer(this.storages[lane], name, path, entry);
      this.files.trust(path);
      this.counts.fetched++;
      this.byTimeline.set(entry.timeline, this.fetchedOf(entry.timeline) + 1);
      this.counts.bytes += object.bytes;
    } catch (cause) {
      this.counts.failed++;
      const code = errorCode(cause);
      throw code === "ENOSPC" || code === "EDQUOT" ? new StoreFull(path, cause) : cause;
    } finally {
      this.running--;
      (this.waiting.urgent.shift() ?? this.waiting.background.shift())?.();
    }
  }

  private async slot(lane: FetchLane): Promise<void> {
    // One slot is left to readers.
    const most = lane === "urgent" ? LAYER_FETCHES_MAX : LAYER_FETCHES_MAX - 1;
    if (this.running >= most) {
      await new Promise<void>((resolve) => this.waiting[lane].push(resolve));
    }
    this.running++;
  }
}
