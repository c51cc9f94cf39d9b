// For whom each stored version is kept: the bytes of a timeline, by reason. Goes through the versions of
// each key as core/gc.ts's Keeper does when layers are merged, and writes down who opened the chain that
// a version is in. Pure.
//
// Each version counts for one reason: for the window if it is needed there, else for the newest pin that
// needs it. So the sums add up to all that is stored. What would go if one pin went is a second sum.

import type { Lsn } from "./lsn.ts";
import { type VersionType, endsChain } from "./version.ts";

export interface KeptFor {
  /** Versions above the cutoff, and what reads at the cutoff need. */
  windowBytes: number;
  /** By pinned LSN: what counts for it, and what nobody else needs. */
  readonly pins: Map<Lsn, { bytes: number; aloneBytes: number }>;
  /** Needed by nobody: goes when layers are merged. */
  supersededBytes: number;
}

export class KeptBytes {
  readonly kept: KeptFor;
  private cutoff = 0;
  private cutoffNeeded = false;
  private pins: readonly Lsn[] = [];
  private next = 0;
  private above = true;
  private windowOpen = false;
  /** Pins whose chain has not ended yet, newest first. */
  private readonly open: Lsn[] = [];
  private shadowLsn = -1;

  /** `pins`: the LSNs below the cutoff that somebody holds. */
  constructor(pins: Iterable<Lsn>) {
    const none = [...pins].map((lsn) => [lsn, { bytes: 0, aloneBytes: 0 }] as const);
    this.kept = { windowBytes: 0, pins: new Map(none), supersededBytes: 0 };
  }

  get totalBytes(): number {
    const { windowBytes, pins, supersededBytes } = this.kept;
    let total = windowBytes + supersededBytes;
    for (const { bytes } of pins.values()) total += bytes;
    return total;
  }

  /** A new key; as Keeper.begin. An LSN in `pins` that nobody holds counts for the window. */
  begin(cutoff: Lsn, cutoffNeeded: boolean, pins: readonly Lsn[]): void {
    this.cutoff = cutoff;
    this.cutoffNeeded = cutoffNeeded;
    this.pins = pins;
    this.next = 0;
    this.above = true;
    this.windowOpen = false;
    this.open.length = 0;
    this.shadowLsn = -1;
  }

  /** The next older version of the key. */
  add(lsn: Lsn, type: VersionType, flags: number, bytes: number): void {
    const { kept, open } = this;
    if (lsn === this.shadowLsn) {
      kept.supersededBytes += bytes;
      return;
    }
    const ends = endsChain(type, flags);
    if (ends) this.shadowLsn = lsn;
    if (lsn > this.cutoff) {
      kept.windowBytes += bytes;
      this.windowOpen = !ends;
      return;
    }
    if (this.above) {
      this.above = false;
      this.windowOpen ||= this.cutoffNeeded;
    }
    for (; this.next < this.pins.length && lsn <= this.pins[this.next]!; this.next++) {
      const pin = this.pins[this.next]!;
      if (kept.pins.has(pin)) open.push(pin);
      else this.windowOpen = true;
    }
    const newest = open[0];
    if (this.windowOpen) kept.windowBytes += bytes;
    else if (newest === undefined) kept.supersededBytes += bytes;
    else {
      const pin = kept.pins.get(newest)!;
      pin.bytes += bytes;
      if (open.length === 1) pin.aloneBytes += bytes;
    }
    if (ends) {
      this.windowOpen = false;
      open.length = 0;
    }
  }
}
