// A tenant's timelines: what they are given, and how one that is in the catalog comes to life.

import type { RestartPolicy } from "../core/restart-budget.ts";
import { LSN_INVALID } from "../core/lsn.ts";
import type { TimelineId } from "../core/ids.ts";
import type { TimelineEntry } from "../store/catalog-entries.ts";
import { layersPath, timelinePath, walPath } from "../store/data-dir.ts";
import type { LayerFiles } from "../store/layer-files.ts";
import { TimelineStore } from "../store/timeline-store.ts";
import type { TenantHandle, TimelineHandle } from "./directory.ts";
import { type ActorRef, spawn } from "./runtime.ts";
import type { TenantMsg } from "./tenant.ts";
import type { TimelineMsg } from "./timeline-messages.ts";
import type { TimelineDeps } from "./timeline-state.ts";
import { timelineActor } from "./timeline.ts";

/** What all tenants' timelines share. */
export interface TenantShared extends Omit<
  TimelineDeps,
  | "tenantId"
  | "timelineId"
  | "catalog"
  | "openStore"
  | "walDirectory"
  | "layersDirectory"
  | "restart"
> {
  readonly dataDir: string;
  readonly files: LayerFiles;
  readonly tenantRestart: RestartPolicy;
  readonly timelineRestart: RestartPolicy;
}

/** One life of a tenant actor. */
export interface TenantState {
  readonly self: ActorRef<TenantMsg>;
  readonly shared: TenantShared;
  /** Outlives the life: others hold it. */
  readonly handle: TenantHandle;
  /** How to end, for certain, what each timeline of this life does with files. */
  readonly closers: Map<TimelineId, () => Promise<void>>;
}

/** Brings a timeline to life; one that lives already stays as it is. */
export function adopt(state: TenantState, entry: TimelineEntry): TimelineHandle {
  const { handle: tenant, shared, self } = state;
  const known = tenant.timelines.get(entry.id);
  if (known !== undefined && !known.ref.stopped()) return known;
  const directory = timelinePath(shared.dataDir, tenant.id, entry.id);
  const { spec, closed } = timelineActor({
    ...shared,
    tenantId: tenant.id,
    timelineId: entry.id,
    catalog: tenant.catalog,
    restart: shared.timelineRestart,
    walDirectory: walPath(directory),
    layersDirectory: layersPath(directory),
    log: shared.log.child({ tenant: tenant.id, timeline: entry.id, name: entry.name }),
    openStore: (ancestor) =>
      new TimelineStore({
        id: entry.id,
        directory,
        catalog: tenant.catalog,
        files: shared.files,
        budget: shared.budget,
        ancestor: ancestor && entry.ancestor && { store: ancestor, lsn: entry.ancestor.lsn },
      }),
  });
  const ref: ActorRef<TimelineMsg> = spawn(self.scope, spec);
  const live: TimelineHandle = { ...unknownYet, tenantId: tenant.id, entry, ref };
  tenant.timelines.set(entry.id, live);
  state.closers.set(entry.id, closed);
  return live;
}

const unknownYet: Omit<TimelineHandle, "tenantId" | "entry" | "ref"> = {
  store: undefined,
  readFrom: undefined,
  boundary: undefined,
  pendingCommits: undefined,
  facts: {
    phase: { kind: "loading" },
    positions: {
      received: LSN_INVALID,
      visible: LSN_INVALID,
      durable: LSN_INVALID,
      uploaded: LSN_INVALID,
    },
    prev: LSN_INVALID,
    receiver: undefined,
    stalled: undefined,
  },
};
