// Commit times of a timeline and of those it was branched from: all that finding an LSN by time needs.

import type { SecondScan } from "../core/commit-times.ts";
import type { TenantId, TimelineId } from "../core/ids.ts";
import { LSN_MAX, type Lsn } from "../core/lsn.ts";
import { type CommitSource, commitSeconds } from "../store/commit-seconds.ts";
import type { Directory } from "./directory.ts";

/** Undefined while the timeline, or one that it descends from, is not loaded. */
export function secondsOf(
  directory: Directory,
  tenant: TenantId,
  timeline: TimelineId,
): SecondScan | undefined {
  const sources: CommitSource[] = [];
  let upTo: Lsn = LSN_MAX;
  for (let id: TimelineId | undefined = timeline; id !== undefined;) {
    const handle = directory.find(tenant, id);
    if (handle?.store === undefined) return undefined;
    sources.push({ store: handle.store, pending: handle.pendingCommits?.(), upTo });
    const { ancestor } = handle.entry;
    // A branch of a branch sees of the eldest no more than the branch does.
    if (ancestor !== undefined) upTo = Math.min(upTo, ancestor.lsn) as Lsn;
    id = ancestor?.id;
  }
  return commitSeconds(sources);
}
