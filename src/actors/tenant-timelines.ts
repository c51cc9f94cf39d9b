// A tenant's timelines: what they are given, and how one that is in the catalog comes to life.

import type { RestartPolicy } from "../core/restart-budget.ts";
import { TIMELINES_AWAKE } from "../core/limits.ts";
import { LSN_INVALID } from "../core/lsn.ts";
import type { TimelineId } from "../core/ids.ts";
import type { TimelineEntry } from "../store/catalog-entries.ts";
import { layersPath, timelinePath, walPath } from "../store/data-dir.ts";
import { TimelineStore } from "../store/timeline-store.ts";
import type { Asleep, TenantHandle, TimelineHandle } from "./directory.ts";
import type { ActorRef } from "./runtime.ts";
import type { TenantMsg } from "./tenant.ts";
import type { Removal } from "./tenant-objects.ts";
import { TimelineAddress } from "./timeline-address.ts";
import { type Bed, factsAsleep, mayBeginAsleep } from "./timeline-sleep.ts";
import type { TimelineDeps } from "./timeline-state.ts";
import { refuseMsg, timelineActor } from "./timeline.ts";

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
  | "bed"
> {
  readonly dataDir: string;
  readonly tenantRestart: RestartPolicy;
  readonly timelineRestart: RestartPolicy;
  /** Instead of TIMELINES_AWAKE, for tests. */
  readonly timelinesAwake?: number | undefined;
}

/** One life of a tenant actor. */
export interface TenantState {
  readonly self: ActorRef<TenantMsg>;
  readonly shared: TenantShared;
  /** Outlives the life: others hold it. */
  readonly handle: TenantHandle;
  /** Its timelines' addresses. */
  readonly addresses: Map<TimelineId, TimelineAddress>;
  /** The life has ended. */
  over: boolean;
  /** It has not been looked yet what an attach has left to be fetched. */
  warmUpDue: boolean;
  /** Of objects that deleted timelines have left. */
  readonly removal: Removal;
}

/** Gives a timeline its address, and brings it to life if it is to be awake; one that has one stays as it is. */
export function adopt(
  state: TenantState,
  entry: TimelineEntry,
  begins: "awake" | "asleep" = "awake",
): TimelineHandle {
  const { handle: tenant, shared, self, addresses } = state;
  const known = tenant.timelines.get(entry.id);
  if (known !== undefined && !known.ref.stopped()) return known;
  const directory = timelinePath(shared.dataDir, tenant.id, entry.id);
  const address: TimelineAddress = new TimelineAddress({
    parent: self.scope,
    name: `timeline-${entry.id}`,
    make: () => timelineActor(depsOf(state, entry, directory), (msg) => address.again(msg)),
    isOver: () => state.over || self.stopped(),
    refuse: (msg) => refuseMsg(msg, undefined, () => address.closed()),
    steadyMs: shared.clock.steadyMs,
    chance: shared.clock.chance,
  });
  const tenantId = tenant.id;
  const sleeps = begins === "asleep" && mayBeginAsleep(entry, walPath(directory));
  const live: TimelineHandle = sleeps
    ? { ...unknownYet, tenantId, entry, ref: address, facts: factsAsleep(entry) }
    : { ...unknownYet, tenantId, entry, ref: address };
  tenant.timelines.set(entry.id, live);
  addresses.set(entry.id, address);
  if (!sleeps) address.awake();
  else goToBed(state, entry.id, sealedIn(tenant, entry.id));
  return tenant.timelines.get(entry.id)!;
}

/** What all timelines are given, and what is this one's own. */
function depsOf(state: TenantState, entry: TimelineEntry, directory: string): TimelineDeps {
  const { handle: tenant, shared } = state;
  const { id, name, ancestor: above } = entry;
  return {
    ...shared,
    tenantId: tenant.id,
    timelineId: id,
    catalog: tenant.catalog,
    restart: shared.timelineRestart,
    walDirectory: walPath(directory),
    layersDirectory: layersPath(directory),
    log: shared.log.child({ tenant: tenant.id, timeline: id, name }),
    openStore: (ancestor) =>
      new TimelineStore({
        id,
        directory,
        catalog: tenant.catalog,
        files: shared.files,
        budget: shared.budget,
        ancestor: ancestor && above && { store: ancestor, lsn: above.lsn },
      }),
    bed: bedOf(state, id),
  };
}

/** With a backup, timelines stay awake: theirs goes on by itself. */
const maySleep = ({ shared }: TenantState, timelines: number): boolean =>
  shared.backup === undefined && timelines > (shared.timelinesAwake ?? TIMELINES_AWAKE);

/** How the timelines of a catalog begin. */
export function adoptAll(state: TenantState, entries: readonly TimelineEntry[]): void {
  const begins = maySleep(state, entries.length) ? "asleep" : "awake";
  for (const entry of entries) adopt(state, entry, begins);
}

function bedOf(state: TenantState, id: TimelineId): Bed {
  const { directory } = state.shared;
  return {
    isCrowded: () => maySleep(state, state.handle.timelines.size),
    sleep: (facts, asleep) => {
      directory.publish(state.handle.id, id, { ...unknownYet, facts });
      goToBed(state, id, asleep);
    },
  };
}

function goToBed({ handle, shared, addresses }: TenantState, id: TimelineId, asleep: Asleep): void {
  shared.directory.publish(handle.id, id, { asleep });
  // Without layers there is no history that may go.
  addresses.get(id)?.sleep(asleep.layers > 0);
}

function sealedIn({ catalog }: TenantHandle, id: TimelineId): Asleep {
  const layers = catalog.layers(id);
  return { layers: layers.length, bytes: layers.reduce((sum, { bytes }) => sum + bytes, 0) };
}

const unknownYet: Omit<TimelineHandle, "tenantId" | "entry" | "ref"> = {
  asleep: undefined,
  pins: undefined,
  merge: undefined,
  sizes: undefined,
  backup: undefined,
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
