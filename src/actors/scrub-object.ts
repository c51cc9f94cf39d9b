// One object that a manifest names: whether it is there and is what was written, and writing it again
// from what this server has.

import type { NamedByManifest, ProblemKind } from "../core/backup/scrub.ts";
import { timelinePrefix } from "../core/backup/names.ts";
import type { TimelineId } from "../core/ids.ts";
import { type Lsn, WAL_SEGMENT_BYTES } from "../core/lsn.ts";
import { type ObjectStorage, isObjectError } from "../core/object-storage.ts";
import { isLayerFile, layerBytes, layerSource } from "../io/objects/layer-object.ts";
import { crc32c } from "../protocol/crc32c.ts";
import { checkWalSegment } from "../protocol/wal/check-segment.ts";
import { WalCorrupt, parsePgVersion } from "../protocol/wal/format.ts";
import type { LayerEntry } from "../store/catalog-entries.ts";
import type { TimelineManifest } from "../store/manifest.ts";
import { StoreCorrupt, isMissing } from "../store/store-errors.ts";

/** What this server has of a tenant, when it is the one that writes its backup. */
export interface LocalTenant {
  readonly hasTimeline: (timeline: TimelineId) => boolean;
  /** Path of a layer's file, whether it is there or not. */
  readonly layerFile: (timeline: TimelineId, layer: LayerEntry) => string | undefined;
  /** Rejects with StoreCorrupt when it is not here any more. */
  readonly wal: (timeline: TimelineId, tli: number, from: Lsn, to: Lsn) => Promise<Uint8Array>;
  /** Has the timeline's next manifest delete these; answers those that are gone. */
  readonly purge: (timeline: TimelineId, names: readonly string[]) => Promise<ReadonlySet<string>>;
}

export interface CheckedObject {
  readonly storage: ObjectStorage;
  readonly signal: AbortSignal;
  readonly onBytes: (bytes: number) => void;
  readonly manifest: TimelineManifest;
  readonly one: NamedByManifest<TimelineManifest>;
}

export interface Wrong {
  readonly kind: ProblemKind;
  readonly detail: string;
}

const nameOf = ({ manifest, one }: CheckedObject): string =>
  timelinePrefix(manifest.tenant, manifest.timeline.id) + one.name;

/** Reads it whole; undefined: it is as it was written. Rejects with ObjectError, and the signal's reason. */
export async function wrongWith(checked: CheckedObject): Promise<Wrong | undefined> {
  checked.signal.throwIfAborted();
  try {
    await readWhole(checked);
    return undefined;
  } catch (error) {
    if (isObjectError(error, "not-found")) {
      return { kind: "missing", detail: "the manifest names it, and it is not there" };
    }
    // In the clear where it must not be, or encrypted for someone else: not what was written.
    const swapped = isObjectError(error, "no-key");
    if (swapped || isObjectError(error, "corrupt") || error instanceof WalCorrupt) {
      return { kind: "corrupt", detail: error.message };
    }
    throw error;
  }
}

async function readWhole(checked: CheckedObject): Promise<void> {
  const { storage, signal, manifest, one, onBytes } = checked;
  const name = nameOf(checked);
  if (one.kind === "layer") {
    for await (const { length } of layerBytes(storage, name, one.layer)) {
      signal.throwIfAborted();
      onBytes(length);
    }
    return;
  }
  const { bytes } = await storage.get(name);
  onBytes(bytes.length);
  if (one.kind === "archive") {
    const { systemId, pgVersion } = manifest.timeline;
    const facts = { tli: one.tli, segment: one.segment, systemId: BigInt(systemId) };
    checkWalSegment(bytes, { ...facts, version: parsePgVersion(pgVersion) });
  } else if (crc32c(bytes) !== one.wal.crc) {
    throw new WalCorrupt(one.wal.from, "the object's checksum is not the manifest's");
  }
}

/** True when it was written again, from this server's copy, and is right now. */
export async function repair(checked: CheckedObject, local: LocalTenant): Promise<boolean> {
  const { storage, manifest, one } = checked;
  const timeline = manifest.timeline.id;
  const name = nameOf(checked);
  try {
    if (one.kind === "layer") {
      const file = local.layerFile(timeline, one.layer);
      if (file === undefined || !(await isLayerFile(file, one.layer))) return false;
      await storage.putStream(name, layerSource(file));
    } else {
      const bytes = await localWal(local, manifest, one);
      if (bytes === undefined) return false;
      await storage.put(name, bytes);
    }
  } catch (error) {
    if (error instanceof StoreCorrupt || isMissing(error)) return false; // not here any more
    if (isObjectError(error, "no-key")) return false;
    throw error;
  }
  return (await wrongWith(checked)) === undefined;
}

async function localWal(
  local: LocalTenant,
  { timeline: { id, tli } }: TimelineManifest,
  one: Exclude<NamedByManifest<TimelineManifest>, { kind: "layer" }>,
): Promise<Uint8Array | undefined> {
  if (one.kind === "archive") return undefined; // its file is let go before it is archived
  const { from, to, kind, crc } = one.wal;
  const base = Math.floor(from / WAL_SEGMENT_BYTES) * WAL_SEGMENT_BYTES;
  const bytes =
    kind === "segment"
      ? await local.wal(id, tli, base as Lsn, (base + WAL_SEGMENT_BYTES) as Lsn)
      : await local.wal(id, tli, from, to);
  return crc32c(bytes) === crc ? bytes : undefined;
}
