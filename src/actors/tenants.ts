// The directory of tenants: spawns those that the data directory has, and new ones. Holds refs only;
// a tenant that is broken leaves its neighbours alone.

import { unreachable } from "../core/assert.ts";
import type { TenantId } from "../core/ids.ts";
import type { RestartPolicy } from "../core/restart-budget.ts";
import { listTenants } from "../store/data-dir.ts";
import type { TenantHandle } from "./directory.ts";
import { type ActorRef, type Reply, type Scope, spawn } from "./runtime.ts";
import { type TenantMsg, type TenantShared, tenantActor } from "./tenant.ts";

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
  readonly tenants: Map<TenantId, ActorRef<TenantMsg>>;
}

export function spawnTenants(
  scope: Scope,
  restart: RestartPolicy,
  shared: TenantShared,
): ActorRef<TenantsMsg> {
  const create = (state: State, self: ActorRef<TenantsMsg>, id: TenantId): void => {
    if (!state.tenants.has(id)) state.tenants.set(id, spawn(self.scope, tenantActor(id, shared)));
  };
  return spawn<State, TenantsMsg>(scope, {
    name: "tenants",
    restart,
    init: (self) => {
      const state: State = { tenants: new Map() };
      for (const id of listTenants(shared.dataDir)) create(state, self, id);
      return state;
    },
    handle: (state, msg, self) => {
      switch (msg.kind) {
        case "create":
          create(state, self, msg.id);
          msg.reply.answer(shared.directory.tenants.get(msg.id));
          return state;
        case "tick":
          for (const tenant of state.tenants.values()) tenant.tell(msg);
          return state;
        case "stop":
          stopAll(state, msg.reply);
          return state;
        default:
          return unreachable(msg);
      }
    },
  });
}

function stopAll(state: State, reply: Reply<undefined>): void {
  const waiting = [...state.tenants.values()].map(
    (tenant) =>
      new Promise<undefined>((resolve) =>
        tenant.stopped()
          ? resolve(undefined)
          : tenant.tell({ kind: "stop", reply: { answer: resolve } }),
      ),
  );
  void Promise.all(waiting).then(() => reply.answer(undefined));
}
