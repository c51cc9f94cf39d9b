// Takes a tenant over from object storage: a machine that has nothing becomes its server. The next
// generation is taken first, then each manifest is rewritten with it: from that moment on whoever had
// the tenant before is refused. The catalog and WAL files are made in a directory beside the tenants and
// get their place by one rename; layers stay where they are and come when they are read.

import path from "node:path";
import type { TenantManifest } from "../core/backup/manifest.ts";
import { uploadedLsn } from "../core/backup/manifest.ts";
import { manifestName, tenantName, timelinePrefix } from "../core/backup/names.ts";
import type { TenantId, TimelineId } from "../core/ids.ts";
import { ATTACH_AT_ONCE, TAKE_OVER_TRIES_MAX } from "../core/limits.ts";
import { ObjectError, type ObjectStorage, isObjectError } from "../core/object-storage.ts";
import { crc32c } from "../protocol/crc32c.ts";
import { Catalog } from "../store/catalog.ts";
import {
  catalogPath,
  layersPath,
  makeDirectory,
  publishTenant,
  removeTimelineFiles,
  tenantPath,
  timelinePath,
  walPath,
} from "../store/data-dir.ts";
import { DurableFloor } from "../store/durable-floor.ts";
import {
  type TimelineManifest,
  decodeTenant,
  encodeManifest,
  encodeTenant,
} from "../store/manifest.ts";
import { WalRestore } from "../store/wal-restore.ts";
import type { Backup } from "./backup.ts";
import { readManifest } from "./backup-turn.ts";
import { putAttachment } from "./backup-tenant.ts";
import { noteWarmUp } from "./warm-up.ts";

export interface AttachParts {
  readonly backup: Backup;
  readonly dataDir: string;
  readonly tenant: TenantId;
  /** Of hot layers that are fetched before anybody asks, bytes. */
  readonly warmUpBytes: number;
  /** Timelines that are taken over, of how many. */
  readonly onProgress: (done: number, of: number) => void;
}

/**
 * Makes the tenant's directory. Rejects with ObjectError ("not-found": there is no such backup),
 * ManifestUnusable, StoreFull, StoreFailed; then nothing of it is left here, and the backup is whole.
 */
export async function attachTenant(parts: AttachParts): Promise<void> {
  const { backup, dataDir, tenant } = parts;
  await backup.options.ready();
  await readable(backup, tenant);
  const taken = await takeTenant(backup, tenant);
  const { timelines } = taken;
  let done = 0;
  const manifests = await inParallel(timelines, async (id) => {
    const manifest = await takeTimeline(backup, taken, id);
    parts.onProgress(++done, timelines.length);
    return manifest;
  });
  checkAncestors(manifests);
  const scratch = path.join(dataDir, `attaching-${tenant}`);
  removeTimelineFiles(scratch);
  try {
    await makeTenant(scratch, taken, manifests, parts.warmUpBytes);
    const storage = backup.options.urgent;
    await inParallel(manifests, (manifest) => fetchWal(storage, scratch, manifest));
    publishTenant(scratch, dataDir, tenant);
  } finally {
    removeTimelineFiles(scratch);
  }
  backup.forget(tenant);
}

/** Before anything is taken: a tenant that cannot be read here stays with the server that has it. */
async function readable({ options }: Backup, tenant: TenantId): Promise<void> {
  const { timelines } = (await readTenant(options.storage, tenant)).found;
  await inParallel(timelines, (id) => readManifest(options.storage, tenant, id));
}

async function readTenant(storage: ObjectStorage, tenant: TenantId) {
  const name = tenantName(tenant);
  const { bytes, version } = await storage.get(name).catch((error: unknown) => {
    if (!isObjectError(error, "not-found")) throw error;
    const message = `${storage.place} holds no backup of tenant ${tenant}`;
    throw new ObjectError("not-found", message, error);
  });
  return { found: decodeTenant(bytes, `${storage.place}/${name}`), version };
}

/** Takes the next generation. */
async function takeTenant(backup: Backup, tenant: TenantId): Promise<TenantManifest> {
  const { storage, nowMs, randomWord } = backup.options;
  const name = tenantName(tenant);
  for (let tries = 1; ; tries++) {
    const { found, version } = await readTenant(storage, tenant);
    const taken: TenantManifest = {
      ...found,
      generation: found.generation + 1,
      claim: randomWord(),
      attachedAtMs: nowMs(),
    };
    try {
      await storage.compareAndSwap(name, encodeTenant(taken), version);
      return taken;
    } catch (error) {
      if (!isObjectError(error, "changed") || tries >= TAKE_OVER_TRIES_MAX) throw error;
    }
  }
}

