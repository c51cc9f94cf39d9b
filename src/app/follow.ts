// Attaches to a running primary as a standby would: slot, base backup, then its WAL for ever. The
// slot comes first, so that no WAL from the backup's start on can be removed.

import { createHash } from "node:crypto";
import type { TenantHandle } from "../actors/directory.ts";
import type { TenantShared } from "../actors/tenant-timelines.ts";
import type { TenantId, TimelineId } from "../core/ids.ts";
import { REPLICATION_CONNECT_MS_MAX } from "../core/limits.ts";
import { Lsn, WAL_SEGMENT_BYTES } from "../core/lsn.ts";
import type { JobReporter } from "../http/jobs.ts";
import { type ReplicationConnection, connectReplication } from "../io/replication-client.ts";
import { parseConninfo, withPassword } from "../protocol/conninfo.ts";
import { DataDirImport } from "../protocol/import-data-dir.ts";
import { TimelineImport } from "./import.ts";

export interface FollowPlan {
  readonly id: TimelineId;
  readonly name: string;
  readonly conninfo: string;
  readonly slot: string;
  readonly maxRateBytes: number | undefined;
}

/** The server cannot be followed as it is; the message says what must change. */
export class CannotFollow extends Error {
  override readonly name = "CannotFollow";
}

/**
 * The slot of a follower that was given none. By name, not by id: whoever tries again after a crash
 * in the middle finds the slot of the first attempt and uses it.
 */
export function followSlot(tenant: TenantId, name: string): string {
  const hash = createHash("sha256").update(`${tenant}/${name}`).digest("hex");
  return `pageserver_${hash.slice(0, 16)}`;
}

/** Takes the base backup; gives the timeline's id when it is complete in the store. */
export async function takeBaseBackup(
  shared: TenantShared,
  tenant: TenantHandle,
  plan: FollowPlan,
  job: JobReporter,
  signal: AbortSignal,
): Promise<TimelineId> {
  job.step("connect");
  const link = await connect(shared, plan);
  const giveUp = (): void => link.close();
  signal.addEventListener("abort", giveUp);
  let slotIsNew = false;
  try {
    signal.throwIfAborted();
    const pgVersion = await checkServer(link);
    const { systemId } = await link.identify();
    job.step("replication slot", plan.slot);
    slotIsNew = (await link.ensureSlot(plan.slot)).created;
    job.step("base backup");
    const backup = await link.baseBackup({
      label: "pageserver",
      checkpoint: "fast",
      ...(plan.maxRateBytes !== undefined && {
        maxRateKiB: Math.ceil(plan.maxRateBytes / 1024),
      }),
    });
    const { tli, startLsn: baseLsn } = backup;
    const { id, name } = plan;
    const timeline = { id, name, pgVersion, tli, systemId, baseLsn };
    const made = new TimelineImport(shared, tenant, timeline, signal);
    return await importBackup(made, backup, plan, job);
  } catch (cause) {
    const error: unknown = signal.aborted ? signal.reason : cause;
    if (!slotIsNew) throw error;
    throw await withoutSlot(shared, plan, error);
  } finally {
    signal.removeEventListener("abort", giveUp);
    link.close();
  }
}

async function importBackup(
  made: TimelineImport,
  backup: Awaited<ReturnType<ReplicationConnection["baseBackup"]>>,
  plan: FollowPlan,
  job: JobReporter,
): Promise<TimelineId> {
  try {
    const options = {
      baseLsn: backup.startLsn,
      state: "fuzzy",
      pressure: made.pressure,
    } as const;
    const importer = new DataDirImport(made.sink, options);
    const progress = (p: { doneBytes: number; totalBytes: number }): void =>
      job.progress(p.doneBytes, p.totalBytes);
    for await (const entry of backup.files(progress)) await importer.entry(entry);
    const { endLsn } = await backup.end();
    importer.finish();
    job.step("seal", `consistent from ${Lsn.format(endLsn)} on`);
    const source = { kind: "primary", conninfo: plan.conninfo, slot: plan.slot } as const;
    return await made.finish({ readableFrom: endLsn, source });
  } catch (error) {
    made.abandon();
    throw error;
  }
}

function connect(shared: TenantShared, plan: FollowPlan): Promise<ReplicationConnection> {
  return connectReplication(withPassword(parseConninfo(plan.conninfo), shared.walToken), {
    applicationName: shared.applicationName,
    timeoutMs: REPLICATION_CONNECT_MS_MAX,
  });
}

/** Drops the slot that was made for a backup that failed; gives what to say of the failure. */
async function withoutSlot(
  shared: TenantShared,
  plan: FollowPlan,
  cause: unknown,
): Promise<unknown> {
  try {
    const link = await connect(shared, plan);
    await link.dropSlot(plan.slot).finally(() => link.close());
    return cause;
  } catch {
    const why = cause instanceof Error ? cause.message : String(cause);
    const text =
      `${why}; the slot ${plan.slot} is left on the server and keeps its WAL: follow again under the ` +
      `same name, or there: SELECT pg_drop_replication_slot('${plan.slot}')`;
    return new Error(text, { cause });
  }
}

/** Major version of a server that can be followed. Throws CannotFollow. */
async function checkServer(link: ReplicationConnection): Promise<number> {
  const version = link.serverVersion ?? (await link.show("server_version"));
  const major = Number.parseInt(version, 10);
  if (major !== 15) {
    throw new CannotFollow(`the server is PostgreSQL ${version}; only version 15 can be followed`);
  }
  const segment = await link.show("wal_segment_size");
  if (segment !== `${WAL_SEGMENT_BYTES / 1024 / 1024}MB`) {
    throw new CannotFollow(
      `the server's WAL segments have ${segment}; only PostgreSQL's default of 16MB can be followed`,
    );
  }
  return major;
}
