// What a scrub may take from this server, and ask of it: files of a tenant that it has, and the
// deletion of objects by the timelines that could still name them.

import path from "node:path";
import { BackupFenced } from "../core/backup/fence.ts";
import type { TenantId } from "../core/ids.ts";
import { COMPACT_MS_MAX } from "../core/limits.ts";
import { ObjectError } from "../core/object-storage.ts";
import type { Result } from "../core/result.ts";
import { segmentFileName } from "../protocol/wal/segment.ts";
import { layersPath, timelinePath, walPath } from "../store/data-dir.ts";
import { ManifestUnusable } from "../store/manifest.ts";
import { copyWal } from "../store/wal-copy.ts";
import type { Backup } from "./backup.ts";
import type { Directory } from "./directory.ts";
import { ask } from "./runtime.ts";
import type { LocalTenant } from "./scrub-object.ts";
import type { TimelineMsg } from "./timeline-messages.ts";

/** Undefined: the tenant is not here, or its backup is another server's. */
export async function localTenant(
  of: { readonly directory: Directory; readonly backup: Backup; readonly dataDir: string },
  id: TenantId,
): Promise<LocalTenant | undefined> {
  const tenant = of.directory.tenants.get(id);
  if (tenant === undefined) return undefined;
  try {
    await of.backup.tenant(id, tenant.catalog).generation();
  } catch (error) {
    if (error instanceof BackupFenced || error instanceof ManifestUnusable) return undefined;
    throw error;
  }
  const directoryOf = (timeline: Parameters<LocalTenant["hasTimeline"]>[0]): string =>
    timelinePath(of.dataDir, id, timeline);
  return {
    hasTimeline: (timeline) => tenant.catalog.timeline(timeline) !== undefined,
    layerFile: (timeline, { file }) => path.join(layersPath(directoryOf(timeline)), file),
    wal: (timeline, tli, from, to) => {
      const folder = walPath(directoryOf(timeline));
      return copyWal((segment) => path.join(folder, segmentFileName(tli, segment)), from, to);
    },
    purge: async (timeline, names) => {
      const handle = tenant.timelines.get(timeline);
      if (handle === undefined) return new Set();
      const answer = await ask<TimelineMsg, Result<ReadonlySet<string>, string>>(
        handle.ref,
        (reply) => ({ kind: "purge-objects", names, reply }),
        COMPACT_MS_MAX,
      );
      if (answer === "timed-out") throw new ObjectError("unavailable", "the backup takes too long");
      if (!answer.ok) throw new ObjectError("failed", `nothing was deleted: ${answer.error}`);
      return answer.value;
    },
  };
}
