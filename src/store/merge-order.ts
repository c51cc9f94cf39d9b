// A merge as the timeline orders it, in plain values, so that another thread can do it: which tiers, what
// must stay readable, and all sealed layers that it may have to read. What it writes counts from one
// catalog transaction on, when the timeline enters it; a crash before leaves files that are removed when the
// store is opened again. See I9.

import type { TimelineId } from "../core/ids.ts";
import type { MergePlan } from "../core/compaction.ts";
import type { LayerEntry } from "./catalog-entries.ts";
import type { LayerFiles } from "./layer-files.ts";
import type { Retained } from "./merge-keep.ts";
import type { SealedHop } from "./sealed-view.ts";
import { StoreFull } from "./store-errors.ts";

export interface MergeOrder {
  readonly timeline: TimelineId;
  /** Where its layers lie, and new ones are written. */
  readonly directory: string;
  /** The timeline's own layers, then its ancestors'. Everything that the merge looks at is sealed. */
  readonly view: readonly SealedHop[];
  /** Tiers of the timeline's own layers, newest first, neighbours. */
  readonly plan: Pick<MergePlan, "from" | "to">;
  /** Nothing older lies below them: no tier, no ancestor. */
  readonly bottom: boolean;
  readonly retained: Retained;
  /** Distinguishes these files from all others of the timeline. */
  readonly number: number;
  readonly nowMs: number;
}

/** The number in the name of a file that a merge wrote, whether it is finished or not. */
export function mergeOf(name: string): number | undefined {
  const found = /(?:^merge-|-m)([0-9a-f]+)-\d+\.(?:tmp|layer)/.exec(name);
  return found === null ? undefined : parseInt(found[1]!, 16);
}

export interface MergeCounts {
  readBytes: number;
  writtenBytes: number;
  droppedVersions: number;
  keptVersions: number;
  images: number;
}

/** What came of it: files that are durable, and as they are to be entered. */
export interface Merged {
  readonly layers: readonly LayerEntry[];
  readonly counts: Readonly<MergeCounts>;
}

/** Moments between which a crash must lose nothing; tests throw there. */
export type EnterPoint = "entered" | "unlinked";

export interface BegunMergeOptions {
  readonly order: MergeOrder;
  readonly sources: readonly LayerEntry[];
  readonly files: LayerFiles;
  readonly fault: (point: EnterPoint) => void;
  /** Swaps the layers in one transaction. */
  readonly enter: (remove: readonly LayerEntry[], add: readonly LayerEntry[]) => void;
  readonly over: () => void;
}

/** A merge under way: somebody carries the order out. */
export class BegunMerge {
  private readonly options: BegunMergeOptions;

  constructor(options: BegunMergeOptions) {
    this.options = options;
  }

  get order(): MergeOrder {
    return this.options.order;
  }

  /** The layers that are merged. */
  get sources(): readonly LayerEntry[] {
    return this.options.sources;
  }

  /** Swaps old for new, at once; resolves when the old files are gone. */
  async enter({ layers }: Merged): Promise<void> {
    const { sources, fault, enter, over } = this.options;
    try {
      enter(sources, layers);
    } catch (cause) {
      // It has not happened. After any other failure nobody knows.
      if (cause instanceof StoreFull) await this.remove(layers);
      throw cause;
    }
    fault("entered");
    try {
      await this.remove(sources);
    } finally {
      over();
    }
    fault("unlinked");
  }

  private async remove(layers: readonly LayerEntry[]): Promise<void> {
    const { order, files } = this.options;
    for (const { file } of layers) await files.remove(`${order.directory}/${file}`);
  }

  /** It came to nothing: the tiers stay as they are. Who carried it out has removed what it wrote. */
  giveUp(): void {
    this.options.over();
  }
}
