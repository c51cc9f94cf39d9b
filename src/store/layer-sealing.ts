// Writes a frozen layer's file, in bounded turns: step() until it answers false, then finish(). Knows
// neither catalog nor final name, so that it runs where the layer is or in another thread (SealOrder). The
// file counts only when SealJob has renamed and entered it.

import { SEAL_RUNS_PER_TURN } from "../core/limits.ts";
import { LSN_MAX, type Lsn } from "../core/lsn.ts";
import { VERSION, type Version, endsChain } from "../core/version.ts";
import type { FrozenParts, SealSource } from "./frozen-layer.ts";
import type { LayerFiles, LayerSink } from "./layer-files.ts";
import type { WrittenFile } from "./layer-writer.ts";
import type { LayerCursor } from "./object-store.ts";

/** A file that is to be written by somebody else. */
export interface SealOrder {
  /** Written there; what is there already is replaced. */
  readonly path: string;
  readonly timeline: string;
  readonly layer: FrozenParts;
}

export interface SealedFacts extends WrittenFile {
  /** Most records of one key that a read of it applies. */
  readonly chainRecords: number;
}

export interface LayerSealingOptions {
  readonly layer: SealSource;
  readonly path: string;
  readonly timeline: string;
  readonly files: Pick<LayerFiles, "create">;
  readonly fault: (point: "begun" | "written") => void;
}

export class LayerSealing {
  private readonly options: LayerSealingOptions;
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

  constructor(options: LayerSealingOptions) {
    this.options = options;
  }

  /** One turn of writing; false when all is written. Throws StoreFull (abandon and begin again later), StoreFailed. */
  step(): boolean {
    const { layer, timeline, fault, files, path } = this.options;
    if (this.done) return false;
    if (this.writer === undefined || this.cursor === undefined) {
      const { bytes, keyCount } = layer;
      this.writer = files.create(path, timeline, keyCount, bytes, bytes / keyCount);
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

  /** Makes the file durable, when step() has answered false. After an error: abandon() it. */
  async finish(): Promise<SealedFacts> {
    return { ...(await this.writer!.finish()), chainRecords: this.chainMax };
  }

  /** Removes what was written, after step() or finish() threw. */
  async abandon(): Promise<void> {
    await this.writer?.abandon();
  }
}