/** Rewrites a manifest with our generation: what its former writer writes from now on is refused. */
async function takeTimeline(
  backup: Backup,
  { tenant, generation }: TenantManifest,
  timeline: TimelineId,
): Promise<TimelineManifest> {
  const { storage, nowMs } = backup.options;
  const name = manifestName(tenant, timeline);
  for (let tries = 1; ; tries++) {
    const { manifest, version } = await readManifest(storage, tenant, timeline);
    if (manifest === undefined || version === undefined) {
      const message = `${storage.place}/${name} is missing, though the tenant's list has it`;
      throw new ObjectError("failed", `${message}; restore it from an older version of the bucket`);
    }
    const sequence = manifest.sequence + 1;
    const taken = {
      ...manifest,
      generation,
      writer: backup.writer,
      sequence,
      writtenAtMs: nowMs(),
    };
    try {
      await storage.compareAndSwap(name, encodeManifest(taken), version);
      return taken;
    } catch (error) {
      if (!isObjectError(error, "changed") || tries >= TAKE_OVER_TRIES_MAX) throw error;
    }
  }
}

function checkAncestors(manifests: readonly TimelineManifest[]): void {
  const uploaded = new Map(manifests.map((one) => [one.timeline.id, uploadedLsn(one)]));
  for (const { timeline } of manifests) {
    const { ancestor } = timeline;
    if (ancestor === undefined || (uploaded.get(ancestor.id) ?? -1) >= ancestor.lsn) continue;
    const message = `the backup of "${timeline.name}" needs more of its ancestor ${ancestor.id} than there is`;
    throw new ObjectError("failed", `${message}; restore an older version of the bucket`);
  }
}

async function makeTenant(
  scratch: string,
  taken: TenantManifest,
  manifests: readonly TimelineManifest[],
  warmUpBytes: number,
): Promise<void> {
  const { tenant, generation, claim, createdAtMs, settings } = taken;
  makeDirectory(tenantPath(scratch, tenant));
  const catalog = new Catalog(catalogPath(scratch, tenant));
  try {
    const made = catalog.change((change) => {
      change.putTenant({ id: tenant, createdAtMs });
      for (const [name, value] of Object.entries(settings)) {
        change.putSetting(name, value as Parameters<typeof change.putSetting>[1]);
      }
      for (const { timeline, layers, snapshots } of manifests) {
        change.putTimeline({ ...timeline, state: "active" });
        for (const layer of layers) change.putLayer(layer);
        for (const snapshot of snapshots) change.putSnapshot(snapshot);
      }
      noteWarmUp(change, manifests, warmUpBytes);
    });
    if (!made.ok) throw new ObjectError("failed", "two timelines of the backup have one name");
    putAttachment(catalog, { generation, claim });
  } finally {
    await catalog.close();
  }
}

/** Puts the timeline's WAL into segment files, from where its layers end to what was uploaded. */
async function fetchWal(
  storage: ObjectStorage,
  scratch: string,
  manifest: TimelineManifest,
): Promise<void> {
  const { tenant, timeline, wal } = manifest;
  const directory = timelinePath(scratch, tenant, timeline.id);
  makeDirectory(layersPath(directory));
  makeDirectory(walPath(directory));
  const files = new WalRestore(walPath(directory));
  for (const one of wal) {
    const name = timelinePrefix(tenant, timeline.id) + one.name;
    const { bytes } = await storage.get(name);
    if (crc32c(bytes) !== one.crc) {
      const what = `${name} in ${storage.place} is corrupt: its checksum is wrong`;
      throw new ObjectError("corrupt", `${what}; restore it from an older version of it`);
    }
    files.put(one, bytes);
  }
  files.end();
  const floor = new DurableFloor(walPath(directory));
  floor.raise(uploadedLsn(manifest));
  floor.close();
}

async function inParallel<T, R>(
  items: readonly T[],
  action: (item: T) => Promise<R>,
): Promise<R[]> {
  const results: R[] = [];
  let next = 0;
  const worker = async (): Promise<void> => {
    while (next < items.length) {
      const i = next++;
      results[i] = await action(items[i]!);
    }
  };
  await Promise.all(Array.from({ length: ATTACH_AT_ONCE }, worker));
  return results;
}
