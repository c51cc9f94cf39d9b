// One turn of a timeline's backup, beside the actors: WAL that is durable goes to object storage, then
// the manifest that names it and the layers that are there already, then what no manifest names any
// more is deleted. Runs in the uploader; whatever it throws leaves the last manifest as it was.

import { BackupFenced, checkManifest, manifestTaken } from "../core/backup/fence.ts";
import { type WalObject, uploadedLsn } from "../core/backup/manifest.ts";
import { manifestName, timelinePrefix } from "../core/backup/names.ts";
import { type BackupFacts, nextManifest, walToPut } from "../core/backup/plan.ts";
import type { TenantId, TimelineId } from "../core/ids.ts";
import { LSN_INVALID, type Lsn, WAL_SEGMENT_BYTES } from "../core/lsn.ts";
import {
  ObjectError,
  type ObjectStorage,
  type ObjectVersion,
  isObjectError,
} from "../core/object-storage.ts";
import { crc32c } from "../protocol/crc32c.ts";
import type { LayerEntry, SnapshotEntry, TimelineEntry } from "../store/catalog-entries.ts";
import { type TimelineManifest, decodeManifest, encodeManifest } from "../store/manifest.ts";
import type { TenantBackup } from "./backup-tenant.ts";

/** The manifest that counts, as this process last wrote or read it. */
export interface KnownManifest {
  readonly manifest: TimelineManifest | undefined;
  readonly version: ObjectVersion | undefined;
}

/** What a turn needs of the timeline, at one moment. */
export type LocalFacts = Pick<
  BackupFacts<TimelineEntry, LayerEntry, SnapshotEntry>,
  "timeline" | "layers" | "snapshots" | "walFrom" | "durable" | "archiveFrom" | "purge" | "heat"
> & {
  /** Layers that this process has put and no manifest names yet, by file. */
  readonly put: BackupFacts["stored"];
  /** What object storage has of the ancestor; undefined: there is no ancestor. */
  readonly ancestorUploaded: Lsn | undefined;
};

export interface TurnParts {
  readonly storage: ObjectStorage;
  readonly tenant: TenantId;
  readonly timeline: TimelineId;
  readonly of: TenantBackup;
  readonly writer: string;
  readonly nowMs: () => number;
  /** Undefined: it has to be read first. */
  readonly known: KnownManifest | undefined;
  readonly deleted: ReadonlySet<string>;
  /** Undefined: the timeline has ended. */
  readonly local: () => LocalFacts | undefined;
  readonly copyWal: (from: Lsn, to: Lsn) => Promise<Uint8Array>;
}

export interface TurnDone {
  readonly known: KnownManifest;
  /** Names of the manifest's garbage that are gone. */
  readonly deleted: ReadonlySet<string>;
}

/** Undefined: there is nothing to write, or it cannot be yet. Rejects with BackupFenced, ObjectError, ManifestUnusable, StoreCorrupt. */
export async function backupTurn(parts: TurnParts): Promise<TurnDone | undefined> {
  const { storage, of, tenant, timeline, writer } = parts;
  const generation = await of.generation();
  const known = parts.known ?? (await readKnown(parts, generation));
  const local = parts.local();
  if (local === undefined) return undefined;
  const { put, ancestorUploaded, ...rest } = local;
  const stored = new Map(put);
  for (const { file, object } of known.manifest?.layers ?? []) stored.set(file, object!);
  const facts = {
    ...{ tenant, generation, writer, nowMs: parts.nowMs(), stored, ...rest },
    manifest: known.manifest,
    heat: parts.known === undefined ? withFormer(known.manifest, local.heat) : local.heat,
  };
  // A branch counts when what it reads of its ancestor does.
  const needed = local.timeline.ancestor?.lsn ?? LSN_INVALID;
  if ((ancestorUploaded ?? needed) < needed) return asItIs(parts, known);
  const wal: WalObject[] = [];
  for (const { segment, ...one } of walToPut(facts)) {
    const base = segment * WAL_SEGMENT_BYTES;
    const [from, to] =
      one.kind === "part" ? [one.from, one.to] : [base as Lsn, (base + WAL_SEGMENT_BYTES) as Lsn];
    const bytes = await parts.copyWal(from, to);
    await storage.put(timelinePrefix(tenant, timeline) + one.name, bytes);
    wal.push({ ...one, crc: crc32c(bytes) });
  }
  const manifest = nextManifest(facts, wal, parts.deleted);
  if (manifest === undefined) return asItIs(parts, known);
  // Timelines that are gone go from the list before what they were kept for can go.
  await of.list();
  const version = await write(parts, known, manifest);
  await of.list(timeline);
  const deleted = new Set(manifest.garbage);
  const prefix = timelinePrefix(tenant, timeline);
  // The manifest stands, whatever becomes of this: it is tried again with the next one.
  const gone = await storage.deleteMany(manifest.garbage.map((name) => prefix + name)).then(
    () => deleted,
    () => new Set<string>(),
  );
  return { known: { manifest, version }, deleted: gone };
}

