// A moment of a timeline that somebody names (now, an LSN, a time, a snapshot) to the LSN that shows it.

import type { Directory, TenantHandle, TimelineHandle } from "../actors/directory.ts";
import type { TenantShared } from "../actors/tenant-timelines.ts";
import { cutoffOf, heldLsns } from "../actors/timeline-pins.ts";
import type { AdminError } from "../core/admin-error.ts";
import { notKept } from "../core/holds.ts";
import { Lsn } from "../core/lsn.ts";
import { type Result, ok } from "../core/result.ts";
import type { BranchPoint } from "../http/management.ts";
import { refuse } from "./finder.ts";
import { lsnAtUnixTime } from "./times.ts";

export function momentLsn(
  directory: Directory,
  tenant: TenantHandle,
  timeline: TimelineHandle,
  at: BranchPoint,
): Result<Lsn, AdminError> {
  const { durable } = timeline.facts.positions;
  const { name, id } = timeline.entry;
  switch (at.kind) {
    case "latest":
      return ok(durable);
    case "lsn":
      return ok(at.lsn);
    case "snapshot": {
      const found = tenant.catalog.snapshots(id).find((each) => each.name === at.name);
      if (found !== undefined) return ok(found.lsn);
      const remedy = `see: pageserver snapshot list ${name}`;
      return refuse({ kind: "not-found", what: `snapshot "${at.name}" of "${name}"`, remedy });
    }
    case "time": {
      const found = lsnAtUnixTime(directory, timeline, at.unixUs);
      if (found === undefined) return refuse(notLoaded(timeline));
      if (found.kind === "present") return ok(found.lsn);
      if (found.kind === "future") return ok(durable);
      const message =
        found.kind === "past"
          ? `that moment is older than what "${name}" keeps: its cutoff is ${Lsn.format(found.lsn)}`
          : `"${name}" has taken in no commit yet; name an LSN`;
      return refuse({ kind: "bad-ancestor", message });
    }
  }
}

export const notLoaded = ({ entry, facts }: TimelineHandle): AdminError => ({
  kind: "unavailable",
  message:
    facts.phase.kind === "broken"
      ? `timeline "${entry.name}" is broken: ${facts.phase.reason}`
      : `timeline "${entry.name}" is loading; retry in a moment`,
});

/** The refusal of an LSN that is not readable any more; undefined: it is. */
export function collected(
  { directory, clock }: TenantShared,
  { catalog }: TenantHandle,
  { tenantId, entry }: TimelineHandle,
  lsn: Lsn,
): AdminError | undefined {
  const cutoff = cutoffOf(directory, tenantId, entry);
  const message = notKept(lsn, cutoff, heldLsns(catalog, entry.id, clock.nowMs()), entry.name);
  return message === undefined ? undefined : { kind: "precondition", message };
}
