// Deletes timelines: their actors end first, then one catalog transaction makes them gone, then their
// files go, and their objects (tenant-objects.ts). A crash before the transaction deletes nothing, one
// after it leaves directories that are removed when the tenant is opened again. It is acknowledged when the
// tenant's list in object storage has them no more: a machine that takes the tenant over brings none back.

import type { AdminError } from "../core/admin-error.ts";
import { Family } from "../core/gc.ts";
import type { TimelineId } from "../core/ids.ts";
import { type Result, err, ok } from "../core/result.ts";
import { timelineReads } from "../io/meters.ts";
import { removeDirectoryLater, timelinePath } from "../store/data-dir.ts";
import { StoreFailed, StoreFull, errorText } from "../store/store-errors.ts";
import type { Reply } from "./runtime.ts";
import { noteRemoved, tellBackup } from "./tenant-objects.ts";
import { type TenantState, adopt } from "./tenant-timelines.ts";

/** Answers the names of what was deleted, or why nothing was. */
export function removeTimelines(
  state: TenantState,
  id: TimelineId,
  recursive: boolean,
  reply: Reply<Result<readonly string[], AdminError>>,
): void {
  const { handle: tenant, shared } = state;
  const family = new Family(tenant.catalog.timelines());
  const entry = family.byId.get(id);
  if (entry === undefined) {
    return reply.answer(err({ kind: "not-found", what: `timeline ${id}` }));
  }
  const children = family.childrenOf(id);
  if (children.length > 0 && !recursive) {
    const names = children.map(({ name }) => `"${name}"`).join(", ");
    const message = `"${entry.name}" has branches: ${names}; delete them first, or delete recursively`;
    return reply.answer(err({ kind: "precondition", message }));
  }
  const ids = family.descendants(id);
  remove(state, ids).then(
    async (names) => {
      const untold = await tellBackup(state);
      if (untold === undefined) return reply.answer(ok(names));
      const message = `${names.map((name) => `"${name}"`).join(", ")}: deleted here, but not in the backup: ${untold}`;
      reply.answer(err({ kind: "unavailable", message }));
    },
    (error: unknown) => {
      if (error instanceof StoreFailed) shared.onFatal(error);
      shared.log.error({ err: error }, `"${entry.name}" could not be deleted`);
      const kind = error instanceof StoreFull ? "unavailable" : "internal";
      reply.answer(err({ kind, message: errorText(error) }));
    },
  );
}

async function remove(state: TenantState, ids: readonly TimelineId[]): Promise<readonly string[]> {
  try {
    return await removeStopped(state, ids);
  } catch (error) {
    revive(state, ids);
    throw error;
  }
}

/** What could not be deleted (a full disk, a branch that came meanwhile) lives on. */
function revive(state: TenantState, ids: readonly TimelineId[]): void {
  if (state.self.stopped()) return;
  for (const id of ids) {
    const entry = state.handle.catalog.timeline(id);
    if (entry !== undefined && entry.state === "active") adopt(state, entry);
  }
}

async function removeStopped(
  state: TenantState,
  ids: readonly TimelineId[],
): Promise<readonly string[]> {
  const { handle: tenant, shared, addresses } = state;
  const { catalog, timelines } = tenant;
  // Branches before what they read from.
  for (const id of ids) {
    const live = timelines.get(id);
    if (live === undefined) continue;
    await new Promise<undefined>((resolve) =>
      live.ref.tell({ kind: "stop", reply: { answer: resolve } }),
    );
    await addresses.get(id)?.closed();
  }
  // A branch may have been made meanwhile: only what nobody descends from goes.
  const gone = new Set(ids);
  const family = new Family(catalog.timelines());
  const late = ids.flatMap((id) => family.childrenOf(id)).find(({ id }) => !gone.has(id));
  if (late !== undefined) throw new Error(`"${late.name}" was branched off meanwhile; try again`);
  const names = ids.map((id) => family.byId.get(id)?.name ?? id);
  catalog.change((change) => {
    ids.forEach((id) => change.removeTimeline(id));
    noteRemoved(state, change, ids);
  });
  state.removal.dueMs = 0;
  // The id may come again: nothing that was remembered of the old one counts.
  shared.cache.clear();
  for (const id of ids) {
    timelines.delete(id);
    timelineReads.delete(id);
    addresses.delete(id);
    const path = timelinePath(shared.dataDir, tenant.id, id);
    shared.crashPoint?.("timeline-removing");
    await removeDirectoryLater(path).catch((error: unknown) =>
      shared.log.warn({ err: error }, `${path} is left; it is removed at the next start`),
    );
    shared.crashPoint?.("timeline-removed");
  }
  return names;
}
