// Time and LSN of a timeline: from the commit times that ingest samples (core/commit-times.ts).

import type { TimelineHandle } from "../actors/directory.ts";
import { type LsnAtTime, type SecondScan, lsnAtTime, timeAtLsn } from "../core/commit-times.ts";
import type { Lsn } from "../core/lsn.ts";
import { PG_EPOCH_US, commitSeconds } from "../store/commit-seconds.ts";

/** Which LSN shows the timeline as it was at a moment; undefined while it is not loaded. */
export function lsnAtUnixTime(timeline: TimelineHandle, unixUs: number): LsnAtTime | undefined {
  const scan = secondsOf(timeline);
  return scan && lsnAtTime(unixUs - PG_EPOCH_US, scan);
}

/** Unix microseconds of the newest sampled commit at or below `lsn`. */
export function unixTimeAtLsn(timeline: TimelineHandle, lsn: Lsn): number | undefined {
  const scan = secondsOf(timeline);
  const timeUs = scan && timeAtLsn(lsn, scan);
  return timeUs === undefined ? undefined : timeUs + PG_EPOCH_US;
}

const secondsOf = ({ store, pendingCommits }: TimelineHandle): SecondScan | undefined =>
  store && commitSeconds(store, pendingCommits?.());
