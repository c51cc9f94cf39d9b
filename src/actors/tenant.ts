// One tenant: its catalog and its timelines. Branches are made here, in one handler: a catalog
// transaction and a new actor, whatever the size of the database.

import path from "node:path";
import { unreachable } from "../core/assert.ts";
import type { AdminError } from "../core/admin-error.ts";
import { type TenantId, type TimelineId } from "../core/ids.ts";
import { LSN_INVALID, Lsn } from "../core/lsn.ts";
import type { RestartPolicy } from "../core/restart-budget.ts";
import { type Result, err, ok } from "../core/result.ts";
import { Catalog } from "../store/catalog.ts";
import type { TimelineEntry, WalSource } from "../store/catalog-entries.ts";
import {
  catalogPath,
  makeDirectory,
  removeOrphanTimelines,
  tenantPath,
  timelinePath,
  walPath,
} from "../store/data-dir.ts";
import type { OpenFiles } from "../store/sealed-file.ts";
import { TimelineStore } from "../store/timeline-store.ts";
import type { TenantHandle, TimelineHandle } from "./directory.ts";
import { type ActorRef, type ActorSpec, type Reply, spawn } from "./runtime.ts";
import { findBoundary } from "./timeline-boundary.ts";
import type { TimelineMsg } from "./timeline-messages.ts";
import { type TimelineDeps, timelineActor } from "./timeline.ts";

/** What all tenants' timelines share. */
export interface TenantShared extends Omit<
  TimelineDeps,
  "tenantId" | "timelineId" | "catalog" | "openStore" | "walDirectory" | "restart"
> {
  readonly dataDir: string;
  readonly files: OpenFiles;
  readonly tenantRestart: RestartPolicy;
  readonly timelineRestart: RestartPolicy;
}

export interface BranchRequest {
  readonly id: TimelineId;
  readonly name: string;
  readonly ancestor: TimelineId;
  /** Not above what is durable of the ancestor. */
  readonly lsn: Lsn;
}

type Refusable<T> = Reply<Result<T, AdminError>>;

export type TenantMsg =
  | {
      readonly kind: "branch";
      readonly request: BranchRequest;
      readonly reply: Refusable<TimelineHandle>;
    }
  /** The timeline is in the catalog, complete: from now on it lives. */
  | {
      readonly kind: "adopt";
      readonly timeline: TimelineId;
      readonly reply: Refusable<TimelineHandle>;
    }
  /** Where the timeline's WAL comes from; undefined: nowhere. */
  | {
      readonly kind: "set-source";
      readonly timeline: TimelineId;
      readonly source: WalSource | undefined;
      readonly reply: Refusable<undefined>;
    }
  | { readonly kind: "tick" }
  | { readonly kind: "stop"; readonly reply: Reply<undefined> };

interface State {
  readonly self: ActorRef<TenantMsg>;
  readonly catalog: Catalog;
  readonly handle: TenantHandle;
}

/** Spec of a tenant actor. `created` is written into a new catalog. */
export function tenantActor(id: TenantId, shared: TenantShared): ActorSpec<State, TenantMsg> {
  return {
    name: `tenant-${id}`,
    restart: shared.tenantRestart,
    init: (self) => {
      makeDirectory(tenantPath(shared.dataDir, id));
      const catalog = new Catalog(catalogPath(shared.dataDir, id));
      if (catalog.tenant() === undefined) {
        catalog.change((change) => change.putTenant({ id, createdAtMs: shared.clock.nowMs() }));
      }
      removeOrphanTimelines(shared.dataDir, id, catalog);
      const handle: TenantHandle = {
        id,
        catalog,
        ref: self,
        timelines: new Map(),
        broken: undefined,
      };
      shared.directory.tenants.set(id, handle);
      const state = { self, catalog, handle };
      for (const entry of catalog.timelines()) {
        if (entry.state === "active") adopt(state, shared, entry);
      }
      return state;
    },
    handle: (state, msg) => {
      handle(state, shared, msg);
      return state;
    },
    afterStop: (state) => {
      void state?.catalog.close();
    },
    onBroken: (reason) => {
      const known = shared.directory.tenants.get(id);
      if (known !== undefined) known.broken = reason;
    },
  };
}

function handle(state: State, shared: TenantShared, msg: TenantMsg): void {
  switch (msg.kind) {
    case "branch":
      return msg.reply.answer(branch(state, shared, msg.request));
    case "adopt": {
      const entry = state.catalog.timeline(msg.timeline);
      if (entry === undefined) return msg.reply.answer(err(unknownTimeline(msg.timeline)));
      return msg.reply.answer(ok(adopt(state, shared, entry)));
    }
    case "set-source":
      return msg.reply.answer(setSource(state, msg.timeline, msg.source));
    case "tick":
      for (const { ref } of state.handle.timelines.values()) ref.tell(msg);
      return;
    case "stop":
      return stop(state, msg.reply);
    default:
      return unreachable(msg);
  }
}

const unknownTimeline = (id: TimelineId): AdminError => ({
  kind: "not-found",
  what: `timeline ${id}`,
});

