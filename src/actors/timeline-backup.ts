// A timeline's side of its backup: when a turn is due, what it is told, and what comes of it. One turn
// and one layer at a time are with the uploader; nothing here waits.

import { BackupFenced } from "../core/backup/fence.ts";
import { type LayerObject, uploadedLsn } from "../core/backup/manifest.ts";
import { layerName, timelinePrefix } from "../core/backup/names.ts";
import { layersToUpload } from "../core/backup/plan.ts";
import { BACKUP_RETRY_MS, HEAT_WRITE_MS } from "../core/limits.ts";
import { LSN_INVALID, LSN_MAX } from "../core/lsn.ts";
import { type Result, err, ok } from "../core/result.ts";
import { layerSource } from "../io/objects/layer-object.ts";
import type { LayerEntry } from "../store/catalog-entries.ts";
import { StoreCorrupt, StoreFull, errorText, isMissing } from "../store/store-errors.ts";
import { type Backup, letGoBelow } from "./backup.ts";
import { type LocalFacts, type TurnDone, backupTurn } from "./backup-turn.ts";
import { timelineEntryOf } from "./timeline-load.ts";
import type { BackupFacts, Purge } from "./timeline-backup-state.ts";
import { cutoffOf } from "./timeline-pins.ts";
import { layerHeats, seedHeats } from "./timeline-residence.ts";
import { type TimelineState, publish } from "./timeline-state.ts";
import { upload } from "./uploader.ts";

/** Once a second, and when WAL became durable: begins what is due. */
export function backupTick(state: TimelineState): void {
  const { deps, wal, backup } = state;
  if (deps.backup === undefined || wal === undefined) return;
  if (state.phase.kind !== "active" || backup.fenced !== undefined) return;
  // Another timeline of the tenant has met whoever has it now.
  const { fenced } = deps.backup.tenant(deps.tenantId, deps.catalog);
  if (fenced !== undefined) return end(state, fenced);
  if (deps.backup.removing.has(deps.timelineId)) return; // the one before that had this id
  const nowMs = deps.clock.steadyMs();
  if (!backup.uploading && nowMs >= backup.layerDueMs) uploadNext(state, deps.backup);
  if (!backup.turning && nowMs >= backup.dueMs) beginTurn(state, deps.backup);
}

function beginTurn(state: TimelineState, of: Backup): void {
  const { deps, backup, self, wal } = state;
  const seen = whatCounts(state);
  const nothingNew = seen.every((value, i) => value === backup.seen[i]);
  if (nothingNew && !hasGarbage(state) && backup.purge === undefined) return;
  backup.seen = seen;
  if (backup.purge !== undefined) backup.purge.begun = true;
  backup.turning = true;
  backup.dueMs = deps.clock.steadyMs() + of.options.intervalMs;
  const { tenantId: tenant, timelineId: timeline, catalog } = deps;
  const run = (): Promise<TurnDone | undefined> =>
    backupTurn({
      ...{ storage: of.options.storage, writer: of.writer, nowMs: of.options.nowMs },
      ...{ tenant, timeline, of: of.tenant(tenant, catalog) },
      ...{ known: backup.known, deleted: backup.deleted },
      local: () => localFacts(state, of),
      copyWal: (from, to) => wal!.copyWal(from, to),
    });
  of.track(timeline, upload(of.uploader, "turn", run)).then(
    (done) => self.tell({ kind: "backed-up", life: state, done, error: undefined }),
    (error: unknown) => self.tell({ kind: "backed-up", life: state, done: undefined, error }),
  );
}

const hasGarbage = ({ backup }: TimelineState): boolean =>
  (backup.known?.manifest?.garbage.length ?? 0) > 0;

/** A turn is due when one of these is another than the last turn saw. */
function whatCounts(state: TimelineState): readonly unknown[] {
  const { deps, wal, backup } = state;
  const handle = deps.directory.find(deps.tenantId, deps.timelineId);
  const above = handle?.entry.ancestor;
  const ancestor = above && deps.directory.find(deps.tenantId, above.id);
  return [
    ...[wal?.positions.durable, wal?.store.map.layers, backup.puts, handle?.entry],
    ...[
      ancestor?.facts.positions.uploaded,
      deps.directory.tenants.get(deps.tenantId)?.timelines.size,
    ],
    backup.known === undefined,
    Math.floor(deps.clock.steadyMs() / HEAT_WRITE_MS),
  ];
}

