// Walks the objects of tenants in object storage: what manifests name must be there and be what was
// written; what none names is told apart by its generation and its age. Repairs from what this server
// has; deletes only what it was asked to, and only by way of the timeline's next manifest.
//
// A list may be late, and a server may be writing: whatever looks wrong is looked at again with the
// manifest of that later moment before it is called so. One timeline is held in memory at a time.

import type { ScrubProblem } from "../core/backup/scrub.ts";
import type { TenantManifest } from "../core/backup/manifest.ts";
import { tenantName, tenantPrefix } from "../core/backup/names.ts";
import { parseObjectName } from "../core/backup/object-names.ts";
import type { TenantId, TimelineId } from "../core/ids.ts";
import { isObjectError, listAll } from "../core/object-storage.ts";
import { ManifestUnusable, decodeTenant } from "../store/manifest.ts";
import type { LocalTenant } from "./scrub-object.ts";
import { type ScrubParts, type TenantWalkFacts, TimelineWalk } from "./scrub-timeline.ts";

/** All that is in the place. Rejects with ObjectError, and with the signal's reason. */
export async function scrubAll(parts: ScrubParts): Promise<void> {
  const { storage, report } = parts;
  let after: string | undefined;
  for (;;) {
    const { objects } = await storage.list("", after);
    const next = objects.find(({ name }) => {
      const kind = parseObjectName(name)?.kind;
      return kind !== "mark" && kind !== "probe";
    });
    if (next === undefined) {
      if (objects.length === 0) return;
      after = objects.at(-1)!.name;
      continue;
    }
    const found = parseObjectName(next.name);
    if (found === undefined || !("tenant" in found)) {
      report.objects++;
      report.add(foreign(next.name));
      after = next.name;
      continue;
    }
    await scrubTenant(parts, found.tenant);
    after = `${tenantPrefix(found.tenant)}~`; // behind all of its names
  }
}

const foreign = (name: string): ScrubProblem => ({
  ...{ kind: "foreign", name, outcome: "remains" },
  detail:
    "nothing of ours has such a name: another system writes here; give the backup a place of its own",
});

/** One tenant. Rejects as scrubAll does. */
export async function scrubTenant(parts: ScrubParts, tenant: TenantId): Promise<void> {
  const { storage, report, signal } = parts;
  report.tenants++;
  parts.onProgress(tenant, undefined);
  const walk = new TenantWalk(
    parts,
    tenant,
    await readTenant(parts, tenant),
    await parts.local(tenant),
  );
  let timeline: TimelineWalk | undefined;
  for await (const listed of listAll(storage, tenantPrefix(tenant))) {
    signal.throwIfAborted();
    report.objects++;
    const found = parseObjectName(listed.name);
    if (found === undefined) {
      report.add(foreign(listed.name));
    } else if ("timeline" in found) {
      if (timeline?.id !== found.timeline) {
        await timeline?.finish();
        timeline = await walk.timeline(found.timeline);
      }
      timeline.listed(found, listed);
    }
  }
  await timeline?.finish();
  await walk.finish();
}

async function readTenant(
  parts: ScrubParts,
  tenant: TenantId,
): Promise<TenantManifest | undefined> {
  const { storage, report } = parts;
  const name = tenantName(tenant);
  const remedy = "restore it from an older version of it";
  try {
    return decodeTenant((await storage.get(name)).bytes, name);
  } catch (error) {
    const missing = isObjectError(error, "not-found");
    if (!missing && !(error instanceof ManifestUnusable)) throw error;
    const detail = missing ? `the tenant's list of timelines is missing: ${remedy}` : error.message;
    report.add({ kind: missing ? "missing" : "corrupt", name, detail, outcome: "remains" });
    return undefined;
  }
}

class TenantWalk implements TenantWalkFacts {
  readonly parts: ScrubParts;
  readonly tenant: TenantId;
  readonly list: TenantManifest | undefined;
  readonly local: LocalTenant | undefined;
  private readonly seen = new Set<TimelineId>();

  constructor(
    parts: ScrubParts,
    tenant: TenantId,
    list: TenantManifest | undefined,
    local: LocalTenant | undefined,
  ) {
    this.parts = parts;
    this.tenant = tenant;
    this.list = list;
    this.local = local;
  }

  async timeline(id: TimelineId): Promise<TimelineWalk> {
    this.seen.add(id);
    this.parts.report.timelines++;
    this.parts.onProgress(this.tenant, id);
    const walk = new TimelineWalk(this, id);
    await walk.open();
    return walk;
  }

  /** Timelines of the list that have no object at all. */
  async finish(): Promise<void> {
    for (const id of this.list?.timelines ?? []) {
      if (!this.seen.has(id)) await (await this.timeline(id)).finish();
    }
  }
}
