// Leases: an LSN that stays readable until a time, durable before it is answered.

import type { TimelineId } from "../core/ids.ts";
import { LEASES_MAX, LEASE_MS } from "../core/limits.ts";
import type { Lsn } from "../core/lsn.ts";
import type { Catalog } from "../store/catalog.ts";

/** Owner of leases that nobody signed: those of the page service and of Neon's API. */
const ANYBODY = "-";

/**
 * Makes or extends the lease; the end in Unix ms, or undefined when there are too many. A lease never
 * becomes shorter. Throws what the catalog does.
 */
export function putLease(
  catalog: Catalog,
  timeline: TimelineId,
  lsn: Lsn,
  nowMs: number,
): number | undefined {
  const all = catalog.leases(timeline);
  const over = all.filter(({ expiresAtMs }) => expiresAtMs < nowMs);
  const known = all.find((l) => l.lsn === lsn && l.owner === ANYBODY);
  if (known === undefined && all.length - over.length >= LEASES_MAX) return undefined;
  const expiresAtMs = Math.max(known?.expiresAtMs ?? 0, nowMs + LEASE_MS);
  catalog.change((change) => {
    for (const old of over) change.removeLease(old);
    change.putLease({ timeline, lsn, owner: ANYBODY, expiresAtMs });
  });
  return expiresAtMs;
}
