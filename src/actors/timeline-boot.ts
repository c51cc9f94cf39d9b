// A timeline's beginning: its ancestor is waited for, its store and WAL files are loaded beside the
// actor, and then it is active; or broken, if not all of its WAL, or nothing at all, can be loaded.

import path from "node:path";
import { ANCESTOR_POLL_MS, LOAD_RETRY_MS } from "../core/limits.ts";
import { LSN_INVALID, Lsn } from "../core/lsn.ts";
import { mayPass } from "../core/object-storage.ts";
import type { LayerEntry } from "../store/catalog-entries.ts";
import { fileExists, makeDirectory } from "../store/data-dir.ts";
import { PageReader } from "../store/read-page.ts";
import { StoreFailed, StoreFull, errorText } from "../store/store-errors.ts";
import type { TimelineStore } from "../store/timeline-store.ts";
import { after } from "./runtime.ts";
import { type Loaded, loadTimeline, timelineEntryOf } from "./timeline-load.ts";
import { backupFacts } from "./timeline-backup.ts";
import { fetchForLoading, fetchPaths } from "./timeline-fetch.ts";
import { dismiss } from "./timeline-readers.ts";
import { pinsOf } from "./timeline-pins.ts";
import { evictable, residenceFacts } from "./timeline-residence.ts";
import {
  type TimelineDeps,
  type TimelineState,
  move,
  publish,
  unreadable,
} from "./timeline-state.ts";
import { TimelineWal } from "./timeline-wal.ts";
import { connect, progressed } from "./timeline-work.ts";

/** Begins to load, or to wait for the ancestor. */
export function boot(state: TimelineState): void {
  const { deps, self } = state;
  if (state.phase.kind !== "loading") return;
  const ancestor = findAncestor(state);
  if (ancestor === "not-ready") {
    publish(state);
    after(ANCESTOR_POLL_MS, () => self.tell({ kind: "boot", life: state }));
    return;
  }
  state.waitsFor = undefined;
  const load = fetched(state).then(() =>
    loadTimeline({
      entry: () => timelineEntryOf(deps.catalog, deps.timelineId),
      openStore: () => deps.openStore(ancestor),
      walDirectory: deps.walDirectory,
      budget: deps.budget,
      nowMs: deps.clock.nowMs,
      onDurable: (upTo) => self.tell({ kind: "synced", life: state, upTo }),
      onFatal: deps.onFatal,
      crashPoint: deps.crashPoint,
      cancelled: () => state.ended !== undefined,
    }),
  );
  state.loading = load.then(
    (loaded) => {
      state.loaded = loaded;
      self.tell({ kind: "loaded", life: state });
    },
    (error: unknown) => self.tell({ kind: "load-failed", life: state, error }),
  );
}

/** What ingest and lists read must be here before; pages come when they are read. */
async function fetched({ deps }: TimelineState): Promise<void> {
  const { backup, catalog, tenantId, timelineId, layersDirectory } = deps;
  if (backup === undefined) return;
  const pathOf = ({ file }: LayerEntry): string => path.join(layersDirectory, file);
  makeDirectory(layersDirectory);
  await fetchForLoading(backup.fetcher, tenantId, catalog.layers(timelineId), pathOf, fileExists);
}

/** The ancestor's store; undefined when there is no ancestor. */
function findAncestor(state: TimelineState): TimelineStore | undefined | "not-ready" {
  const { deps } = state;
  const above = timelineEntryOf(deps.catalog, deps.timelineId).ancestor;
  if (above === undefined) return undefined;
  const handle = deps.directory.find(deps.tenantId, above.id);
  if (handle?.asleep !== undefined) handle.ref.tell({ kind: "wake" });
  const visible = handle?.facts.positions.visible ?? LSN_INVALID;
  if (handle?.store !== undefined && Lsn.normalize(visible) >= above.lsn) return handle.store;
  const phase = handle?.facts.phase;
  const why = phase?.kind === "broken" ? `is broken: ${phase.reason}` : "is not loaded yet";
  state.waitsFor = `its ancestor "${handle?.entry.name ?? above.id}" ${why}`;
  return "not-ready";
}

