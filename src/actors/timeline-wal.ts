// The WAL side of a timeline: bytes to segment files and to the open layer, freezing and sealing (by the
// sealer's thread, else in turns), and what is durable. Plain methods that the actor calls in its turns; nothing here awaits,
// outcomes come back through the callbacks as messages.

import { MalformedInput } from "../core/assert.ts";
import type { Boundary } from "../core/boundaries.ts";
import { boundaryAtOrBelow } from "../core/boundaries.ts";
import { KIND } from "../core/key.ts";
import { LSN_INVALID, LSN_MAX, Lsn, WAL_SEGMENT_BYTES } from "../core/lsn.ts";
import { OPEN_LAYER_BYTES_MAX, SEAL_RETRY_MS } from "../core/limits.ts";
import { DurableMarks, freezeReason } from "../core/timeline.ts";
import type { Clock } from "../io/clock.ts";
import type { DurableFloor } from "../store/durable-floor.ts";
import type { OpenBudget } from "../store/open-budget.ts";
import type { SealOrder } from "../store/layer-sealing.ts";
import type { SealJob } from "../store/seal-job.ts";
import { Relations } from "../store/relations.ts";
import { StoreFull } from "../store/store-errors.ts";
import type { TimelineStore } from "../store/timeline-store.ts";
import { copyWal } from "../store/wal-copy.ts";
import type { WalFiles } from "../store/wal-files.ts";
import type { WalIntake } from "../store/wal-intake.ts";
import type { Sealer } from "./sealer.ts";
import type { Positions } from "./timeline-messages.ts";

/** Outcome of one batch of WAL. */
export type Taken =
  | { readonly kind: "taken" }
  /** Nothing of it was taken; the same bytes may be offered again when there is space. */
  | { readonly kind: "stalled"; readonly reason: string }
  /** The bytes are not good WAL: records before the bad one were taken, the rest must be sent again. */
  | { readonly kind: "refused"; readonly reason: string }
  /** Good WAL that cannot be followed, or our own fault: nothing more can be taken in. */
  | { readonly kind: "broken"; readonly reason: string; readonly error: unknown };

export interface TimelineWalParts {
  readonly store: TimelineStore;
  readonly files: WalFiles;
  readonly intake: WalIntake;
  readonly floor: DurableFloor;
  readonly budget: OpenBudget;
  readonly sealer: Sealer | undefined;
  readonly clock: Clock;
  /** A turn of sealing is due (never when the sealer does it); a seal has ended. */
  readonly onSealTurn: () => void;
  readonly onSealed: (error: unknown) => void;
}

export class TimelineWal {
  readonly store: TimelineStore;
  readonly intake: WalIntake;
  private readonly files: WalFiles;
  private readonly parts: TimelineWalParts;
  private readonly marks: DurableMarks;
  private job: SealJob | undefined;
  /** What the sealer was asked for. */
  private order: SealOrder | undefined;
  /** The end of the job, once its last turn is over; never rejects. */
  private jobEnd: Promise<void> | undefined;
  private rewinding: Promise<void> | undefined;
  private sealAgainMs = 0;
  private firstChangeMs: number;
  private lastChangeMs: number;
  private closed: Promise<void> | undefined;
  /** What object storage holds; set by the timeline's backup. */
  uploaded: Lsn = LSN_INVALID;

  constructor(parts: TimelineWalParts) {
    this.parts = parts;
    this.store = parts.store;
    this.intake = parts.intake;
    this.files = parts.files;
    this.marks = new DurableMarks(parts.intake.visible);
    this.firstChangeMs = this.lastChangeMs = parts.clock.steadyMs();
  }

  get positions(): Positions {
    const { visible, position } = this.intake;
    const received = Math.max(position, visible) as Lsn;
    return { received, visible, durable: this.marks.durable, uploaded: this.uploaded };
  }

  /** Bytes of all relations as of the last record. The first time in a timeline's life all sizes are walked. */
  get logicalSize(): number {
    const { intake, store } = this;
    return (
      intake.logicalSize ??
      intake.learnLogicalSize(new Relations(store).logicalSize(intake.visible))
    );
  }

  /** Bytes of WAL files. */
  get walBytes(): number {
    const [first] = this.files.segments;
    if (first === undefined) return 0;
    return Math.max(this.files.received - first * WAL_SEGMENT_BYTES, 0);
  }

  /** Nothing is in memory that is not in sealed layers, and no file is being written. */
  get isAtRest(): boolean {
    const { store, job, rewinding } = this;
    return store.openIsEmpty && !store.isSealing && job === undefined && rewinding === undefined;
  }

  /** True while WAL must wait: memory is full and the layer before is still being sealed. */
  get mustWait(): boolean {
    if (!this.store.isSealing) return false;
    return this.store.openBytes >= OPEN_LAYER_BYTES_MAX || this.parts.budget.exceeded;
  }

  /** Takes in bytes that start at the intake's position. */
  take(bytes: Uint8Array): Taken {
    const wasEmpty = this.store.openIsEmpty;
    try {
      this.files.append(this.intake.position, bytes);
    } catch (error) {
      if (error instanceof StoreFull) return { kind: "stalled", reason: error.message };
      throw error;
    }
    try {
      this.intake.take(bytes);
    } catch (error) {
      const reason = error instanceof Error ? error.message : String(error);
      if (this.intake.failed || !(error instanceof MalformedInput)) {
        return { kind: "broken", reason, error };
      }
      return { kind: "refused", reason };
    } finally {
      this.lastChangeMs = this.parts.clock.steadyMs();
      if (wasEmpty) this.firstChangeMs = this.lastChangeMs;
      this.store.account();
      this.marks.wrote(this.files.received, this.intake.visible);
    }
    return { kind: "taken" };
  }

