// `pageserver fullbackup`: a timeline at an LSN as a whole data directory of stock PostgreSQL, as a tar. Made
// to start right there, or for recovery: to replay WAL from the archive, to any later point.

import { Readable } from "node:stream";
import { findCheckpoint } from "../actors/archived-wal.ts";
import type { TenantHandle, TimelineHandle } from "../actors/directory.ts";
import type { TenantShared } from "../actors/tenant-timelines.ts";
import { Lsn } from "../core/lsn.ts";
import { ok } from "../core/result.ts";
import { systemClock } from "../io/clock.ts";
import { type RecoveryStart, fullBackupTar } from "../protocol/base-backup.ts";
import { readCheckPoint } from "../protocol/control-file.ts";
import { parsePgVersion } from "../protocol/wal/format.ts";
import { backupSourceOf } from "./compute-asks.ts";
import { type Answer, refuse } from "./finder.ts";

/** What the backup is for. */
export type FullBackupUse = "start" | "recovery";

/** `at` undefined: the last record. */
export async function fullBackup(
  shared: TenantShared,
  tenant: TenantHandle,
  timeline: TimelineHandle,
  at: Lsn | undefined,
  use: FullBackupUse,
): Answer<NodeJS.ReadableStream> {
  try {
    const source = await backupSourceOf(timeline, at);
    const options = { timeS: Math.floor(systemClock.nowMs() / 1000) };
    let recoverFrom: RecoveryStart | undefined;
    if (use === "recovery") {
      const { lsn, tli, pgVersion } = source;
      const version = parsePgVersion(pgVersion);
      const { redo } = readCheckPoint(await source.checkpoint(), version);
      const storage = shared.backup?.options.urgent;
      const of = { tenant: tenant.id, id: timeline.entry.id, tli };
      recoverFrom = storage && (await findCheckpoint(storage, of, version, redo, lsn));
      if (recoverFrom === undefined) {
        const message =
          `the archive has no checkpoint of "${timeline.entry.name}" that recovery to ` +
          `${Lsn.format(lsn)} could begin with (redo ${Lsn.format(redo)}): a backup must be configured; ` +
          `run CHECKPOINT and SELECT pg_switch_wal() on its primary, wait until that is uploaded, try again`;
        return refuse({ kind: "precondition", message });
      }
    }
    return ok(Readable.from(fullBackupTar(source, { ...options, recoverFrom })));
  } catch (error) {
    const message = error instanceof Error ? error.message : String(error);
    return refuse({ kind: "unavailable", message });
  }
}