/** Nothing is to be written. A turn that failed may have written the manifest, and not have listed it. */
async function asItIs(
  { of, timeline, deleted }: TurnParts,
  known: KnownManifest,
): Promise<TurnDone> {
  if (known.manifest !== undefined) await of.list(timeline);
  return { known, deleted };
}

/** What was read before this process began counts, too. */
function withFormer(
  manifest: TimelineManifest | undefined,
  heats: LocalFacts["heat"],
): ReadonlyMap<string, number> {
  const merged = new Map(manifest?.heat?.map(({ file, heat }) => [file, heat]));
  for (const [file, heat] of heats ?? []) merged.set(file, Math.max(heat, merged.get(file) ?? 0));
  return merged;
}

async function write(
  parts: TurnParts,
  known: KnownManifest,
  manifest: TimelineManifest,
): Promise<ObjectVersion> {
  const { storage, tenant, timeline, of } = parts;
  const name = manifestName(tenant, timeline);
  const bytes = encodeManifest(manifest);
  try {
    return known.version === undefined
      ? await storage.putIfAbsent(name, bytes)
      : await storage.compareAndSwap(name, bytes, known.version);
  } catch (error) {
    if (!isObjectError(error, "changed") && !isObjectError(error, "exists")) throw error;
    if (await isOurs(parts, known, manifest)) {
      const message = `${name} has changed by a write of this server that came late; it goes on from there`;
      throw new ObjectError("unavailable", message, error);
    }
    const fence = manifestTaken(tenant, timeline);
    of.endWith(fence);
    throw fence;
  }
}

/**
 * True when what is there was written by this process, or by the one before it in this data directory: a
 * request that was given up, or whose process died, may be served all the same, later.
 */
async function isOurs(
  { storage, tenant, timeline, writer }: TurnParts,
  known: KnownManifest,
  { generation }: TimelineManifest,
): Promise<boolean> {
  const { manifest: found } = await readManifest(storage, tenant, timeline);
  if (found === undefined || found.generation !== generation) return false;
  if (known.manifest === undefined) return true;
  return found.writer === writer || found.writer === known.manifest.writer;
}

/** The manifest that is there, when this server may go on from it. */
async function readKnown(parts: TurnParts, generation: number): Promise<KnownManifest> {
  const { storage, tenant, timeline } = parts;
  const known = await readManifest(storage, tenant, timeline);
  if (known.manifest === undefined) return known;
  const durable = parts.local()?.durable ?? uploadedLsn(known.manifest);
  try {
    checkManifest(known.manifest, { generation, durable });
  } catch (error) {
    if (error instanceof BackupFenced) parts.of.endWith(error);
    throw error;
  }
  return known;
}

/** A timeline's manifest as it is now. Rejects with ObjectError, ManifestUnusable. */
export async function readManifest(
  storage: ObjectStorage,
  tenant: TenantId,
  timeline: TimelineId,
): Promise<KnownManifest> {
  const name = manifestName(tenant, timeline);
  try {
    const { bytes, version } = await storage.get(name);
    return { manifest: decodeManifest(bytes, `${storage.place}/${name}`), version };
  } catch (error) {
    if (!isObjectError(error, "not-found")) throw error;
    return { manifest: undefined, version: undefined };
  }
}
