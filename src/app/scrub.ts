// `pageserver scrub`: the walk over object storage as a job.

import { localTenant } from "../actors/scrub-local.ts";
import type { ScrubParts } from "../actors/scrub-timeline.ts";
import { scrubAll, scrubTenant } from "../actors/scrub.ts";
import type { AdminError } from "../core/admin-error.ts";
import { tenantPrefix } from "../core/backup/names.ts";
import { storageNowMs } from "../core/backup/probe.ts";
import { ScrubReport } from "../core/backup/scrub.ts";
import type { TenantId } from "../core/ids.ts";
import { type Result, ok } from "../core/result.ts";
import type { JobReporter } from "../http/jobs.ts";
import type { ScrubInfo } from "../protocol/api-backup.ts";
import type { Job } from "../protocol/api-work.ts";
import type { AttachDeps } from "./attach.ts";
import { refuse } from "./finder.ts";

const ALL = "all tenants";

export async function scrub(
  deps: AttachDeps,
  tenant: TenantId | undefined,
  unnamed: ScrubParts["purge"],
): Promise<Result<Job, AdminError>> {
  const { jobs, shared } = deps;
  if (shared.backup === undefined) {
    const message = "no backup is configured: start the server with --backup PLACE";
    return refuse({ kind: "precondition", message });
  }
  const busy = jobs.list().find(({ kind, state }) => kind === "scrub" && state === "running");
  if (busy !== undefined) {
    return refuse({ kind: "conflict", message: `job ${busy.id} scrubs ${busy.target} already` });
  }
  const job = jobs.start("scrub", tenant ?? ALL);
  work(deps, tenant, unnamed, job).then(
    (info) => job.done({ scrub: info }),
    (error: unknown) => job.failed(error instanceof Error ? error.message : String(error)),
  );
  return ok(jobs.get(job.id)!);
}

async function work(
  { shared, directory }: AttachDeps,
  tenant: TenantId | undefined,
  unnamed: ScrubParts["purge"],
  job: JobReporter,
): Promise<ScrubInfo> {
  const backup = shared.backup!;
  const { storage, ready, purgeAgeMs, randomWord } = backup.options;
  job.step("walk");
  await ready();
  const report = new ScrubReport();
  const parts: ScrubParts = {
    ...{ storage, report, safeMs: purgeAgeMs, purge: unnamed, signal: job.signal },
    nowMs: await storageNowMs(storage, randomWord()),
    local: (id) => localTenant({ directory, backup, dataDir: shared.dataDir }, id),
    onProgress: (id, timeline) => {
      const where = timeline === undefined ? `tenant ${id}` : `timeline ${timeline}`;
      job.progress(report.bytes, undefined);
      job.detail(`${report.objects} objects, ${where}`);
    },
  };
  if (tenant === undefined) await scrubAll(parts);
  else if ((await storage.list(tenantPrefix(tenant))).objects.length > 0) {
    await scrubTenant(parts, tenant);
  } else throw new Error(`there is no backup of tenant ${tenant} in ${storage.place}`);
  job.progress(report.bytes, undefined);
  job.detail(`${report.objects} objects`);
  const { tenants, timelines, objects, bytes, problems, outcomes } = report;
  return {
    ...{ place: storage.place, tenants, timelines, objects, bytes },
    ...{ repaired: outcomes.repaired, deleted: outcomes.deleted },
    ...{ too_young: outcomes["too-young"], remaining: outcomes.remains, problems },
  };
}
