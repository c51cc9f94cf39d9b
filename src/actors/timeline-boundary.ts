// Record boundaries of a timeline and of those it was branched from.

import type { Boundary } from "../core/boundaries.ts";
import type { TenantId, TimelineId } from "../core/ids.ts";
import { Lsn } from "../core/lsn.ts";
import type { Directory } from "./directory.ts";

/**
 * The newest record boundary at or below `lsn`: where the next record starts, and the start of the
 * one before. At or below its branch point a branch has its ancestor's records. Undefined when a
 * timeline is not loaded or nothing is known so far back.
 */
export function findBoundary(
  directory: Directory,
  tenant: TenantId,
  timeline: TimelineId,
  lsn: Lsn,
): Boundary | undefined {
  const handle = directory.find(tenant, timeline);
  const above = handle?.entry.ancestor;
  if (above !== undefined && Lsn.normalize(lsn) <= above.lsn) {
    return findBoundary(directory, tenant, above.id, lsn);
  }
  return handle?.boundary?.(lsn);
}
