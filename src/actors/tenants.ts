// The directory of tenants: spawns those that the data directory has, and new ones. Holds refs only;
// a tenant that is broken leaves its neighbours alone.

import type { AdminError } from "../core/admin-error.ts";
import { unreachable } from "../core/assert.ts";
import type { Attachment } from "../core/backup/fence.ts";
import type { TenantId, TimelineId } from "../core/ids.ts";
import { BACKUP_RETRY_MS } from "../core/limits.ts";
import type { RestartPolicy } from "../core/restart-budget.ts";
import { type Result, err, ok } from "../core/result.ts";
import { timelineReads } from "../io/meters.ts";
import {
  deleteTenantDirectory,
  deletedTenants,
  forgetTenantRemoval,
  listTenants,
  noteTenantRemoval,
  removeDirectoryLater,
  tenantRemovals,
} from "../store/data-dir.ts";
import type { SettingValue } from "../store/catalog-entries.ts";
import { StoreFailed, StoreFull, errorText } from "../store/store-errors.ts";
import { formerOwner, isOver, removeTenantObjects } from "./backup-remove.ts";
import { attachmentOf, parseAttachment } from "./backup-tenant.ts";
import type { TenantHandle } from "./directory.ts";
import { type ActorRef, type Reply, type Scope, after, spawn } from "./runtime.ts";
import type { TenantShared } from "./tenant-timelines.ts";
import { type TenantMsg, tenantActor } from "./tenant.ts";

export type TenantsMsg =
  /** Makes the tenant if it is not there. */
  | {
      readonly kind: "create";
      readonly id: TenantId;
      readonly reply: Reply<TenantHandle | undefined>;
    }
  /** Deletes it with all of its timelines; answers when its space is free. */
  | {
      readonly kind: "delete";
      readonly id: TenantId;
      /** What object storage has of it stays; else it goes, in the background. */
      readonly keepBackup?: boolean;
      readonly reply: Reply<Result<undefined, AdminError> | undefined>;
    }
  | { readonly kind: "tick" }
  | { readonly kind: "stop"; readonly reply: Reply<undefined> };

interface Tenant {
  readonly ref: ActorRef<TenantMsg>;
  readonly close: () => Promise<void>;
}

interface State {
  readonly self: ActorRef<TenantsMsg>;
  readonly shared: TenantShared;
  readonly tenants: Map<TenantId, Tenant>;
  readonly deleting: Set<TenantId>;
}

export function spawnTenants(
  scope: Scope,
  restart: RestartPolicy,
  shared: TenantShared,
): ActorRef<TenantsMsg> {
  return spawn<State, TenantsMsg>(scope, {
    name: "tenants",
    restart,
    init: (self) => {
      const state: State = { self, shared, tenants: new Map(), deleting: new Set() };
      for (const left of deletedTenants(shared.dataDir)) void removeFiles(state, left);
      for (const id of listTenants(shared.dataDir)) create(state, id);
      resumeRemovals(state);
      return state;
    },
    handle: (state, msg) => {
      receive(state, msg);
      return state;
    },
    refuse: (msg) => {
      if ("reply" in msg) msg.reply.answer(undefined);
    },
  });
}

function receive(state: State, msg: TenantsMsg): void {
  switch (msg.kind) {
    case "create":
      create(state, msg.id);
      return msg.reply.answer(state.shared.directory.tenants.get(msg.id));
    case "delete":
      void deleteTenant(state, msg.id, msg.keepBackup === true).then((deleted) =>
        msg.reply.answer(deleted),
      );
      return;
    case "tick":
      for (const { ref } of state.tenants.values()) ref.tell(msg);
      return;
    case "stop":
      void stopAll(state).then(() => msg.reply.answer(undefined));
      return;
    default:
      return unreachable(msg);
  }
}

function create({ self, shared, tenants }: State, id: TenantId): void {
  if (tenants.has(id)) return;
  shared.directory.unusable.set(id, "it is being opened; retry in a moment");
  const { spec, close } = tenantActor(id, shared);
  tenants.set(id, { ref: spawn(self.scope, spec), close });
}

/**
 * Its actors end, then one rename makes it gone, then its files go. A crash before the rename deletes
 * nothing; after it, what is left is removed at the next start. Never rejects.
 */
