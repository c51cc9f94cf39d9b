// Writes a frozen layer as a sealed one, in bounded turns: step() until it answers false, then
// finish(). The file counts from the moment its catalog transaction has happened; a crash before
// that leaves a file that is removed when the store is opened again. See I9.

import type { TimelineId } from "../core/ids.ts";
import { SEAL_RUNS_PER_TURN } from "../core/limits.ts";
import { LSN_MAX, type Lsn } from "../core/lsn.ts";
import { VERSION, type Version, endsChain } from "../core/version.ts";
import { lsnHex } from "./catalog.ts";
import type { LayerEntry } from "./catalog-entries.ts";
import type { LayerFiles, LayerSink } from "./layer-files.ts";
import type { MemoryLayer } from "./memory-layer.ts";
import type { LayerCursor } from "./object-store.ts";

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
  private writer: LayerSink | undefined;
  private cursor: LayerCursor | undefined;
  private done = false;
  private runsEnd = 0;
  // Within a key whose versions take more than one turn: where the next turn goes on.
  private resumeAt: Lsn | undefined;
  private lastLsn: Lsn = LSN_MAX;
  private readonly add = (version: Version): boolean => {
    const writer = this.writer!;
    // Versions of one LSN are not torn apart: the next turn could not tell which it has had.
    if (writer.runs >= this.runsEnd && version.lsn < this.lastLsn) return false;
    writer.add(version);
    this.lastLsn = version.lsn;
    this.count(version);
    return true;
  };

  // Records of the current key above what its newest chain begins with; -1: that is behind us.
  private chain = 0;
  private chainMax = 0;

  constructor(options: SealJobOptions) {
    const { layer, sequence, directory } = options;
    this.options = options;
    const number = sequence.toString(16).padStart(8, "0");
    this.file = `${number}-${lsnHex(layer.firstLsn)}-${lsnHex(layer.lastLsn)}.layer`;
    this.path = `${directory}/${this.file}`;
    this.done = layer.versions === 0;
  }

  /** One turn of writing; false when all is written. Throws StoreFull (abandon and begin again later), StoreFailed. */
  step(): boolean {
    const { layer, timeline, fault, files } = this.options;
    if (this.done) return false;
    if (this.writer === undefined || this.cursor === undefined) {
      const { bytes, keyCount } = layer;
      this.writer = files.create(`${this.path}.tmp`, timeline, keyCount, bytes, bytes / keyCount);
      this.cursor = layer.cursor();
      fault("begun");
    }
    const { writer, cursor } = this;
    this.runsEnd = writer.runs + SEAL_RUNS_PER_TURN;
    writer.turn(() => {
      while (writer.runs < this.runsEnd) {
        if (this.resumeAt === undefined) {
          if (!cursor.next()) {
            this.done = true;
            return;
          }
          writer.begin(cursor.group, cursor.block);
          this.lastLsn = LSN_MAX;
          this.chain = 0;
        }
        const whole = cursor.visit(this.resumeAt ?? LSN_MAX, this.add);
        this.resumeAt = whole ? undefined : ((this.lastLsn - 1) as Lsn);
        if (whole) writer.end();
      }
    });
    if (this.done) fault("written");
    return !this.done;
  }

  private count({ type, flags }: Version): void {
    if (this.chain < 0) return;
    if (type === VERSION.RECORD && ++this.chain > this.chainMax) this.chainMax = this.chain;
    if (endsChain(type, flags)) this.chain = -1;
  }

  /** Makes the layer durable and enters it. After an error: abandon() it, the layer stays frozen. */
  async finish(): Promise<LayerEntry | undefined> {
    const { writer } = this;
    const { fault, enter, over, timeline, sequence, nowMs } = this.options;
    if (writer === undefined) {
      enter(undefined);
      over();
      return undefined;
    }
    const { header, bytes, crc } = await writer.finish();
    fault("synced");
    await this.options.files.publish(writer.path, this.path);
    fault("renamed");
    const { firstLsn, lastLsn, firstKey, lastKey, keys, runs, versions, kinds } = header;
    const ranges = { firstLsn, lastLsn, firstKey, lastKey };
    const counts = { bytes, crc, keys, runs, versions, kinds };
    const place = { file: this.file, timeline, sequence, createdAtMs: nowMs };
    const entry = { ...place, ...ranges, ...counts, chainRecords: this.chainMax };
    enter(entry);
    over();
    fault("entered");
    return entry;
  }

  /** Removes what was written, after step() or finish() threw. */
  async abandon(): Promise<void> {
    try {
      await this.writer?.abandon();
    } finally {
      this.options.over();
    }
  }
}
