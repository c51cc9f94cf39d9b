// `pageserver drill`: a restore drill of timelines' backups as a job.

import { type DrillDeps, drillAndNote, drillable, exclusively } from "../actors/driller.ts";
import { drillRecord } from "../actors/drill-records.ts";
import type { TenantHandle } from "../actors/directory.ts";
import type { AdminError } from "../core/admin-error.ts";
import { type DrillRecord, drillAlarm } from "../core/backup/drill.ts";
import type { TenantId } from "../core/ids.ts";
import { Lsn } from "../core/lsn.ts";
import { type Result, ok } from "../core/result.ts";
import { formatTime } from "../core/time-text.ts";
import type { JobReporter } from "../http/jobs.ts";
import { diskUsage } from "../io/disk-usage.ts";
import type { DrillInfo, DrilledTimeline } from "../protocol/api-backup.ts";
import type { DrillFacts } from "../protocol/api.ts";
import type { Job } from "../protocol/api-work.ts";
import type { AttachDeps } from "./attach.ts";
import { refuse } from "./finder.ts";

/** `tenant` undefined: all of this server's. `seed` repeats a drill's choices; without one it is chance. */
export async function drill(
  { shared, directory, jobs }: AttachDeps,
  tenant: TenantId | undefined,
  seed: number | undefined,
): Promise<Result<Job, AdminError>> {
  const { backup, dataDir, redo, clock, log } = shared;
  if (backup === undefined) {
    const message = "no backup is configured: start the server with --backup PLACE";
    return refuse({ kind: "precondition", message });
  }
  const tenants = [...directory.tenants.values()].filter(({ id }) => (tenant ?? id) === id);
  if (tenant !== undefined && tenants.length === 0) {
    return refuse({ kind: "not-found", what: `tenant ${tenant}` });
  }
  const { running } = backup.drills;
  if (running !== undefined) {
    const message = `a restore drill of ${running} is under way; wait for it`;
    return refuse({ kind: "conflict", message });
  }
  const deps = {
    ...{ directory, backup, dataDir, redo, clock, log },
    disk: () => diskUsage(dataDir),
  };
  const what = tenant === undefined ? "all tenants" : `tenant ${tenant}`;
  const job = jobs.start("drill", tenant ?? what);
  const chosen = seed ?? Math.floor(clock.chance() * 2 ** 32);
  exclusively(backup.drills, what, () => drillAll(deps, tenants, chosen, job)).then(
    (info) => job.done({ drill: info }),
    (error: unknown) => job.failed(error instanceof Error ? error.message : String(error)),
  );
  return ok(jobs.get(job.id)!);
}

/** One timeline after the other. One that cannot be drilled ends the job: the others would fare no better. */
async function drillAll(
  deps: DrillDeps,
  tenants: readonly TenantHandle[],
  seed: number,
  job: JobReporter,
): Promise<DrillInfo> {
  job.step("restore and compare");
  await deps.backup.options.ready();
  const timelines: DrilledTimeline[] = [];
  let bytes = 0;
  for (const tenant of tenants) {
    for (const timeline of drillable(tenant)) {
      const { id, name } = timeline.entry;
      job.detail(`timeline ${name}`);
      const onBytes = (restored: number): void => job.progress(bytes + restored, undefined);
      const outcome = await drillAndNote(deps, tenant, timeline, {
        seed,
        signal: job.signal,
        onBytes,
      });
      bytes += outcome.bytes;
      const { pages, skipped, layers, problems } = outcome;
      const { verified } = drillRecord(tenant, id) ?? {};
      timelines.push({
        ...{ tenant_id: tenant.id, timeline_id: id, name, pages, skipped, layers },
        ...{ bytes: outcome.bytes, problems: [...problems] },
        ...(verified !== undefined && { verified_lsn: Lsn.format(verified.lsn) }),
      });
    }
  }
  const problems = timelines.reduce((sum, one) => sum + one.problems.length, 0);
  return { place: deps.backup.options.storage.place, seed, bytes, problems, timelines };
}

/** A timeline's drills as they are shown. */
export function drillFacts(record: DrillRecord, nowMs: number): DrillFacts {
  const { verified, endedAtMs, pages, skipped, layers, bytes, problems, failure } = record;
  return {
    ...(verified !== undefined && {
      verified_lsn: Lsn.format(verified.lsn),
      verified_at: formatTime(verified.atMs * 1000),
      age_seconds: Math.max(0, nowMs - verified.atMs) / 1000,
    }),
    ...{ ended_at: formatTime(endedAtMs * 1000), pages, skipped, layers, bytes },
    problems: [...problems],
    ...(failure !== undefined && { failure }),
  };
}

/** Undefined: the last drill found nothing wrong, or there was none. */
export const drillAlarmOf = (
  tenant: TenantHandle,
  timeline: Parameters<typeof drillRecord>[1],
): string | undefined => drillAlarm(drillRecord(tenant, timeline), tenant.id);