async function deleteTenant(
  state: State,
  id: TenantId,
  keepBackup: boolean,
): Promise<Result<undefined, AdminError>> {
  const { shared, tenants } = state;
  const { directory, dataDir, log, onFatal, cache } = shared;
  const tenant = tenants.get(id);
  if (tenant === undefined) return err({ kind: "not-found", what: `tenant ${id}` });
  if (state.deleting.has(id)) {
    return err({ kind: "conflict", message: `tenant ${id} is being deleted already` });
  }
  state.deleting.add(id);
  const handle = directory.tenants.get(id);
  const timelines = [...(handle?.timelines.keys() ?? [])];
  const attachment = keepBackup ? undefined : attachmentFor(state, handle);
  directory.tenants.delete(id);
  directory.unusable.set(id, "it is being deleted");
  try {
    await stopTenant(tenant);
    if (attachment !== undefined) noteTenantRemoval(dataDir, id, JSON.stringify(attachment));
    const files = deleteTenantDirectory(dataDir, id);
    shared.backup?.forget(id);
    if (attachment !== undefined) removeTenantLater(state, { tenant: id, attachment, timelines });
    tenants.delete(id);
    directory.unusable.delete(id);
    // The ids may come again: nothing that was remembered of the old ones counts.
    cache.clear();
    for (const timeline of timelines) timelineReads.delete(timeline);
    log.info({ tenant: id }, "the tenant is deleted");
    if (files !== undefined) await removeFiles(state, files);
    return ok(undefined);
  } catch (error) {
    if (error instanceof StoreFailed) onFatal(error);
    log.error({ err: error, tenant: id }, "the tenant could not be deleted");
    // It lives on.
    tenants.delete(id);
    if (!state.self.stopped()) create(state, id);
    const kind = error instanceof StoreFull ? "unavailable" : "internal";
    return err({ kind, message: errorText(error) });
  } finally {
    state.deleting.delete(id);
  }
}

/** As the tenant's catalog has it; one that cannot be read leaves its objects where they are. */
function attachmentFor(
  { shared }: State,
  handle: TenantHandle | undefined,
): Attachment | undefined {
  try {
    return handle && attachmentOf(handle.catalog);
  } catch (error) {
    shared.log.warn({ err: error }, "the objects of the tenant stay: its catalog cannot be read");
    return undefined;
  }
}

interface TenantRemoval {
  readonly tenant: TenantId;
  readonly attachment: Attachment;
  /** Whose last uploads may still be under way. */
  readonly timelines: readonly TimelineId[];
}

/** Its objects go in the background; what fails is tried again, also after a restart. */
function removeTenantLater(state: State, removal: TenantRemoval): void {
  const { shared, self } = state;
  const { backup, dataDir, log } = shared;
  if (backup === undefined) return;
  const { tenant, attachment, timelines } = removal;
  const work = async (): Promise<void> => {
    await Promise.all(timelines.map((id) => backup.idle(id)));
    await backup.options.ready();
    const { storage } = backup.options;
    const owner = formerOwner(storage, tenant, attachment);
    await removeTenantObjects({ storage, tenant, owner });
  };
  work().then(
    () => {
      forgetTenantRemoval(dataDir, tenant);
      log.info({ tenant }, "the deleted tenant's objects are gone");
    },
    (error: unknown) => {
      const reason = errorText(error);
      const over = isOver(error);
      const next = over ? "they are left to the server that has it now" : "it is tried again";
      log.warn({ tenant, reason }, `objects of a deleted tenant cannot be removed; ${next}`);
      if (over) return forgetTenantRemoval(dataDir, tenant);
      after(BACKUP_RETRY_MS, () => {
        if (!self.stopped()) removeTenantLater(state, removal);
      });
    },
  );
}

/** What an earlier process has left to do. */
function resumeRemovals(state: State): void {
  for (const { tenant, text } of tenantRemovals(state.shared.dataDir)) {
    const attachment = parseAttachment(JSON.parse(text) as SettingValue);
    if (attachment !== undefined) removeTenantLater(state, { tenant, attachment, timelines: [] });
  }
}

async function removeFiles({ shared }: State, directory: string): Promise<void> {
  try {
    await removeDirectoryLater(directory);
  } catch (error) {
    shared.log.warn({ err: error }, `${directory} is left; it is removed at the next start`);
  }
}

async function stopAll({ tenants }: State): Promise<void> {
  await Promise.all([...tenants.values()].map(stopTenant));
}

async function stopTenant({ ref, close }: Tenant): Promise<void> {
  await new Promise<undefined>((resolve) => ref.tell({ kind: "stop", reply: { answer: resolve } }));
  await close();
}
