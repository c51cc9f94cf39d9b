// Time and LSN of a timeline: from the commit times that ingest samples (core/commit-times.ts), its own
// and its ancestors', and of what can be read only.

import type { Directory, TimelineHandle } from "../actors/directory.ts";
import { cutoffOf } from "../actors/timeline-pins.ts";
import { secondsOf } from "../actors/timeline-times.ts";
import { type ReadableLsnAtTime, readableLsnAtTime, timeAtLsn } from "../core/commit-times.ts";
import type { Lsn } from "../core/lsn.ts";
import { PG_EPOCH_US } from "../store/commit-seconds.ts";

/** Which LSN shows the timeline as it was at a moment; undefined while it is not loaded. */
export function lsnAtUnixTime(
  directory: Directory,
  { tenantId, entry }: TimelineHandle,
  unixUs: number,
): ReadableLsnAtTime | undefined {
  const scan = secondsOf(directory, tenantId, entry.id);
  const cutoff = cutoffOf(directory, tenantId, entry);
  return scan && readableLsnAtTime(unixUs - PG_EPOCH_US, cutoff, scan);
}

/** Unix microseconds of the newest sampled commit at or below `lsn`. */
export function unixTimeAtLsn(
  directory: Directory,
  { tenantId, entry }: TimelineHandle,
  lsn: Lsn,
): number | undefined {
  const scan = secondsOf(directory, tenantId, entry.id);
  const timeUs = scan && timeAtLsn(lsn, scan);
  return timeUs === undefined ? undefined : timeUs + PG_EPOCH_US;
}
