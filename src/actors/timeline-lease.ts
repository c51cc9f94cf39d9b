// Leases: an LSN that stays readable until a time, durable before it is answered.

import type { TimelineId } from "../core/ids.ts";
import { LEASE_MS } from "../core/limits.ts";
import type { Lsn } from "../core/lsn.ts";
import type { Catalog } from "../store/catalog.ts";

/** Owner of leases that nobody signed: those of the page service and of Neon's API. */
const ANYBODY = "-";

/** Makes or extends the lease; the end in Unix ms. A lease never becomes shorter. */
export function putLease(catalog: Catalog, timeline: TimelineId, lsn: Lsn, nowMs: number): number {
  const known = catalog.leases(timeline).find((l) => l.lsn === lsn && l.owner === ANYBODY);
  const expiresAtMs = Math.max(known?.expiresAtMs ?? 0, nowMs + LEASE_MS);
  catalog.change((change) => {
    for (const old of catalog.leases(timeline))
      if (old.expiresAtMs < nowMs) change.removeLease(old);
    change.putLease({ timeline, lsn, owner: ANYBODY, expiresAtMs });
  });
  return expiresAtMs;
}
