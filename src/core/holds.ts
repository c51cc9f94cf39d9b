// What is held of a timeline besides its window: leases, which end at a time, and snapshots, which have a
// name and stay until they are deleted. Both keep one LSN readable, in the timeline and in the ancestors
// that it reads there, as a branch point does. Pure.

import type { Pin } from "./gc.ts";
import { Lsn } from "./lsn.ts";

export interface LeaseFacts {
  readonly lsn: Lsn;
  readonly owner: string;
  readonly expiresAtMs: number;
}

export interface SnapshotFacts {
  readonly lsn: Lsn;
  readonly name: string;
}

/** What is held of one timeline. */
export interface Holds<L extends LeaseFacts = LeaseFacts, S extends SnapshotFacts = SnapshotFacts> {
  readonly leases: readonly L[];
  readonly snapshots: readonly S[];
}

export const NO_HOLDS: Holds = { leases: [], snapshots: [] };

/** A lease counts until its last millisecond, and from then on never again. */
export const isLive = ({ expiresAtMs }: Pick<LeaseFacts, "expiresAtMs">, nowMs: number): boolean =>
  expiresAtMs > nowMs;

/** The LSNs that are held at a moment, with the reasons. */
export function holdPins({ leases, snapshots }: Holds, nowMs: number): readonly Pin[] {
  const pins: Pin[] = [];
  for (const lease of leases) {
    if (!isLive(lease, nowMs)) continue;
    const { lsn, owner, expiresAtMs } = lease;
    pins.push({ lsn, reason: { kind: "lease", owner, expiresAtMs } });
  }
  for (const { lsn, name } of snapshots) pins.push({ lsn, reason: { kind: "snapshot", name } });
  return pins;
}

/** Why an LSN cannot be held or branched from: it is not kept. Undefined: it is. */
export function notKept(
  lsn: Lsn,
  cutoff: Lsn,
  pinned: readonly Lsn[],
  timeline: string,
): string | undefined {
  if (lsn >= cutoff || pinned.includes(lsn)) return undefined;
  return `${Lsn.format(lsn)} is older than what "${timeline}" keeps: its cutoff is ${Lsn.format(cutoff)}`;
}
