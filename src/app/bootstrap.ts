// A timeline from nothing: initdb in a scratch directory, import, and the WAL of its one checkpoint.

import { chmod, mkdtemp, rm } from "node:fs/promises";
import path from "node:path";
import type { TenantHandle } from "../actors/directory.ts";
import type { TenantShared } from "../actors/tenant-timelines.ts";
import type { TimelineId } from "../core/ids.ts";
import { computeRoot } from "../io/compute-dir.ts";
import { readControl, readWal, walkDataDir } from "../io/data-dir.ts";
import { type PostgresPrograms, initdb } from "../io/postgres.ts";
import { checkpointEnd } from "../protocol/backup/start-checkpoint.ts";
import { readControlFile } from "../protocol/control-file.ts";
import { DataDirImport } from "../protocol/import-data-dir.ts";
import { parsePgVersion } from "../protocol/wal/format.ts";
import { TimelineImport } from "./import.ts";

/**
 * Makes and imports a new cluster. Throws PostgresProblem, NameInUse, what the store throws, and the
 * signal's reason when it is given.
 */
export async function bootstrapTimeline(
  shared: TenantShared,
  programs: PostgresPrograms,
  tenant: TenantHandle,
  timeline: { readonly id: TimelineId; readonly name: string },
  signal: AbortSignal,
): Promise<TimelineId> {
  const root = await computeRoot(shared.dataDir, programs.account);
  const scratch = await mkdtemp(path.join(root, "initdb-"));
  const dir = path.join(scratch, "data");
  try {
    await openTo(scratch, programs);
    await initdb(programs, dir);
    signal.throwIfAborted();
    const control = readControlFile(await readControl(dir), parsePgVersion(programs.major));
    const baseLsn = control.checkPointCopy.redo;
    const { tli } = control.checkPointCopy;
    const end = checkpointEnd(baseLsn);
    const made = new TimelineImport(
      shared,
      tenant,
      {
        ...timeline,
        pgVersion: programs.major,
        tli,
        systemId: String(control.systemId),
        baseLsn,
      },
      signal,
    );
    try {
      const options = { baseLsn, state: "exact", pressure: made.pressure } as const;
      const importer = new DataDirImport(made.sink, options);
      for await (const entry of walkDataDir(dir)) await importer.entry(entry);
      importer.finish();
      await made.addWal(await readWal(dir, tli, baseLsn, end));
      return await made.finish({ readableFrom: end });
    } catch (error) {
      made.abandon();
      throw error;
    }
  } finally {
    await rm(scratch, { recursive: true, force: true });
  }
}

/** mkdtemp makes 0700 for us; whoever runs initdb must get through. */
async function openTo(dir: string, programs: PostgresPrograms): Promise<void> {
  if (programs.account.uid === undefined) return;
  await chmod(dir, 0o755);
}
