// Walks the layers of a live tenant and reports every broken invariant of docs/invariants.md.

import type { TenantHandle } from "../actors/directory.ts";
import type { TenantShared } from "../actors/tenant.ts";
import type { AdminError } from "../core/admin-error.ts";
import { type Result, ok } from "../core/result.ts";
import type { CheckReport } from "../protocol/api-status.ts";

/** One timeline's layers at a time, with a turn of the event loop between layers. */
export async function checkTenant(
  shared: TenantShared,
  tenant: TenantHandle,
): Promise<Result<CheckReport, AdminError>> {
  const startedMs = shared.clock.steadyMs();
  const problems: string[] = [];
  let layers = 0;
  let versions = 0;
  for (const { store, entry } of tenant.timelines.values()) {
    for (const { layer, entry: file } of store?.map.layers ?? []) {
      layers++;
      versions += layer.versions;
      layer.check((invariant, where, found) =>
        problems.push(`${invariant}: ${entry.name}, ${file.file}, ${where}: ${found}`),
      );
      await new Promise((resolve) => setImmediate(resolve));
    }
  }
  return ok({ layers, versions, ms: Math.round(shared.clock.steadyMs() - startedMs), problems });
}