function localFacts(state: TimelineState, of: Backup): LocalFacts | undefined {
  const { deps, wal, backup } = state;
  if (wal === undefined || state.ended !== undefined) return undefined;
  const { catalog, directory, tenantId, timelineId } = deps;
  const timeline = catalog.timeline(timelineId);
  if (timeline === undefined) return undefined;
  const { ancestor } = timeline;
  const above = ancestor && directory.find(tenantId, ancestor.id);
  const cutoff = cutoffOf(directory, tenantId, timeline);
  return {
    timeline,
    layers: catalog.layers(timelineId),
    snapshots: catalog.snapshots(timelineId),
    walFrom: wal.walFrom,
    durable: wal.positions.durable,
    archiveFrom: of.options.archive ? cutoff : LSN_MAX,
    put: new Map(backup.put),
    purge: backup.purge?.names ?? [],
    heat: layerHeats(state),
    ancestorUploaded: ancestor && (above?.facts.positions.uploaded ?? LSN_INVALID),
  };
}

/** A turn is over. True when `uploaded` has moved. */
export function backedUp(
  state: TimelineState,
  done: TurnDone | undefined,
  error: unknown,
): boolean {
  const { deps, backup, wal } = state;
  backup.turning = false;
  if (backup.purge?.begun === true) {
    const { names } = backup.purge;
    const gone = names.filter((name) => done?.deleted.has(name) === true);
    endPurge(state, error === undefined ? ok(new Set(gone)) : err(errorText(error)));
  }
  if (wal === undefined) return false;
  if (error !== undefined) {
    failed(state, error);
    return false;
  }
  backup.failure = undefined;
  if (done === undefined) return false;
  const { known, deleted } = done;
  if (backup.known === undefined) seedHeats(state, known.manifest?.heat ?? []);
  backup.known = known;
  backup.deleted = deleted;
  const { manifest } = known;
  if (manifest === undefined) return false;
  try {
    annotate(state, manifest.layers);
  } catch (cause) {
    if (!(cause instanceof StoreFull)) throw cause;
    deps.log.warn({ reason: cause.message }, "what was uploaded cannot be noted now");
  }
  const settled = new Set(manifest.garbage);
  for (const { object } of manifest.layers) settled.add(object!.name);
  for (const [file, { name }] of backup.put) if (settled.has(name)) backup.put.delete(file);
  const before = wal.uploaded;
  wal.uploaded = uploadedLsn(manifest);
  wal.letGo(letGoBelow(timelineEntryOf(deps.catalog, deps.timelineId).sealedLsn, wal.uploaded));
  return wal.uploaded !== before;
}

/** A scrub wants objects deleted that no manifest names: the next manifest has them as its garbage. */
export function purgeObjects(
  state: TimelineState,
  { names, reply }: Pick<Purge, "names" | "reply">,
): void {
  const { deps, backup } = state;
  if (deps.backup === undefined || backup.purge !== undefined || backup.fenced !== undefined) {
    return reply.answer(err(backup.fenced?.message ?? "another scrub is deleting"));
  }
  backup.purge = { names, reply, begun: false };
  backupTick(state);
}

export function endPurge(
  { backup }: TimelineState,
  result: Result<ReadonlySet<string>, string>,
): void {
  backup.purge?.reply.answer(result);
  backup.purge = undefined;
}

/** The catalog notes where object storage has layers: from then on their files may be evicted. */
function annotate({ deps, wal }: TimelineState, layers: readonly LayerEntry[]): void {
  const objects = new Map(layers.map(({ file, object }) => [file, object]));
  const found = wal!.store.map.layers
    .map(({ entry }) => entry)
    .filter(({ file, object }) => object === undefined && objects.get(file) !== undefined)
    .map((entry) => ({ ...entry, object: objects.get(entry.file)! }));
  if (found.length === 0) return;
  deps.catalog.change((change) => found.forEach((entry) => change.putLayer(entry)));
  wal!.store.map.annotate(found);
}