/** What was loaded takes its place. */
export function loaded(state: TimelineState): void {
  const { deps, self, phase } = state;
  const found = state.loaded;
  if (found === undefined || phase.kind !== "loading") return;
  const { store, files, intake, floor, failure } = found;
  const wal = new TimelineWal({
    ...{ store, files, intake, floor },
    budget: deps.budget,
    sealer: deps.sealer,
    clock: deps.clock,
    onSealTurn: () => self.tell({ kind: "seal-turn", life: state }),
    onSealed: (error) => self.tell({ kind: "sealed", life: state, error }),
  });
  state.wal = wal;
  state.readFrom = {
    pages: new PageReader(store, deps.cache),
    redo: deps.redo,
    fetch: deps.backup && ((paths) => fetchPaths(deps, paths, "urgent")),
  };
  // A branch reads what its ancestors keep: down to the base of the eldest.
  const base = eldestBase(deps);
  state.readable = { last: intake.visible, cutoff: base, readableFrom: base };
  deps.directory.publish(deps.tenantId, deps.timelineId, {
    entry: timelineEntryOf(deps.catalog, deps.timelineId),
    store,
    boundary: (lsn) => wal.boundary(lsn),
    pendingCommits: () => intake.ingest.pendingCommits(),
    readFrom: state.readFrom,
    backup: () => backupFacts(state),
    residence: () => residenceFacts(state),
    evictable: () => evictable(state),
    pins: () => pinsOf(state),
    sizes: () => ({ logical: wal.logicalSize, wal: wal.walBytes }),
    merge: () => ({
      merging: state.retention.job !== undefined,
      failure: state.retention.failure,
    }),
  });
  announce(state, found);
  if (failure === undefined) move(state, { kind: "loaded" });
  else move(state, { kind: "failed", reason: brokenReason(found) });
  wal.beginSeal();
  progressed(state);
  connect(state);
}

const brokenReason = ({ intake, failure }: Loaded): string =>
  `WAL behind ${Lsn.format(intake.visible)} cannot be followed: ${errorText(failure?.error)}; ` +
  `what is before stays readable`;

function announce({ deps }: TimelineState, { store, intake, endReason, failure }: Loaded): void {
  const at = Lsn.format(intake.visible);
  if (failure === undefined) deps.log.info({ lsn: at, walEnd: endReason }, `loaded, at ${at}`);
  else deps.log.error({ lsn: at, err: failure.error }, `loaded, and broken behind ${at}`);
  void store.verifyFiles((error) => deps.log.error({ err: error }, "a layer is corrupt"));
}

/** A full disk may have room again; everything else needs a person. */
export function loadFailed(state: TimelineState, error: unknown): void {
  const { deps, self } = state;
  if (state.phase.kind !== "loading") return;
  if (error instanceof StoreFailed) return deps.onFatal(error);
  if (error instanceof StoreFull || mayPass(error)) {
    state.waitsFor = errorText(error);
    deps.log.error(
      { reason: errorText(error) },
      "the timeline cannot be loaded; it is tried again",
    );
    after(LOAD_RETRY_MS, () => self.tell({ kind: "boot", life: state }));
    for (const reply of state.loadWaiters.splice(0)) reply.answer(undefined);
    return publish(state);
  }
  deps.log.error({ err: error }, "the timeline cannot be loaded");
  move(state, { kind: "failed", reason: errorText(error) });
  dismiss(state, unreadable(state));
}

function eldestBase({ catalog, timelineId }: TimelineDeps): Lsn {
  let entry = timelineEntryOf(catalog, timelineId);
  while (entry.ancestor !== undefined) entry = timelineEntryOf(catalog, entry.ancestor.id);
  return entry.readableFrom;
}
