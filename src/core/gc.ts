// What history must be kept: how far back every LSN is readable (the cutoff), the single LSNs below it
// that someone still reads (pins), and which versions of a key those readers need. Pure.
//
// The law: a version is needed exactly when it is in the chain of some permitted read. Every LSN at or
// above the cutoff is permitted, and every pin. What is not needed is not carried by the next merge.

import type { TimelineId } from "./ids.ts";
import { LSN_INVALID, type Lsn } from "./lsn.ts";
import { type VersionType, endsChain } from "./version.ts";

/** Why an LSN below the cutoff is kept. */
export type PinReason =
  | { readonly kind: "branch"; readonly child: TimelineId }
  | { readonly kind: "lease"; readonly owner: string; readonly expiresAtMs: number }
  | { readonly kind: "snapshot"; readonly name: string }
  /** A read that takes long: a base backup. */
  | { readonly kind: "reader" };

export interface Pin {
  readonly lsn: Lsn;
  readonly reason: PinReason;
}

/** What retention needs to know of one timeline of a tenant. */
export interface RetainedTimeline {
  readonly id: TimelineId;
  readonly ancestor?: { readonly id: TimelineId; readonly lsn: Lsn } | undefined;
  /** Everything at or above is readable; of a branch, as far as its own history goes. */
  readonly cutoff?: Lsn | undefined;
  /** Nothing below was ever complete. */
  readonly readableFrom: Lsn;
}

/** Leases, snapshots and readers of a timeline, by its id. */
export type OwnPins = (id: TimelineId) => readonly Pin[];

/** The timelines of a tenant, looked up by id, and by whom they descend from. */
export class Family<T extends RetainedTimeline = RetainedTimeline> {
  readonly byId = new Map<TimelineId, T>();
  private readonly children = new Map<TimelineId, T[]>();

  constructor(timelines: Iterable<T>) {
    for (const timeline of timelines) {
      this.byId.set(timeline.id, timeline);
      if (timeline.ancestor === undefined) continue;
      const siblings = this.children.get(timeline.ancestor.id);
      if (siblings === undefined) this.children.set(timeline.ancestor.id, [timeline]);
      else siblings.push(timeline);
    }
  }

  childrenOf(id: TimelineId): readonly T[] {
    return this.children.get(id) ?? [];
  }

  /** The timeline and all that descend from it, children before their parents: an order to remove them in. */
  descendants(id: TimelineId): readonly TimelineId[] {
    return [...this.childrenOf(id).flatMap((child) => this.descendants(child.id)), id];
  }

  /**
   * The lowest LSN from which on everything can be read on the timeline. Below its branch point a
   * branch has what its ancestor has; when that is gone, the branch point itself is left.
   */
  cutoff(id: TimelineId): Lsn {
    const timeline = this.byId.get(id);
    if (timeline === undefined) return LSN_INVALID;
    const own = timeline.cutoff ?? LSN_INVALID;
    const { ancestor } = timeline;
    if (ancestor === undefined) return Math.max(own, timeline.readableFrom) as Lsn;
    return branchCutoff(own, ancestor.lsn, this.cutoff(ancestor.id));
  }

  /** Single LSNs that must stay readable on a timeline, for its own readers or for those of its branches. */
  pins(id: TimelineId, ownPins: OwnPins): readonly Pin[] {
    const pins = [...ownPins(id)];
    for (const child of this.childrenOf(id)) {
      const { lsn } = child.ancestor!;
      pins.push({ lsn, reason: { kind: "branch", child: child.id } });
      // What lies below the child's branch point is read here.
      for (const pin of this.pins(child.id, ownPins)) if (pin.lsn < lsn) pins.push(pin);
    }
    return pins;
  }
}

/** Cutoff of a branch, from its own, its branch point and its ancestor's. */
export const branchCutoff = (own: Lsn, branchLsn: Lsn, ancestorCutoff: Lsn): Lsn =>
  Math.max(own, Math.min(branchLsn, ancestorCutoff)) as Lsn;

export interface HorizonFacts {
  /** Where it is now; the cutoff never goes back. */
  readonly cutoff: Lsn;
  /** Newest LSN that is older than the time window; undefined: nothing is, or nobody knows. */
  readonly atWindowStart: Lsn | undefined;
  /** Everything up to here is in sealed layers. */
  readonly sealed: Lsn;
  readonly visible: Lsn;
  /** At least so much WAL stays readable, whatever its age. */
  readonly walBytes: number;
}

/** Where the cutoff moves. */
export function nextCutoff(facts: HorizonFacts): Lsn {
  const { cutoff, atWindowStart, sealed, visible, walBytes } = facts;
  if (atWindowStart === undefined) return cutoff;
  return Math.max(cutoff, Math.min(atWindowStart, visible - walBytes, sealed)) as Lsn;
}

/** Goes through the versions of one key, newest first, and says which of them are needed. */
export class Keeper {
  private cutoff: Lsn = LSN_INVALID;
  private cutoffNeeded = false;
  private pins: readonly Lsn[] = [];
  private next = 0;
  private above = true;
  private open = false;
  private shadowLsn = -1;

  /**
   * `pins`: LSNs below the cutoff at which this key is read, descending. `cutoffNeeded`: it can be read
   * at the cutoff.
   */
  begin(cutoff: Lsn, cutoffNeeded: boolean, pins: readonly Lsn[]): void {
    this.cutoff = cutoff;
    this.cutoffNeeded = cutoffNeeded;
    this.pins = pins;
    this.next = 0;
    this.above = true;
    this.open = false;
    this.shadowLsn = -1;
  }

  /** True when the version is needed. */
  keeps(lsn: Lsn, type: VersionType, flags: number): boolean {
    // No read of this LSN gets past the image or value that was put last.
    if (lsn === this.shadowLsn) return false;
    const ends = endsChain(type, flags);
    if (ends) this.shadowLsn = lsn;
    if (lsn > this.cutoff) {
      // A chain that goes on below the cutoff takes what it needs there with it.
      this.open = !ends;
      return true;
    }
    if (this.above) {
      this.above = false;
      this.open ||= this.cutoffNeeded;
    }
    while (this.next < this.pins.length && lsn <= this.pins[this.next]!) {
      this.open = true;
      this.next++;
    }
    const keep = this.open;
    if (ends) this.open = false;
    return keep;
  }

  /** No older version is needed, whatever it is. */
  get done(): boolean {
    return !this.above && !this.open && this.next >= this.pins.length;
  }

  /** All pins have had their version: nothing older is kept once the chain ends. */
  get pinsDone(): boolean {
    return this.next >= this.pins.length;
  }
}