/** This server may not write the backup any more; nor take in WAL, when somebody else does. */
function end(state: TimelineState, fence: BackupFenced): void {
  const { deps, backup } = state;
  const { message: reason, how } = fence;
  backup.fenced = fence;
  deps.log.error({ reason }, "the backup has ended: this server may not write it");
  if (how === "taken") {
    state.inlet.end(timelineEntryOf(deps.catalog, deps.timelineId).source, reason);
  }
  publish(state);
}

/** Why the timeline takes in no WAL here: another server has its tenant. */
export function takenOver({ deps, backup }: TimelineState): string | undefined {
  const fence = backup.fenced ?? deps.backup?.tenant(deps.tenantId, deps.catalog).fenced;
  return fence?.how === "taken" ? fence.message : undefined;
}

function failed(state: TimelineState, error: unknown): void {
  const { deps, backup } = state;
  const reason = errorText(error);
  backup.known = undefined; // what was written is read again
  backup.seen = [];
  backup.dueMs = deps.clock.steadyMs() + BACKUP_RETRY_MS;
  if (error instanceof BackupFenced) {
    return end(state, error);
  }
  if (backup.failure !== reason) deps.log.warn({ reason }, "the backup fails; it is tried again");
  backup.failure = reason;
}

// ---- layers

function uploadNext(state: TimelineState, of: Backup): void {
  const { deps, wal, backup, self } = state;
  if (backup.known === undefined || wal === undefined) return;
  const stored = new Map(backup.put);
  for (const { file, object } of backup.known.manifest?.layers ?? []) stored.set(file, object!);
  const layers = wal.store.map.layers.map(({ entry }) => entry);
  const [next] = layersToUpload({ layers, stored });
  if (next === undefined) return;
  backup.uploading = true;
  const path = wal.store.map.pathOf(next);
  const run = async (): Promise<LayerObject> => {
    const generation = await of.tenant(deps.tenantId, deps.catalog).generation();
    const name = layerName(next, generation);
    let bytes = 0;
    const source = layerSource(path, (more) => (bytes += more));
    const counted = (): ReturnType<typeof source> => {
      bytes = 0;
      return source();
    };
    const prefix = timelinePrefix(deps.tenantId, deps.timelineId);
    await of.options.storage.putStream(prefix + name, counted);
    return { name, bytes };
  };
  const { file } = next;
  of.track(deps.timelineId, upload(of.uploader, "layer", run)).then(
    (object) => self.tell({ kind: "layer-put", life: state, file, object, error: undefined }),
    (error: unknown) =>
      self.tell({ kind: "layer-put", life: state, file, object: undefined, error }),
  );
}

/** A layer is in object storage, or is not. */
export function layerPut(
  state: TimelineState,
  file: string,
  object: LayerObject | undefined,
  error: unknown,
): void {
  const { deps, backup } = state;
  backup.uploading = false;
  if (object !== undefined) {
    backup.put.set(file, object);
    backup.puts++;
    return backupTick(state);
  }
  // Merged meanwhile: it is not needed any more.
  if (isMissing(error)) return;
  backup.layerDueMs = deps.clock.steadyMs() + BACKUP_RETRY_MS;
  if (error instanceof StoreCorrupt) deps.log.error({ err: error }, "a layer cannot be uploaded");
  failed(state, error);
}

/** Undefined: there is no backup. */
export function backupFacts({ deps, backup, wal }: TimelineState): BackupFacts | undefined {
  if (deps.backup === undefined || wal === undefined) return undefined;
  const { durable, uploaded } = wal.positions;
  const named = new Set(backup.known?.manifest?.layers.map(({ file }) => file));
  const waiting = wal.store.map.layers.filter(({ entry }) => !named.has(entry.file));
  const bad = backup.fenced?.message ?? backup.failure;
  const from = Math.max(uploaded, timelineEntryOf(deps.catalog, deps.timelineId).baseLsn);
  return {
    state: backup.fenced !== undefined ? "fenced" : bad === undefined ? "backing-up" : "failing",
    ...{ reason: bad, uploaded, layersWaiting: waiting.length },
    lagBytes: Math.max(0, durable - from),
    writtenAtMs: backup.known?.manifest?.writtenAtMs,
  };
}
