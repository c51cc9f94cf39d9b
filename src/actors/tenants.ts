// The directory of tenants: spawns those that the data directory has, and new ones. Holds refs only;
// a tenant that is broken leaves its neighbours alone.

import type { AdminError } from "../core/admin-error.ts";
import { unreachable } from "../core/assert.ts";
import type { TenantId } from "../core/ids.ts";
import type { RestartPolicy } from "../core/restart-budget.ts";
import { type Result, err, ok } from "../core/result.ts";
import { timelineReads } from "../io/meters.ts";
import {
  deleteTenantDirectory,
  deletedTenants,
  listTenants,
  removeDirectoryLater,
} from "../store/data-dir.ts";
import { StoreFailed, StoreFull, errorText } from "../store/store-errors.ts";
import type { TenantHandle } from "./directory.ts";
import { type ActorRef, type Reply, type Scope, spawn } from "./runtime.ts";
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
      void deleteTenant(state, msg.id).then((deleted) => msg.reply.answer(deleted));
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
async function deleteTenant(state: State, id: TenantId): Promise<Result<undefined, AdminError>> {
  const { shared, tenants } = state;
  const { directory, dataDir, log, onFatal, cache } = shared;
  const tenant = tenants.get(id);
  if (tenant === undefined) return err({ kind: "not-found", what: `tenant ${id}` });
  if (state.deleting.has(id)) {
    return err({ kind: "conflict", message: `tenant ${id} is being deleted already` });
  }
  state.deleting.add(id);
  const timelines = [...(directory.tenants.get(id)?.timelines.keys() ?? [])];
  directory.tenants.delete(id);
  directory.unusable.set(id, "it is being deleted");
  try {
    await stopTenant(tenant);
    const files = deleteTenantDirectory(dataDir, id);
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
