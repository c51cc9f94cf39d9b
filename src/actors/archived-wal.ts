// A WAL segment as PostgreSQL wrote it, from the backup: what restore_command asks for. It needs no server,
// only object storage; what is given has been checked, and is the whole file or nothing.

import type { TimelineManifest } from "../store/manifest.ts";
import { segmentObject, timelinePrefix } from "../core/backup/names.ts";
import type { TenantId, TimelineId } from "../core/ids.ts";
import { Arena } from "../core/arena.ts";
import { type Lsn, WAL_SEGMENT_BYTES } from "../core/lsn.ts";
import type { WalRecord } from "../core/wal-record.ts";
import { ObjectError, type ObjectStorage } from "../core/object-storage.ts";
import { crc32c } from "../protocol/crc32c.ts";
import { checkWalSegment } from "../protocol/wal/check-segment.ts";
import type { CheckPoint } from "../protocol/control-file.ts";
import { WalDecoder } from "../protocol/wal/decoder.ts";
import {
  INFO_RMGR_MASK,
  type PgVersion,
  WalCorrupt,
  parsePgVersion,
} from "../protocol/wal/format.ts";
import { RM, XLOG } from "../protocol/wal/rmgr.ts";
import { parseSegmentFileName, segmentFileName } from "../protocol/wal/segment.ts";
import { readCheckpointRecord } from "../protocol/wal/xlog.ts";
import { readManifest } from "./backup-turn.ts";

/**
 * 16 MiB; the segment that is being written ends in zeros. Undefined: the backup does not have it.
 * Rejects with ObjectError, ManifestUnusable.
 */
export async function archivedSegment(
  storage: ObjectStorage,
  tenant: TenantId,
  timeline: TimelineId,
  file: string,
): Promise<Uint8Array | undefined> {
  const wanted = parseSegmentFileName(file);
  if (wanted === undefined) return undefined; // a history or label file: there are none
  let id: TimelineId | undefined = timeline;
  while (id !== undefined) {
    const { manifest } = await readManifest(storage, tenant, id);
    if (manifest === undefined) {
      const message = `${storage.place} has no backup of timeline ${id} of tenant ${tenant}`;
      throw new ObjectError("failed", `${message}; see: pageserver timeline list, and --backup`);
    }
    const found = await segmentOf(storage, manifest, wanted);
    if (found !== undefined) return found;
    // Below its branch point a branch's WAL is its ancestor's.
    const { ancestor } = manifest.timeline as TimelineManifest["timeline"];
    const below = ancestor !== undefined && wanted.segment * WAL_SEGMENT_BYTES < ancestor.lsn;
    id = below ? ancestor.id : undefined;
  }
  return undefined;
}

export interface FoundCheckpoint {
  /** Start of its record. */
  readonly location: Lsn;
  readonly checkpoint: CheckPoint;
}

/**
 * The checkpoint whose redo is `redo`, found in the archive at or below `lsn`. Undefined: the archive does
 * not have it. Rejects as archivedSegment does.
 */
export async function findCheckpoint(
  storage: ObjectStorage,
  timeline: { readonly tenant: TenantId; readonly id: TimelineId; readonly tli: number },
  version: PgVersion,
  redo: Lsn,
  lsn: Lsn,
): Promise<FoundCheckpoint | undefined> {
  let found: FoundCheckpoint | undefined;
  const { tli } = timeline;
  const onRecord = (record: WalRecord): void => {
    const info = record.info & INFO_RMGR_MASK;
    const is = info === XLOG.CHECKPOINT_ONLINE || info === XLOG.CHECKPOINT_SHUTDOWN;
    if (record.rmid !== RM.XLOG || !is || record.endLsn > lsn) return;
    const checkpoint = readCheckpointRecord(record, version);
    if (checkpoint.redo === redo) found = { location: record.startLsn as Lsn, checkpoint };
  };
  const options = { version, tli, start: redo, arena: new Arena(), onRecord };
  const decoder = new WalDecoder({ ...options, atEnd: "stop" });
  while (found === undefined && decoder.position < lsn && !decoder.ended) {
    const segment = Math.floor(decoder.position / WAL_SEGMENT_BYTES);
    const file = segmentFileName(tli, segment);
    const bytes = await archivedSegment(storage, timeline.tenant, timeline.id, file);
    if (bytes === undefined) return undefined;
    decoder.feed(bytes, decoder.position - segment * WAL_SEGMENT_BYTES, bytes.length);
  }
  return found;
}

async function segmentOf(
  storage: ObjectStorage,
  manifest: TimelineManifest,
  { tli, segment }: { readonly tli: number; readonly segment: number },
): Promise<Uint8Array | undefined> {
  if (tli !== manifest.timeline.tli) return undefined;
  const prefix = timelinePrefix(manifest.tenant, manifest.timeline.id);
  const from = segment * WAL_SEGMENT_BYTES;
  const here = manifest.wal.filter((one) => one.from < from + WAL_SEGMENT_BYTES && one.to > from);
  const whole = here.find(({ kind }) => kind === "segment");
  if (whole !== undefined) return checked(storage, prefix, whole);
  const range = manifest.archive.find(
    (one) => one.tli === tli && one.first <= segment && segment <= one.last,
  );
  if (range !== undefined) {
    const name = prefix + segmentObject(tli, segment, range.generation);
    const { bytes } = await storage.get(name);
    const { systemId, pgVersion } = manifest.timeline;
    const facts = { tli, segment, systemId: BigInt(systemId), version: parsePgVersion(pgVersion) };
    try {
      checkWalSegment(bytes, facts);
    } catch (error) {
      if (!(error instanceof WalCorrupt)) throw error;
      throw new ObjectError("corrupt", `${name} in ${storage.place} is corrupt: ${error.message}`);
    }
    return bytes;
  }
  // The parts of the segment that is being written, if they reach back to its start.
  if (here[0]?.from !== from) return undefined;
  const bytes = new Uint8Array(WAL_SEGMENT_BYTES);
  for (const part of here) bytes.set(await checked(storage, prefix, part), part.from - from);
  return bytes;
}

async function checked(
  storage: ObjectStorage,
  prefix: string,
  { name, crc }: TimelineManifest["wal"][number],
): Promise<Uint8Array> {
  const { bytes } = await storage.get(prefix + name);
  if (crc32c(bytes) === crc) return bytes;
  throw new ObjectError(
    "corrupt",
    `${prefix}${name} in ${storage.place} is corrupt: its checksum is wrong; see: pageserver scrub`,
  );
}
