// What a timeline decides, without store, clock or actors: its life, when its open layer is
// frozen, and which position is durable. The actor of the same name performs.

import { assert } from "./assert.ts";
import { OPEN_LAYER_AGE_MS_MAX, OPEN_LAYER_BYTES_MAX, OPEN_LAYER_IDLE_MS_MAX } from "./limits.ts";
import { LSN_INVALID, type Lsn } from "./lsn.ts";

/**
 * loading: WAL files are replayed into the open layer · active · stopping: drains ·
 * broken: what was taken in before stays readable, nothing new is taken in.
 */
export type TimelinePhase =
  | { readonly kind: "loading" }
  | { readonly kind: "active" }
  | { readonly kind: "stopping" }
  | { readonly kind: "broken"; readonly reason: string };

export type PhaseEvent =
  | { readonly kind: "loaded" }
  | { readonly kind: "stop" }
  | { readonly kind: "failed"; readonly reason: string };

/** The next phase. A broken timeline stays broken until it is loaded anew; a stopping one stops. */
export function nextPhase(phase: TimelinePhase, event: PhaseEvent): TimelinePhase {
  if (phase.kind === "stopping") return phase;
  switch (event.kind) {
    case "stop":
      return { kind: "stopping" };
    case "failed":
      return { kind: "broken", reason: event.reason };
    case "loaded":
      return phase.kind === "loading" ? { kind: "active" } : phase;
  }
}

export interface OpenLayerFacts {
  readonly bytes: number;
  /** Since its first change, ms. 0 when empty. */
  readonly ageMs: number;
  /** Since its last change, ms. */
  readonly idleMs: number;
  readonly empty: boolean;
  /** A frozen layer is still being sealed. */
  readonly sealing: boolean;
  /** All layers in memory are over their budget and this one has to go (store/open-budget.ts). */
  readonly overBudget: boolean;
}

/** Why the open layer must be frozen now; undefined: it need not. */
export function freezeReason(
  facts: OpenLayerFacts,
): "size" | "budget" | "age" | "idle" | undefined {
  if (facts.empty || facts.sealing) return undefined;
  if (facts.bytes >= OPEN_LAYER_BYTES_MAX) return "size";
  if (facts.overBudget) return "budget";
  if (facts.ageMs >= OPEN_LAYER_AGE_MS_MAX) return "age";
  if (facts.idleMs >= OPEN_LAYER_IDLE_MS_MAX) return "idle";
  return undefined;
}

/**
 * WAL positions that were written to file together, to find the last whole record at or below
 * what has been fsynced. One mark for each chunk that is not durable yet.
 */
export class DurableMarks {
  private marks: { readonly written: Lsn; readonly lastRecord: Lsn }[] = [];
  private durableLsn: Lsn;

  constructor(durable: Lsn) {
    this.durableLsn = durable;
  }

  /** End of the last whole record that is fsynced: what may be acknowledged upstream as flush. */
  get durable(): Lsn {
    return this.durableLsn;
  }

  /** Bytes up to `written` are in the file; the last whole record among them ends at `lastRecord`. */
  wrote(written: Lsn, lastRecord: Lsn): void {
    this.marks.push({ written, lastRecord });
  }

  /** What lies behind `lsn`, the end of the last whole record, was forgotten, and all below it is fsynced. */
  rewound(lsn: Lsn): void {
    assert(lsn >= this.durableLsn, "I: what is durable is not forgotten");
    this.marks = [];
    this.durableLsn = lsn;
  }

  /** An fsync that covers `upTo` has come back. True when the durable position moved. */
  synced(upTo: Lsn): boolean {
    let moved = LSN_INVALID;
    while (this.marks.length > 0 && this.marks[0]!.written <= upTo) {
      const { written, lastRecord } = this.marks.shift()!;
      // After a segment switch the last record's stamp lies ahead of the bytes: never claim those.
      moved = Math.min(written, lastRecord) as Lsn;
    }
    if (moved <= this.durableLsn) return false;
    assert(moved <= upTo, "I: durable never runs ahead of the fsynced bytes");
    this.durableLsn = moved;
    return true;
  }
}
