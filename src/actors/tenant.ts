// One tenant: its catalog and its timelines. Branches are made here, in one handler: a catalog
// transaction and a new actor, whatever the size of the database.
//
// The catalog is opened once and lives as long as the tenant does, through its crashes: others hold
// it too (imports, computes), and it remembers nothing that is not on disk.

import { unreachable } from "../core/assert.ts";
import type { AdminError } from "../core/admin-error.ts";
import type { TenantId, TimelineId } from "../core/ids.ts";
import { type Result, err, ok } from "../core/result.ts";
import { Catalog, openCatalogFile } from "../store/catalog.ts";
import { catalogWithPoints } from "../store/crash-points.ts";
import type { WalSource } from "../store/catalog-entries.ts";
import {
  catalogPath,
  hasTimelines,
  makeDirectory,
  removeOrphanTimelines,
  syncEntries,
  tenantPath,
} from "../store/data-dir.ts";
import { StoreCorrupt, StoreFailed, StoreFull, errorText } from "../store/store-errors.ts";
import type { TenantHandle, TimelineHandle } from "./directory.ts";
import type { ActorRef, ActorSpec, Reply } from "./runtime.ts";
import { type BranchRequest, branch } from "./tenant-branch.ts";
import { Removal, lookWhoHasIt, objectsRemoved, removeObjects } from "./tenant-objects.ts";
import { removeTimelines } from "./tenant-remove.ts";
import { type TenantShared, type TenantState, adopt, adoptAll } from "./tenant-timelines.ts";
import { warmUpTick } from "./warm-up.ts";

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
  /**
   * A compute is about to be booted: whichever was there before is connected to no more, and its reads
   * are refused. Durable before it is answered, with the generation of the new one.
   */
  | {
      readonly kind: "next-compute";
      readonly timeline: TimelineId;
      readonly reply: Refusable<number>;
    }
  /** Deletes a timeline, with its branches if asked to; answers their names. */
  | {
      readonly kind: "remove";
      readonly timeline: TimelineId;
      readonly recursive: boolean;
      readonly reply: Refusable<readonly string[]>;
    }
  /** After a crash: the timelines of the life before have closed their files. */
  | { readonly kind: "begin"; readonly life: TenantState }
  /** Objects of deleted timelines are gone, or (`over` false) not yet. */
  | {
      readonly kind: "objects-removed";
      readonly life: TenantState;
      readonly timelines: readonly TimelineId[];
      readonly over: boolean;
    }
  | { readonly kind: "tick" }
  | { readonly kind: "stop"; readonly reply: Reply<undefined> };

export interface TenantActor {
  readonly spec: ActorSpec<TenantState, TenantMsg>;
  /** Ends whatever is left of it, its catalog last. Stop the actor first. */
  readonly close: () => Promise<void>;
}

/** A tenant actor; spawned by the directory of tenants. A new tenant's catalog is made. */
export function tenantActor(id: TenantId, shared: TenantShared): TenantActor {
  const { directory, log } = shared;
  let handle: TenantHandle | undefined;
  let life: TenantState | undefined;
  const spec: ActorSpec<TenantState, TenantMsg> = {
    name: `tenant-${id}`,
    restart: shared.tenantRestart,
    init: (self) => {
      const before = life;
      if (before !== undefined) before.over = true;
      handle = openHandle(id, shared, self, handle);
      const state: TenantState = {
        ...{ self, shared, handle, addresses: new Map(), over: false },
        ...{ removal: new Removal(), warmUpDue: true },
      };
      life = state;
      if (before === undefined) begin(state);
      else void closeTimelines(before).then(() => self.tell({ kind: "begin", life: state }));
      return state;
    },
    handle: (state, msg) => {
      try {
        receive(state, msg);
      } catch (error) {
        if (error instanceof StoreFailed) shared.onFatal(error);
        throw error;
      }
      return state;
    },
    onBroken: (reason) => {
      directory.unusable.set(id, `it is broken: ${reason}`);
      if (handle !== undefined) handle.broken = reason;
      log.error({ tenant: id, reason }, "the tenant is broken");
    },
    refuse: (msg, why) => {
      if ("reply" in msg)
        refuseMsg(msg, `tenant ${id} ${why === undefined ? "stops" : `crashed: ${why}`}`);
    },
  };
  const close = async (): Promise<void> => {
    if (life !== undefined) await closeTimelines(life);
    await handle?.catalog.close();
  };
  return { spec, close };
}

type Asked = Exclude<TenantMsg, { kind: "tick" | "begin" | "objects-removed" }>;

function refuseMsg(msg: Asked, message: string): void {
  if (msg.kind === "stop") msg.reply.answer(undefined);
  else msg.reply.answer(err({ kind: "unavailable", message }));
}

/** Opens the catalog, if it is not, and enters the tenant in the directory. */
function openHandle(
  id: TenantId,
  shared: TenantShared,
  ref: ActorRef<TenantMsg>,
  known: TenantHandle | undefined,
): TenantHandle {
  const { directory } = shared;
  if (known !== undefined) return known;
  try {
    const catalog = openCatalog(id, shared);
    const handle = { id, catalog, ref, timelines: new Map(), broken: undefined };
    directory.tenants.set(id, handle);
    directory.unusable.delete(id);
    return handle;
  } catch (error) {
    directory.unusable.set(id, `it cannot be opened: ${errorText(error)}`);
    throw error;
  }
}