function branch(
  state: State,
  shared: TenantShared,
  request: BranchRequest,
): Result<TimelineHandle, AdminError> {
  const { catalog, handle: tenant } = state;
  const parent = catalog.timeline(request.ancestor);
  if (parent === undefined) return err(unknownTimeline(request.ancestor));
  const facts = tenant.timelines.get(parent.id)?.facts;
  if (facts === undefined || facts.phase.kind === "loading") {
    return err({ kind: "unavailable", message: `timeline ${parent.name} is loading; retry` });
  }
  const { durable } = facts.positions;
  if (request.lsn > Lsn.normalize(durable)) {
    const message =
      `${Lsn.format(request.lsn)} is above the last durable record of ${parent.name}, ` +
      `${Lsn.format(durable)}; branch there or wait`;
    return err({ kind: "bad-ancestor", message });
  }
  const below = lowest(catalog, parent);
  if (request.lsn < below) {
    const message = `${Lsn.format(request.lsn)} is older than what ${parent.name} keeps, ${Lsn.format(below)}`;
    return err({ kind: "bad-ancestor", message });
  }
  const boundary = findBoundary(shared.directory, tenant.id, parent.id, request.lsn);
  if (boundary === undefined) {
    const message = `no record boundary is known at or below ${Lsn.format(request.lsn)}`;
    return err({ kind: "bad-ancestor", message });
  }
  const at = boundary.start;
  const entry: TimelineEntry = {
    id: request.id,
    name: request.name,
    ancestor: { id: parent.id, lsn: at },
    pgVersion: parent.pgVersion,
    tli: parent.tli,
    systemId: parent.systemId,
    baseLsn: at,
    readableFrom: at,
    sealedLsn: at,
    sealedPrev: boundary.prev,
    state: "active",
    createdAtMs: shared.clock.nowMs(),
  };
  const named = catalog.change((change) => change.putTimeline(entry));
  if (!named.ok) {
    return err({ kind: "conflict", message: `a timeline named "${request.name}" exists already` });
  }
  return ok(adopt(state, shared, entry));
}

/** The lowest LSN that can be read on a timeline: where the eldest ancestor's base is complete. */
function lowest(catalog: Catalog, entry: TimelineEntry): Lsn {
  const above = entry.ancestor && catalog.timeline(entry.ancestor.id);
  return above === undefined ? entry.readableFrom : lowest(catalog, above);
}

function adopt(state: State, shared: TenantShared, entry: TimelineEntry): TimelineHandle {
  const { handle: tenant, catalog, self } = state;
  const known = tenant.timelines.get(entry.id);
  if (known !== undefined) return known;
  const directory = timelinePath(shared.dataDir, tenant.id, entry.id);
  const nowhere = { received: LSN_INVALID, visible: LSN_INVALID, durable: LSN_INVALID };
  const placeholder: Omit<TimelineHandle, "ref"> = {
    tenantId: tenant.id,
    entry,
    store: undefined,
    readFrom: undefined,
    boundary: undefined,
    pendingCommits: undefined,
    facts: {
      phase: { kind: "loading" },
      positions: { ...nowhere, uploaded: LSN_INVALID },
      prev: LSN_INVALID,
      receiver: undefined,
      stalled: undefined,
    },
  };
  const spec = timelineActor({
    ...shared,
    tenantId: tenant.id,
    timelineId: entry.id,
    catalog,
    restart: shared.timelineRestart,
    walDirectory: walPath(directory),
    log: shared.log.child({ tenant: tenant.id, timeline: entry.id, name: entry.name }),
    openStore: (ancestor) =>
      new TimelineStore({
        id: entry.id,
        directory,
        catalog,
        files: shared.files,
        budget: shared.budget,
        ancestor: ancestor && entry.ancestor && { store: ancestor, lsn: entry.ancestor.lsn },
      }),
  });
  const ref: ActorRef<TimelineMsg> = spawn(self.scope, spec);
  const live: TimelineHandle = { ...placeholder, ref };
  tenant.timelines.set(entry.id, live);
  return live;
}

function setSource(
  state: State,
  timeline: TimelineId,
  source: WalSource | undefined,
): Result<undefined, AdminError> {
  const { catalog, handle: tenant } = state;
  const entry = catalog.timeline(timeline);
  if (entry === undefined) return err(unknownTimeline(timeline));
  const { source: _old, ...rest } = entry;
  catalog.change((change) => change.putTimeline(source === undefined ? rest : { ...rest, source }));
  tenant.timelines.get(timeline)?.ref.tell({ kind: "source-changed" });
  return ok(undefined);
}

function stop(state: State, reply: Reply<undefined>): void {
  const { handle: tenant, self } = state;
  const waiting = [...tenant.timelines.values()].map(
    ({ ref }) =>
      new Promise<undefined>((resolve) =>
        ref.stopped() ? resolve(undefined) : ref.tell({ kind: "stop", reply: { answer: resolve } }),
      ),
  );
  void Promise.all(waiting).then(() => {
    self.stop();
    reply.answer(undefined);
  });
}

/** Directory of a timeline's files, for imports. */
export const timelineDirectory = (
  dataDir: string,
  tenant: TenantId,
  timeline: TimelineId,
): string => path.resolve(timelinePath(dataDir, tenant, timeline));
