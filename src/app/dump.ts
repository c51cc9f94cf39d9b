// One key of a timeline at one LSN: its versions with the layers they lie in, and the page they make.

import type { TimelineHandle } from "../actors/directory.ts";
import { readPages } from "../actors/timeline-source.ts";
import { KIND, type Group } from "../core/key.ts";
import { LSN_INVALID, type Lsn, Lsn as LsnOf } from "../core/lsn.ts";
import { PAGE_BYTES, type RelTag } from "../core/page.ts";
import { VERSION, VERSION_FLAG, type Version, endsChain } from "../core/version.ts";
import type { DumpTarget, Dumped } from "../http/management.ts";
import type { PageVersionInfo } from "../protocol/api.ts";
import { MISSING } from "../store/relations.ts";
import { LayerAbsent } from "../store/store-errors.ts";

/** Versions listed at most: a hot page may have a million. */
const VERSIONS_MAX = 1_000;

const TYPE_NAMES = {
  [VERSION.IMAGE]: "image",
  [VERSION.RECORD]: "record",
  [VERSION.OP]: "op",
  [VERSION.VALUE]: "value",
  [VERSION.TOMBSTONE]: "tombstone",
} as const;

/** Throws BackupFailed with the reason when the page cannot be read. */
export async function dumpKey(
  timeline: TimelineHandle,
  target: DumpTarget,
  at: Lsn,
): Promise<Dumped> {
  const { readFrom, store, entry } = timeline;
  if (readFrom === undefined || store === undefined) {
    throw new Error(`timeline "${entry.name}" is not loaded`);
  }
  const group: Group =
    target.kind === "key"
      ? target.group
      : {
          kind: KIND.PAGE,
          a: target.rel.spc,
          b: target.rel.db,
          c: target.rel.rel,
          d: target.rel.fork,
        };
  const rel: RelTag | undefined =
    group.kind === KIND.PAGE
      ? { spc: group.a, db: group.b, rel: group.c, fork: group.d }
      : undefined;
  const versions = await versionsOf(timeline, group, target.block, at);
  const blocks = rel && readFrom.pages.relations.relSize(rel, at);
  const page = rel && (await readPages(readFrom, rel, target.block, 1, at)).slice(0, PAGE_BYTES);
  return {
    tenantId: timeline.tenantId,
    timelineId: entry.id,
    lsn: at,
    relBlocks: blocks === MISSING ? undefined : blocks,
    page,
    versions,
  };
}

/** Fetches layers that are not here, one after the other: each time it is looked deeper. */
async function versionsOf(
  { store, readFrom }: TimelineHandle,
  group: Group,
  block: number,
  at: Lsn,
): Promise<readonly PageVersionInfo[]> {
  for (;;) {
    const versions: PageVersionInfo[] = [];
    try {
      store!.visitNamed(group, block, at, LSN_INVALID, (version, layer, owner) => {
        versions.push(versionInfo(version, layer, owner));
        return !endsChain(version.type, version.flags) && versions.length < VERSIONS_MAX;
      });
      return versions;
    } catch (cause) {
      if (!(cause instanceof LayerAbsent) || readFrom?.fetch === undefined) throw cause;
      await readFrom.fetch([cause.path]);
    }
  }
}

function versionInfo(version: Version, layer: string, timeline: string): PageVersionInfo {
  const { type, flags, length, lsn, holeLength, bytes, start } = version;
  const details: string[] = [];
  if (type === VERSION.IMAGE) {
    if (holeLength > 0) details.push(`hole of ${holeLength} bytes`);
    if ((flags & VERSION_FLAG.PGLZ) !== 0) details.push("pglz");
    if ((flags & VERSION_FLAG.LZ4) !== 0) details.push("lz4");
    if ((flags & VERSION_FLAG.ZSTD) !== 0) details.push("zstd");
  }
  // xl_rmid and xl_info of the record header (xlogrecord.h).
  if (type === VERSION.RECORD) {
    const info = bytes[start + 16]!.toString(16).padStart(2, "0");
    details.push(`rmgr ${bytes[start + 17]} info 0x${info}`);
  }
  return {
    lsn: LsnOf.format(lsn),
    type: TYPE_NAMES[type],
    length,
    will_init: endsChain(type, flags),
    layer,
    timeline,
    ...(details.length > 0 && { detail: details.join(", ") }),
  };
}