function openCatalog(id: TenantId, { dataDir, clock, crashPoint }: TenantShared): Catalog {
  const directory = tenantPath(dataDir, id);
  makeDirectory(directory);
  const path = catalogPath(dataDir, id);
  const catalog =
    crashPoint === undefined
      ? new Catalog(path)
      : new Catalog(path, catalogWithPoints(openCatalogFile(path), crashPoint));
  try {
    if (catalog.tenant() === undefined) {
      if (hasTimelines(dataDir, id)) {
        throw new StoreCorrupt(catalog.path, "it is empty, but there are timelines beside it");
      }
      catalog.change((change) => change.putTenant({ id, createdAtMs: clock.nowMs() }));
      syncEntries(directory);
    }
    // No import outlives the process: what it has left is of no use.
    const unfinished = catalog.timelines().filter(({ state }) => state === "importing");
    if (unfinished.length > 0) {
      catalog.change((change) => unfinished.forEach((entry) => change.removeTimeline(entry.id)));
    }
    removeOrphanTimelines(dataDir, id, catalog);
    return catalog;
  } catch (error) {
    void catalog.close();
    throw error;
  }
}

function begin(state: TenantState): void {
  // Eldest first, as they came to be: lists of them read the same after a restart.
  const entries = [...state.handle.catalog.timelines()];
  entries.sort((x, y) => x.createdAtMs - y.createdAtMs);
  adoptAll(
    state,
    entries.filter((entry) => entry.state === "active"),
  );
}

function receive(state: TenantState, msg: TenantMsg): void {
  switch (msg.kind) {
    case "branch":
    case "adopt":
    case "set-source":
    case "next-compute":
      return answer(state, msg);
    case "remove":
      return removeTimelines(state, msg.timeline, msg.recursive, msg.reply);
    case "begin":
      if (msg.life === state) begin(state);
      return;
    case "tick":
      removeObjects(state);
      lookWhoHasIt(state);
      warmUpTick(state);
      for (const { ref } of state.handle.timelines.values()) ref.tell(msg);
      return;
    case "objects-removed":
      if (msg.life === state) objectsRemoved(state, msg.timelines, msg.over);
      return;
    case "stop":
      return stop(state, msg.reply);
    default:
      return unreachable(msg);
  }
}

/** Requests that change the catalog: a disk that is full or damaged refuses them and ends nothing. */
function answer(state: TenantState, msg: Exclude<Asked, { kind: "stop" | "remove" }>): void {
  try {
    if (msg.kind === "branch") msg.reply.answer(branch(state, msg.request));
    else if (msg.kind === "adopt") msg.reply.answer(adoptKnown(state, msg.timeline));
    else if (msg.kind === "next-compute") msg.reply.answer(nextCompute(state, msg.timeline));
    else msg.reply.answer(setSource(state, msg.timeline, msg.source));
  } catch (error) {
    if (error instanceof StoreFailed) state.shared.onFatal(error);
    const full = error instanceof StoreFull;
    if (!full && !(error instanceof StoreCorrupt)) throw error;
    state.shared.log.error({ err: error }, `${msg.kind} is refused`);
    msg.reply.answer(err({ kind: full ? "unavailable" : "internal", message: error.message }));
  }
}

function adoptKnown(state: TenantState, id: TimelineId): Result<TimelineHandle, AdminError> {
  const entry = state.handle.catalog.timeline(id);
  return entry === undefined ? err(unknownTimeline(id)) : ok(adopt(state, entry));
}

function setSource(
  state: TenantState,
  id: TimelineId,
  source: WalSource | undefined,
): Result<undefined, AdminError> {
  const { catalog, timelines } = state.handle;
  const entry = catalog.timeline(id);
  if (entry === undefined) return err(unknownTimeline(id));
  const { source: _old, ...rest } = entry;
  catalog.change((change) => change.putTimeline(source === undefined ? rest : { ...rest, source }));
  timelines.get(id)?.ref.tell({ kind: "source-changed" });
  return ok(undefined);
}

/** The number goes up and the source goes in one transaction, before the timeline hears of either. */
function nextCompute(state: TenantState, id: TimelineId): Result<number, AdminError> {
  const { catalog, timelines } = state.handle;
  const entry = catalog.timeline(id);
  if (entry === undefined) return err(unknownTimeline(id));
  const { source: _old, ...rest } = entry;
  const generation = (entry.generation ?? 0) + 1;
  catalog.change((change) => change.putTimeline({ ...rest, generation }));
  timelines.get(id)?.ref.tell({ kind: "source-changed" });
  return ok(generation);
}

const unknownTimeline = (id: TimelineId): AdminError => ({
  kind: "not-found",
  what: `timeline ${id}`,
});

function stop(state: TenantState, reply: Reply<undefined>): void {
  const waiting = [...state.handle.timelines.values()].map(
    ({ ref }) =>
      new Promise<undefined>((resolve) => ref.tell({ kind: "stop", reply: { answer: resolve } })),
  );
  void Promise.all(waiting)
    .then(() => closeTimelines(state))
    .then(() => {
      state.self.stop();
      reply.answer(undefined);
    });
}

/** Resolves when no timeline of this life touches its files any more. */
async function closeTimelines({ addresses }: TenantState): Promise<void> {
  await Promise.all([...addresses.values()].map((address) => address.closed()));
}
