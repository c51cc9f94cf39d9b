// A timeline or tenant that is deleted goes from object storage, too. First from the tenant's list, by a
// conditional write that only its present owner can make: from then on nobody who attaches the tenant
// looks for it. Then object after object. A crash in between leaves what no list names, which a scrub
// finds, and it goes on at the next start.
//
// Whoever has taken the tenant over is left alone: who owns it is looked at again before each page of
// names is deleted, and objects of a later generation stay.

import { type Attachment, BackupFenced, checkTenantClaim } from "../core/backup/fence.ts";
import { tenantName, tenantPrefix, timelinePrefix } from "../core/backup/names.ts";
import { parseObjectName } from "../core/backup/object-names.ts";
import type { TenantId, TimelineId } from "../core/ids.ts";
import { type ObjectStorage, isObjectError } from "../core/object-storage.ts";
import { decodeTenant, encodeTenant } from "../store/manifest.ts";

/** Who may remove. Both reject with BackupFenced once it is somebody else. */
export interface Owner {
  readonly generation: number;
  /** Takes timelines out of the tenant's list. */
  unlist(isGone: (id: TimelineId) => boolean): Promise<void>;
  /** Looks again who owns the tenant. */
  verify(): Promise<void>;
}

interface RemoveFrom {
  readonly storage: ObjectStorage;
  readonly tenant: TenantId;
  readonly owner: Owner;
}

/** Rejects with BackupFenced, ObjectError, ManifestUnusable; then it may be called again. */
export async function removeTimelineObjects(
  from: RemoveFrom,
  timelines: readonly TimelineId[],
): Promise<void> {
  const gone = new Set(timelines);
  await from.owner.unlist((id) => gone.has(id));
  for (const timeline of timelines) await removeBelow(from, timelinePrefix(from.tenant, timeline));
}

/** The tenant's own objects go last. Rejects as above. */
export async function removeTenantObjects(from: RemoveFrom): Promise<void> {
  const { storage, tenant, owner } = from;
  await owner.unlist(() => true);
  await removeBelow(from, `${tenantPrefix(tenant)}timelines/`);
  const { objects } = await storage.list(tenantPrefix(tenant));
  const names = objects.map(({ name }) => name);
  await owner.verify();
  await storage.deleteMany(names.filter((name) => parseObjectName(name)?.kind === "key"));
  await storage.deleteMany([tenantName(tenant)]);
}

async function removeBelow({ storage, owner }: RemoveFrom, prefix: string): Promise<void> {
  let after: string | undefined;
  do {
    const page = await storage.list(prefix, after);
    await owner.verify();
    const names = page.objects.map(({ name }) => name);
    await storage.deleteMany(names.filter((name) => isOurs(name, owner.generation)));
    ({ after } = page);
  } while (after !== undefined);
}

/** What else lies there, or was written after us, is not touched. */
function isOurs(name: string, generation: number): boolean {
  const object = parseObjectName(name);
  if (object === undefined) return false;
  return !("generation" in object) || object.generation <= generation;
}

/** The owner of a tenant that is no more on this server: it knows nothing but its attachment. */
export function formerOwner(storage: ObjectStorage, tenant: TenantId, mine: Attachment): Owner {
  const name = tenantName(tenant);
  const find = async () => {
    try {
      const { bytes, version } = await storage.get(name);
      const manifest = decodeTenant(bytes, `${storage.place}/${name}`);
      checkTenantClaim(manifest, mine, tenant, storage.place);
      return { manifest, version };
    } catch (error) {
      if (isObjectError(error, "not-found")) return undefined; // as far as it came before
      throw error;
    }
  };
  return {
    generation: mine.generation,
    verify: async () => void (await find()),
    unlist: async (isGone) => {
      const found = await find();
      if (found === undefined) return;
      const timelines = found.manifest.timelines.filter((id) => !isGone(id));
      if (timelines.length === found.manifest.timelines.length) return;
      const bytes = encodeTenant({ ...found.manifest, timelines });
      await storage.compareAndSwap(name, bytes, found.version);
    },
  };
}

/** True when it is of no use to try again. */
export const isOver = (error: unknown): boolean => error instanceof BackupFenced;
