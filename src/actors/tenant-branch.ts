// Makes a branch: where it begins, whether it may, and its entry in the catalog.

import type { AdminError } from "../core/admin-error.ts";
import type { TimelineId } from "../core/ids.ts";
import { Lsn } from "../core/lsn.ts";
import { type Result, err, ok } from "../core/result.ts";
import type { Catalog } from "../store/catalog.ts";
import type { TimelineEntry } from "../store/catalog-entries.ts";
import type { TimelineHandle } from "./directory.ts";
import { type TenantState, adopt } from "./tenant-timelines.ts";
import { findBoundary } from "./timeline-boundary.ts";
import { cutoffOf, heldLsns } from "./timeline-pins.ts";

export interface BranchRequest {
  readonly id: TimelineId;
  readonly name: string;
  readonly ancestor: TimelineId;
  /** Not above what is durable of the ancestor. */
  readonly lsn: Lsn;
}

/**
 * Branches at the newest record boundary at or below the LSN asked for; the branch lives when this
 * returns. Throws what the catalog and the ancestor's store do.
 */
export function branch(
  state: TenantState,
  request: BranchRequest,
): Result<TimelineHandle, AdminError> {
  const { handle: tenant, shared } = state;
  const { catalog } = tenant;
  const parent = catalog.timeline(request.ancestor);
  if (parent === undefined) return err({ kind: "not-found", what: `timeline ${request.ancestor}` });
  if (catalog.timeline(request.id) !== undefined) {
    return err({ kind: "conflict", message: `timeline ${request.id} exists already` });
  }
  const refused = outOfReach(parent, tenant.timelines.get(parent.id), request.lsn);
  if (refused !== undefined) return err(refused);
  const asked = Lsn.format(request.lsn);
  const base = eldestBase(catalog, parent);
  const kept = keptFrom(state, parent, request.lsn);
  const boundary =
    request.lsn < Math.max(base, kept)
      ? "too-old"
      : findBoundary(shared.directory, tenant.id, parent.id, request.lsn);
  if (boundary === undefined) {
    return badAncestor(`no record boundary is known at or below ${asked}`);
  }
  if (boundary === "too-old" || boundary.start < base) {
    return badAncestor(`${asked} is older than what ${parent.name} keeps, ${Lsn.format(kept)}`);
  }
  const entry = entryOf(request, parent, boundary, shared.clock.nowMs());
  const named = catalog.change((change) => change.putTimeline(entry));
  if (!named.ok) {
    return err({ kind: "conflict", message: `a timeline named "${request.name}" exists already` });
  }
  return ok(adopt(state, entry));
}

/** From where on the timeline can be branched; an LSN that is held below the cutoff is kept, too. */
function keptFrom({ handle, shared }: TenantState, parent: TimelineEntry, asked: Lsn): Lsn {
  const held = heldLsns(handle.catalog, parent.id, shared.clock.nowMs());
  if (held.includes(asked)) return asked;
  return cutoffOf(shared.directory, handle.id, parent);
}

const badAncestor = (message: string): Result<never, AdminError> =>
  err({ kind: "bad-ancestor", message });

function outOfReach(
  { name }: TimelineEntry,
  parent: TimelineHandle | undefined,
  lsn: Lsn,
): AdminError | undefined {
  if (parent?.store === undefined) {
    parent?.ref.tell({ kind: "wake" });
    const phase = parent?.facts.phase;
    const why = phase?.kind === "broken" ? `is broken: ${phase.reason}` : "is loading; retry";
    return { kind: "unavailable", message: `timeline "${name}" ${why}` };
  }
  const { durable } = parent.facts.positions;
  if (lsn <= Lsn.normalize(durable)) return undefined;
  const message =
    `${Lsn.format(lsn)} is above the last durable record of ${name}, ` +
    `${Lsn.format(durable)}; branch there or wait`;
  return { kind: "bad-ancestor", message };
}

/** The lowest LSN that can be read on a timeline: where the eldest ancestor's base is complete. */
function eldestBase(catalog: Catalog, entry: TimelineEntry): Lsn {
  const above = entry.ancestor && catalog.timeline(entry.ancestor.id);
  return above === undefined ? entry.readableFrom : eldestBase(catalog, above);
}

function entryOf(
  request: BranchRequest,
  parent: TimelineEntry,
  boundary: { readonly start: Lsn; readonly prev: Lsn },
  nowMs: number,
): TimelineEntry {
  const { start: at, prev } = boundary;
  return {
    id: request.id,
    name: request.name,
    ancestor: { id: parent.id, lsn: at },
    pgVersion: parent.pgVersion,
    tli: parent.tli,
    systemId: parent.systemId,
    baseLsn: at,
    readableFrom: at,
    sealedLsn: at,
    sealedPrev: prev,
    state: "active",
    createdAtMs: nowMs,
  };
}
