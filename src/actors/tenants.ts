// The directory of tenants: spawns those that the data directory has, and new ones. Holds refs only;
// a tenant that is broken leaves its neighbours alone.

import { unreachable } from "../core/assert.ts";
import type { TenantId } from "../core/ids.ts";
import type { RestartPolicy } from "../core/restart-budget.ts";
import { listTenants } from "../store/data-dir.ts";
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
  | { readonly kind: "tick" }
  | { readonly kind: "stop"; readonly reply: Reply<undefined> };

interface State {
  readonly self: ActorRef<TenantsMsg>;
  readonly shared: TenantShared;
  readonly tenants: Map<
    TenantId,
    { readonly ref: ActorRef<TenantMsg>; readonly close: () => Promise<void> }
  >;
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
      const state: State = { self, shared, tenants: new Map() };
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

async function stopAll({ tenants }: State): Promise<void> {
  await Promise.all(
    [...tenants.values()].map(async ({ ref, close }) => {
      await new Promise<undefined>((resolve) =>
        ref.tell({ kind: "stop", reply: { answer: resolve } }),
      );
      await close();
    }),
  );
}
