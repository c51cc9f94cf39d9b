// Makes a sealed layer of a frozen one: its file is written, in bounded turns here (step() until it
// answers false) or elsewhere, then finish() gives it its name and enters it. The file counts from
// the moment its catalog transaction has happened; a crash before that leaves a file that is removed when
// the store is opened again. See I9.

import type { TimelineId } from "../core/ids.ts";
import { lsnHex } from "./catalog.ts";
import type { LayerEntry } from "./catalog-entries.ts";
import type { LayerFiles } from "./layer-files.ts";
import { LayerSealing, type SealOrder, type SealedFacts } from "./layer-sealing.ts";
import type { MemoryLayer } from "./memory-layer.ts";

/** Moments between which a crash must lose nothing; tests throw there. */
export type SealPoint = "begun" | "written" | "synced" | "renamed" | "entered";
export type SealFault = (point: SealPoint) => void;

export interface SealJobOptions {
  readonly layer: MemoryLayer;
  readonly timeline: TimelineId;
  readonly directory: string;
  readonly files: LayerFiles;
  readonly sequence: number;
  readonly nowMs: number;
  readonly fault: SealFault;
  /** Enters the layer (undefined: it was empty) in the catalog, in one transaction. */
  readonly enter: (entry: LayerEntry | undefined) => void;
  /** Called when the job has ended, well or not: another may begin. */
  readonly over: () => void;
}

export class SealJob {
  private readonly options: SealJobOptions;
  private readonly path: string;
  private readonly file: string;
  private readonly isEmpty: boolean;
  private readonly sealing: LayerSealing;

  constructor(options: SealJobOptions) {
    const { layer, timeline, sequence, directory, files, fault } = options;
    this.options = options;
    const number = sequence.toString(16).padStart(8, "0");
    this.file = `${number}-${lsnHex(layer.firstLsn)}-${lsnHex(layer.lastLsn)}.layer`;
    this.path = `${directory}/${this.file}`;
    this.isEmpty = layer.versions === 0;
    this.sealing = new LayerSealing({ layer, timeline, files, fault, path: this.beingWritten });
  }

  private get beingWritten(): string {
    return `${this.path}.tmp`;
  }

  /** What somebody else is to write instead of step(), for finish(); undefined: there is nothing to write. */
  order(): SealOrder | undefined {
    const { layer, timeline } = this.options;
    if (this.isEmpty) return undefined;
    return { path: this.beingWritten, timeline, layer: layer.parts() };
  }

  /** One turn of writing; false when all is written. Throws StoreFull (abandon and begin again later), StoreFailed. */
  step(): boolean {
    return !this.isEmpty && this.sealing.step();
  }

  /**
   * Makes the layer durable and enters it. `elsewhere`: somebody else writes the file, and makes it durable.
   * After an error: abandon() it, the layer stays frozen.
   */
  async finish(elsewhere?: Promise<SealedFacts>): Promise<LayerEntry | undefined> {
    const { fault, enter, over, timeline, sequence, nowMs, files } = this.options;
    if (this.isEmpty) {
      enter(undefined);
      over();
      return undefined;
    }
    const { header, bytes, crc, chainRecords } = await (elsewhere ?? this.sealing.finish());
    fault("synced");
    await files.publish(this.beingWritten, this.path);
    fault("renamed");
    const { firstLsn, lastLsn, firstKey, lastKey, keys, runs, versions, kinds } = header;
    const ranges = { firstLsn, lastLsn, firstKey, lastKey };
    const counts = { bytes, crc, keys, runs, versions, kinds };
    const place = { file: this.file, timeline, sequence, createdAtMs: nowMs };
    const entry = { ...place, ...ranges, ...counts, chainRecords };
    enter(entry);
    over();
    fault("entered");
    return entry;
  }

  /** Removes what was written here, after step() or finish() threw. Who writes elsewhere removes it there. */
  async abandon(): Promise<void> {
    try {
      await this.sealing.abandon();
    } finally {
      this.options.over();
    }
  }
}
