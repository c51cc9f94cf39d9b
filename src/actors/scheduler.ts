// The beat of what depends on time: one tick a second to every timeline, through its tenant. Each
// decides by itself what is due; a tick that comes late or twice does no harm.

import { TIMELINE_TICK_MS } from "../core/limits.ts";
import type { RestartPolicy } from "../core/restart-budget.ts";
import { type ActorRef, type Scope, after, spawn } from "./runtime.ts";
import type { TenantsMsg } from "./tenants.ts";

export type SchedulerMsg = { readonly kind: "beat" };

export function spawnScheduler(
  scope: Scope,
  restart: RestartPolicy,
  tenants: ActorRef<TenantsMsg>,
): ActorRef<SchedulerMsg> {
  const arm = (self: ActorRef<SchedulerMsg>): (() => void) =>
    after(TIMELINE_TICK_MS, () => self.tell({ kind: "beat" }));
  return spawn<{ readonly cancel: () => void }, SchedulerMsg>(scope, {
    name: "scheduler",
    restart,
    init: (self) => ({ cancel: arm(self) }),
    handle: (_state, _msg, self) => {
      tenants.tell({ kind: "tick" });
      return { cancel: arm(self) };
    },
    afterStop: (state) => state?.cancel(),
  });
}
