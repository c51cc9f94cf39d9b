// The WAL side of a timeline: bytes to segment files and to the open layer, freezing and sealing in
// turns, and what is durable. Plain methods that the actor calls in its turns; nothing here awaits,
// outcomes come back through the callbacks as messages.

import { MalformedInput } from "../core/assert.ts";
import type { Boundary } from "../core/boundaries.ts";
import { boundaryAtOrBelow } from "../core/boundaries.ts";
import { KIND } from "../core/key.ts";
import { LSN_MAX, Lsn } from "../core/lsn.ts";
import { OPEN_LAYER_BYTES_MAX } from "../core/limits.ts";
import { DurableMarks, freezeReason } from "../core/timeline.ts";
import type { OpenBudget } from "../store/open-budget.ts";
import type { SealJob } from "../store/seal-job.ts";
import { StoreFull } from "../store/store-errors.ts";
import type { TimelineStore } from "../store/timeline-store.ts";
import type { WalFiles } from "../store/wal-files.ts";
import type { WalIntake } from "../store/wal-intake.ts";
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
  readonly budget: OpenBudget;
  /** A turn of sealing is due; a seal has ended. */
  readonly onSealTurn: () => void;
  readonly onSealed: (error: unknown) => void;
}

export class TimelineWal {
  readonly store: TimelineStore;
  readonly intake: WalIntake;
  readonly files: WalFiles;
  private readonly parts: TimelineWalParts;
  private readonly marks: DurableMarks;
  private job: SealJob | undefined;
  private firstChangeMs = 0;
  private lastChangeMs = 0;

  constructor(parts: TimelineWalParts) {
    this.parts = parts;
    this.store = parts.store;
    this.intake = parts.intake;
    this.files = parts.files;
    this.marks = new DurableMarks(parts.intake.visible);
  }

  get positions(): Positions {
    const { visible, position } = this.intake;
    const received = Math.max(position, visible) as Lsn;
    return { received, visible, durable: this.marks.durable, uploaded: Lsn.of(0) };
  }

  /** True while WAL must wait: memory is full and the layer before is still being sealed. */
  get mustWait(): boolean {
    if (!this.store.isSealing) return false;
    return this.store.openBytes >= OPEN_LAYER_BYTES_MAX || this.parts.budget.exceeded;
  }

  /** Takes in bytes that start at the intake's position. */
  take(bytes: Uint8Array, nowMs: number): Taken {
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
      if (error instanceof MalformedInput) return { kind: "refused", reason };
      return { kind: "broken", reason, error };
    } finally {
      this.lastChangeMs = nowMs;
      if (wasEmpty) this.firstChangeMs = nowMs;
      this.store.account();
    }
    this.marks.wrote(this.intake.position, this.intake.visible);
    return { kind: "taken" };
  }

  /** An fsync has come back. True when the durable position moved. */
  synced(upTo: Lsn): boolean {
    return this.marks.synced(upTo);
  }

  /** Forgets what was received beyond the last whole record; append again when the promise is kept. */
  async rewind(): Promise<void> {
    this.intake.restart();
    if (this.files.received > this.intake.visible) await this.files.rewindTo(this.intake.visible);
  }

  /** Freezes the open layer if there is a reason to, and begins to seal. */
  maybeFreeze(nowMs: number, wanted: "if-due" | "now"): void {
    const { store, budget } = this.parts;
    const reason = freezeReason({
      bytes: store.openBytes,
      ageMs: nowMs - this.firstChangeMs,
      idleMs: nowMs - this.lastChangeMs,
      empty: store.openIsEmpty,
      sealing: store.isSealing,
      overBudget: budget.exceeded && budget.isLargest(store),
    });
    const forced = wanted === "now" && !store.openIsEmpty && !store.isSealing;
    if (reason === undefined && !forced) return;
    this.intake.beforeFreeze();
    store.freeze(this.intake.visible, this.intake.prev);
    this.intake.moveTo(store.sink);
    this.beginSeal(nowMs);
  }

  /** Begins to seal the oldest frozen layer, if there is one and no seal is under way. */
  beginSeal(nowMs: number): void {
    if (this.job !== undefined) return;
    this.job = this.store.beginSeal(nowMs);
    if (this.job !== undefined) this.parts.onSealTurn();
  }

  /** One bounded turn; the next one is asked for behind whatever has queued meanwhile. */
  sealTurn(): void {
    const { job } = this;
    if (job === undefined) return;
    try {
      if (job.step()) return this.parts.onSealTurn();
    } catch (error) {
      return this.sealOver(job, error);
    }
    job.finish().then(
      () => this.sealOver(job, undefined),
      (error: unknown) => this.sealOver(job, error),
    );
  }

  private sealOver(job: SealJob, error: unknown): void {
    const end = (): void => {
      this.job = undefined;
      this.parts.onSealed(error);
    };
    if (error === undefined) end();
    else job.abandon().then(end, end);
  }

  /** After a seal: segments that sealed layers cover are not read again. */
  letGo(sealedLsn: Lsn): void {
    this.files.letGo(sealedLsn);
  }

  /** The newest record boundary at or below `lsn`, from this timeline's own WAL. */
  boundary(lsn: Lsn): Boundary | undefined {
    const { ingest, visible, prev } = this.intake;
    return boundaryAtOrBelow(lsn, { last: visible, prev }, (window) => {
      const pending = ingest.pendingWindow(window);
      if (pending !== undefined) return pending;
      const group = { kind: KIND.BOUNDARY, a: 0, b: 0, c: Lsn.high(window), d: 0 };
      return this.store.value(group, Lsn.low(window), LSN_MAX)?.value;
    });
  }

  async close(): Promise<void> {
    this.store.close();
    await this.files.flush().catch(() => undefined);
    await this.files.close();
  }
}
