// Walks the store of a live tenant and reports every broken invariant of docs/invariants.md.

import type { TenantHandle } from "../actors/directory.ts";
import type { TenantShared } from "../actors/tenant-timelines.ts";
import type { AdminError } from "../core/admin-error.ts";
import { type Result, ok } from "../core/result.ts";
import type { Management } from "../http/management.ts";
import type { CheckReport } from "../protocol/api-status.ts";
import { checkStore } from "../store/check.ts";
import { timelinePath } from "../store/data-dir.ts";
import type { JobBook, JobReporter } from "../http/jobs.ts";
import type { Finder } from "./finder.ts";
import { asJob, unlessCancelled } from "./long-work.ts";

/** In turns of a few ms, so that reads and WAL go on meanwhile. */
export async function checkTenant(
  shared: TenantShared,
  tenant: TenantHandle,
  remote: "fetch" | "count" = "count",
  job?: JobReporter,
): Promise<Result<CheckReport, AdminError>> {
  const startedMs = shared.clock.steadyMs();
  job?.step("layers");
  const fetcher = remote === "fetch" ? shared.backup?.fetcher : undefined;
  const found = await checkStore({
    catalog: tenant.catalog,
    files: shared.files,
    directoryOf: ({ id }) => timelinePath(shared.dataDir, tenant.id, id),
    turn: async () => {
      await new Promise((resolve) => setImmediate(resolve));
      if (job !== undefined) unlessCancelled(job);
    },
    onProgress: (bytes, all) => job?.progress(bytes, all),
    fetchLayer:
      fetcher && ((entry, path) => fetcher.fetch({ tenant: tenant.id, path, entry }, "background")),
  });
  const ms = Math.round(shared.clock.steadyMs() - startedMs);
  const { layers, versions, remote: remote_layers, problems } = found;
  return ok({ layers, versions, remote_layers, ms, problems: [...problems] });
}

export const checkManagement = (
  shared: TenantShared,
  jobs: JobBook,
  finder: Finder,
): Pick<Management, "check"> => ({
  check: (ref, remote) =>
    finder.withTenant(ref, (tenant) =>
      asJob(
        jobs,
        "check",
        tenant.id,
        (job) => checkTenant(shared, tenant, remote, job),
        (report) => ({ check: report }),
      ),
    ),
});
