// What deleted timelines of a tenant have left in object storage: the catalog remembers their ids, from
// the transaction that deletes them on, until their objects are gone. Tried again until then.

import type { TimelineId } from "../core/ids.ts";
import { parseTimelineId } from "../core/ids.ts";
import { BACKUP_RETRY_MS, DELETE_TOLD_MS_MAX, OWNER_LOOK_MS } from "../core/limits.ts";
import type { Catalog, CatalogChange } from "../store/catalog.ts";
import { StoreFull, errorText } from "../store/store-errors.ts";
import { isOver, removeTimelineObjects } from "./backup-remove.ts";
import { attachmentOf } from "./backup-tenant.ts";
import { after } from "./runtime.ts";
import type { TenantState } from "./tenant-timelines.ts";

const SETTING = "backup-removing";

/** The removal of objects in one life of a tenant, and who may do it. */
export class Removal {
  running = false;
  /** Steady ms. */
  dueMs = 0;
  /** When it is looked next who has the tenant; 0: not yet planned. */
  lookDueMs = 0;
}

/** Now and then: a server that writes nothing finds out, too, that another one has the tenant. */
export function lookWhoHasIt({ handle, shared, removal }: TenantState): void {
  const { backup, clock } = shared;
  const nowMs = clock.steadyMs();
  if (backup === undefined || nowMs < removal.lookDueMs) return;
  const first = removal.lookDueMs === 0;
  removal.lookDueMs = nowMs + OWNER_LOOK_MS * (0.5 + clock.chance() / 2);
  if (first || attachmentOf(handle.catalog) === undefined) return;
  void backup.tenant(handle.id, handle.catalog).look();
}

/** Timelines that are deleted and whose objects may still be there. */
export function removingOf(catalog: Catalog): readonly TimelineId[] {
  const setting = catalog.setting(SETTING);
  if (!Array.isArray(setting)) return [];
  return setting.flatMap((id) => (typeof id === "string" ? [parseTimelineId(id)] : []));
}

/** In the transaction that deletes them. */
export function noteRemoved(
  { handle, shared }: TenantState,
  change: CatalogChange,
  ids: readonly TimelineId[],
): void {
  const { catalog } = handle;
  if (attachmentOf(catalog) === undefined) return; // never backed up
  change.putSetting(SETTING, [...new Set([...removingOf(catalog), ...ids])]);
  for (const id of ids) shared.backup?.removing.add(id);
}

/** Takes what the catalog has no more from the tenant's list. The reason why that is not so yet; never rejects. */
export async function tellBackup({ handle, shared }: TenantState): Promise<string | undefined> {
  const { backup } = shared;
  const { id, catalog } = handle;
  if (backup === undefined || attachmentOf(catalog) === undefined) return undefined;
  const next = "it is tried again, and until then an attach elsewhere brings it back";
  let cancel = (): void => {};
  const late = new Promise<string>((resolve) => {
    cancel = after(DELETE_TOLD_MS_MAX, () => resolve(`object storage does not answer; ${next}`));
  });
  const told = backup
    .tenant(id, catalog)
    .list()
    .then(
      () => undefined,
      (error: unknown) => (isOver(error) ? errorText(error) : `${errorText(error)}; ${next}`),
    );
  return Promise.race([told, late]).finally(cancel);
}

/** Begins, or goes on after a crash or a failure. */
export function removeObjects(state: TenantState): void {
  const { handle, shared, removal } = state;
  const { backup, clock, log } = shared;
  if (backup === undefined || removal.running || clock.steadyMs() < removal.dueMs) return;
  const { id: tenant, catalog } = handle;
  const timelines = removingOf(catalog);
  for (const id of timelines) backup.removing.add(id);
  if (timelines.length === 0) {
    removal.dueMs = Infinity; // until one is deleted
    return;
  }
  removal.running = true;
  const work = async (): Promise<void> => {
    await Promise.all(timelines.map((id) => backup.idle(id)));
    const owner = await backup.tenant(tenant, catalog).owner();
    const { storage } = backup.options;
    await removeTimelineObjects({ storage, tenant, owner }, timelines);
  };
  work().then(
    () => state.self.tell({ kind: "objects-removed", life: state, timelines, over: true }),
    (error: unknown) => {
      const reason = errorText(error);
      const over = isOver(error);
      const next = over
        ? "they are left to the server that has the tenant now"
        : "it is tried again";
      log.warn({ tenant, reason }, `objects of deleted timelines cannot be removed; ${next}`);
      state.self.tell({ kind: "objects-removed", life: state, timelines, over });
    },
  );
}

/** Their objects are gone, or no longer ours to remove; else it is tried again. */
export function objectsRemoved(
  { handle, shared, removal }: TenantState,
  timelines: readonly TimelineId[],
  over: boolean,
): void {
  removal.running = false;
  removal.dueMs = shared.clock.steadyMs() + (over ? 0 : BACKUP_RETRY_MS);
  if (!over) return;
  const { catalog } = handle;
  const left = removingOf(catalog).filter((id) => !timelines.includes(id));
  try {
    catalog.change((change) => change.putSetting(SETTING, left));
  } catch (error) {
    if (!(error instanceof StoreFull)) throw error;
    removal.dueMs = shared.clock.steadyMs() + BACKUP_RETRY_MS;
    return;
  }
  for (const id of timelines) shared.backup?.removing.delete(id);
}
