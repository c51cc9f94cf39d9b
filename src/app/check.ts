// Walks the store of a live tenant and reports every broken invariant of docs/invariants.md.

import type { TenantHandle } from "../actors/directory.ts";
import type { TenantShared } from "../actors/tenant-timelines.ts";
import type { AdminError } from "../core/admin-error.ts";
import { type Result, ok } from "../core/result.ts";
import type { CheckReport } from "../protocol/api-status.ts";
import { checkStore } from "../store/check.ts";
import { timelinePath } from "../store/data-dir.ts";

/** In turns of a few ms, so that reads and WAL go on meanwhile. */
export async function checkTenant(
  shared: TenantShared,
  tenant: TenantHandle,
): Promise<Result<CheckReport, AdminError>> {
  const startedMs = shared.clock.steadyMs();
  const { layers, versions, problems } = await checkStore({
    catalog: tenant.catalog,
    files: shared.files,
    directoryOf: ({ id }) => timelinePath(shared.dataDir, tenant.id, id),
    turn: () => new Promise((resolve) => setImmediate(resolve)),
  });
  const ms = Math.round(shared.clock.steadyMs() - startedMs);
  return ok({ layers, versions, ms, problems: [...problems] });
}
