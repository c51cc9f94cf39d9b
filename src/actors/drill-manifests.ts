// What a restore drill goes by: the tenant's list and the manifests of a timeline and its ancestors, as object
// storage has them now. Whoever attaches the tenant has nothing else.

import type { DrillProblem } from "../core/backup/drill.ts";
import { manifestName, tenantName } from "../core/backup/names.ts";
import type { TenantId, TimelineId } from "../core/ids.ts";
import { LSN_MAX, type Lsn } from "../core/lsn.ts";
import { type ObjectStorage, isObjectError } from "../core/object-storage.ts";
import { type Result, err, ok } from "../core/result.ts";
import { ManifestUnusable, decodeTenant } from "../store/manifest.ts";
import { readManifest } from "./backup-turn.ts";
import { type DrillHop, problemKind } from "./drill-layers.ts";

const missing = (name: string, detail: string): Result<never, DrillProblem> =>
  err({ kind: "missing", name, detail });

/** The timeline first, then its ancestors from the nearest on. Rejects with ObjectError when storage is away. */
export async function manifestsOf(
  storage: ObjectStorage,
  tenant: TenantId,
  timeline: TimelineId,
): Promise<Result<readonly DrillHop[], DrillProblem>> {
  let name = tenantName(tenant);
  try {
    const list = decodeTenant((await storage.get(name)).bytes, name);
    const hops: DrillHop[] = [];
    const seen = new Set<TimelineId>();
    let next: { readonly id: TimelineId; readonly lsn: Lsn } | undefined;
    for (next = { id: timeline, lsn: LSN_MAX }; next !== undefined;) {
      const { id, lsn: upTo }: { id: TimelineId; lsn: Lsn } = next;
      if (!list.timelines.includes(id)) {
        return missing(
          tenantName(tenant),
          `the list of timelines has no ${id}: no attach restores it`,
        );
      }
      name = manifestName(tenant, id);
      const { manifest } = await readManifest(storage, tenant, id);
      if (manifest === undefined) return missing(name, "the tenant's list has the timeline");
      if (manifest.timeline.id !== id || manifest.tenant !== tenant || seen.has(id)) {
        const detail = `it is of timeline ${manifest.timeline.id} of tenant ${manifest.tenant}`;
        return err({ kind: "wrong", name, detail });
      }
      seen.add(id);
      hops.push({ manifest, upTo });
      next = manifest.timeline.ancestor;
    }
    return ok(hops);
  } catch (error) {
    if (isObjectError(error, "not-found")) return missing(name, "no attach works without it");
    if (error instanceof ManifestUnusable)
      return err({ kind: "corrupt", name, detail: error.message });
    const kind = problemKind(error);
    if (kind === undefined || !(error instanceof Error)) throw error;
    return err({ kind, name, detail: error.message });
  }
}