  /** An fsync has come back. True when the durable position moved. */
  synced(upTo: Lsn): boolean {
    if (!this.marks.synced(upTo)) return false;
    this.parts.floor.raise(this.marks.durable);
    return true;
  }

  /**
   * Forgets what was received beyond the last whole record; nothing may be taken in until the
   * promise is kept. Called again meanwhile: the same promise.
   */
  rewind(): Promise<void> {
    this.rewinding ??= this.toLastRecord().finally(() => (this.rewinding = undefined));
    return this.rewinding;
  }

  private async toLastRecord(): Promise<void> {
    const { intake, files, marks } = this;
    intake.restart();
    const { visible } = intake;
    if (files.received > visible) {
      await files.rewindTo(visible);
      marks.rewound(visible);
    } else if (files.received < visible) {
      // The last record switched to the next segment: what was missing of the old one says nothing.
      files.skipTo(visible);
      marks.wrote(visible, visible);
    }
  }

  /** Freezes the open layer if there is a reason to, and begins to seal. */
  maybeFreeze(wanted: "if-due" | "now"): void {
    const { store, budget, clock } = this.parts;
    if (this.intake.failed) return;
    const nowMs = clock.steadyMs();
    const reason = freezeReason({
      bytes: store.openBytes,
      ageMs: nowMs - this.firstChangeMs,
      idleMs: nowMs - this.lastChangeMs,
      empty: store.openIsEmpty,
      sealing: store.isSealing,
      overBudget: budget.mustFreeze(store),
    });
    const forced = wanted === "now" && !store.openIsEmpty && !store.isSealing;
    if (reason === undefined && !forced) return;
    this.intake.beforeFreeze();
    store.freeze(this.intake.visible, this.intake.prev, this.logicalSize);
    this.intake.moveTo(store.sink);
    this.beginSeal();
  }

  /** Begins to seal the oldest frozen layer, if there is one, no seal is under way, and none has just failed. */
  beginSeal(): void {
    const { clock, onSealTurn, sealer } = this.parts;
    if (this.job !== undefined || this.closed !== undefined) return;
    if (clock.steadyMs() < this.sealAgainMs) return;
    const job = (this.job = this.store.beginSeal(clock.nowMs()));
    if (job === undefined) return;
    this.order = sealer?.hasRoom === true ? job.order() : undefined;
    if (sealer === undefined || this.order === undefined) return onSealTurn();
    this.jobEnd = this.end(job, job.finish(sealer.run(this.order)));
  }

  /** One bounded turn; the next one is asked for behind whatever has queued meanwhile. */
  sealTurn(): void {
    const { job } = this;
    if (job === undefined || this.jobEnd !== undefined || this.closed !== undefined) return;
    try {
      if (job.step()) return this.parts.onSealTurn();
      this.jobEnd = this.end(job, job.finish());
    } catch (error) {
      this.jobEnd = this.end(job, Promise.reject(error));
    }
  }

  private async end(job: SealJob, finish: Promise<unknown>): Promise<void> {
    let failure: unknown;
    try {
      await finish;
    } catch (error) {
      failure = error;
      this.sealAgainMs = this.parts.clock.steadyMs() + SEAL_RETRY_MS;
      await job.abandon().catch(() => undefined); // what is left is removed at the next start
    }
    this.job = undefined;
    this.jobEnd = undefined;
    this.order = undefined;
    if (this.closed === undefined) this.parts.onSealed(failure);
  }

  /** After a seal: segments that sealed layers cover are not read again. */
  letGo(sealedLsn: Lsn): void {
    this.files.letGo(sealedLsn);
  }

  /** What the files hold, for a backup: from here to `durable`. */
  get walFrom(): Lsn {
    return this.files.from;
  }

  /** Durable bytes of one segment. Rejects with StoreCorrupt. */
  copyWal(from: Lsn, to: Lsn): Promise<Uint8Array> {
    return copyWal((segment) => this.files.pathOf(segment), from, to);
  }

  /** The newest record boundary at or below `lsn`, from this timeline's own WAL. Throws StoreCorrupt. */
  boundary(lsn: Lsn): Boundary | undefined {
    const { ingest, visible, prev } = this.intake;
    return boundaryAtOrBelow(lsn, { last: visible, prev }, (window) => {
      const pending = ingest.pendingWindow(window);
      if (pending !== undefined) return pending;
      const group = { kind: KIND.BOUNDARY, a: 0, b: 0, c: Lsn.high(window), d: 0 };
      return this.store.value(group, Lsn.low(window), LSN_MAX)?.value;
    });
  }

  /** Resolves when no file of the timeline is written any more. What was received is fsynced, if that works. */
  close(): Promise<void> {
    this.closed ??= this.shut();
    return this.closed;
  }

  private async shut(): Promise<void> {
    await this.rewinding?.catch(() => undefined);
    if (this.order !== undefined) this.parts.sealer?.withdraw(this.order);
    if (this.jobEnd !== undefined) await this.jobEnd;
    else await this.job?.abandon().catch(() => undefined);
    this.store.close();
    await this.files.flush().catch(() => undefined); // told to onFatal
    await this.files.close();
    this.parts.floor.close();
  }
}
