// Where everything lies below the data directory, and its format version.
//
//   FORMAT                                        "pageserver data 1"
//   cache/                                        what can be made again, and the scratch folder of restore drills
//   tenants/<tenant>/catalog                      LMDB: catalog.ts (and LMDB's catalog-lock)
//   tenants/<tenant>/timelines/<timeline>/layers/ sealed layers: <sequence>-<first>-<last>.layer
//   tenants/<tenant>/timelines/<timeline>/wal/    WAL segment files: wal-files.ts
//   tenants/<tenant>.deleted-<n>/                 a tenant that is deleted, while its files go
//   tenants/<tenant>.removing                     whose objects go, too: {"generation":…,"claim":…}

import fs from "node:fs";
import path from "node:path";
import { MalformedInput } from "../core/assert.ts";
import { type TenantId, type TimelineId, parseTenantId } from "../core/ids.ts";
import type { Catalog } from "./catalog.ts";
import { StoreFormat, isMissing, writeError } from "./store-errors.ts";

const FORMAT = "pageserver data 1\n";

export const tenantsPath = (root: string): string => path.join(root, "tenants");
export const tenantPath = (root: string, tenant: TenantId): string =>
  path.join(tenantsPath(root), tenant);
export const catalogPath = (root: string, tenant: TenantId): string =>
  path.join(tenantPath(root, tenant), "catalog");
const timelinesPath = (root: string, tenant: TenantId): string =>
  path.join(tenantPath(root, tenant), "timelines");
export const timelinePath = (root: string, tenant: TenantId, timeline: TimelineId): string =>
  path.join(timelinesPath(root, tenant), timeline);
export const layersPath = (timelineDirectory: string): string =>
  path.join(timelineDirectory, "layers");
/** Where restore drills put layers; what is there is of no use to anybody else. */
export const drillPath = (root: string): string => path.join(root, "cache", "drill");
export const walPath = (timelineDirectory: string): string => path.join(timelineDirectory, "wal");

/**
 * Makes the data directory if it is missing or empty, and checks its format. The caller holds the
 * lock that keeps a second process out. Throws StoreFormat, StoreFull, StoreFailed.
 */
export function openDataDirectory(root: string): void {
  makeDirectory(root);
  const file = path.join(root, "FORMAT");
  let format: string | undefined;
  try {
    format = fs.readFileSync(file, "utf8");
  } catch (cause) {
    if (!isMissing(cause)) throw writeError(file, "reading", cause);
  }
  if (format === FORMAT) return;
  if (format !== undefined) {
    throw new StoreFormat(
      `${root} holds "${format.trim()}", this program reads "${FORMAT.trim()}"; use the version of ` +
        `pageserver that wrote it`,
    );
  }
  if (fs.existsSync(tenantsPath(root))) {
    throw new StoreFormat(`${root} has tenants but no FORMAT file; restore it from backup`);
  }
  try {
    const handle = fs.openSync(`${file}.tmp`, "w", 0o600);
    fs.writeSync(handle, FORMAT);
    fs.fsyncSync(handle);
    fs.closeSync(handle);
    fs.renameSync(`${file}.tmp`, file);
  } catch (cause) {
    throw writeError(file, "writing", cause);
  }
  makeDirectory(tenantsPath(root));
}

/** Gives a tenant that was made below `scratch` its place, by one rename. Throws StoreFull, StoreFailed. */
export function publishTenant(scratch: string, root: string, tenant: TenantId): void {
  const to = tenantPath(root, tenant);
  try {
    fs.renameSync(tenantPath(scratch, tenant), to);
  } catch (cause) {
    throw writeError(to, "renaming", cause);
  }
  syncEntries(tenantsPath(root));
}

export const fileExists = (path: string): boolean => fs.existsSync(path);

/** Tenants that have a directory; what is not named like one is ignored. */
export function listTenants(root: string): readonly TenantId[] {
  if (!fs.existsSync(tenantsPath(root))) return [];
  const tenants: TenantId[] = [];
  for (const name of fs.readdirSync(tenantsPath(root))) {
    try {
      tenants.push(parseTenantId(name));
    } catch (cause) {
      if (!(cause instanceof MalformedInput)) throw cause;
    }
  }
  return tenants.sort();
}

const DELETED = /^[0-9a-f]{32}\.deleted-\d+$/;

/**
 * Deletes a tenant, durably: from now on there is none, whatever crashes. Gives the path under which its
 * files still are, for removeDirectoryLater. Throws StoreFull, StoreFailed.
 */
export function deleteTenantDirectory(root: string, tenant: TenantId): string | undefined {
  const directory = tenantPath(root, tenant);
  if (!fs.existsSync(directory)) return undefined;
  // Another of this id may have been deleted before, and not be gone yet.
  for (let n = 1; ; n++) {
    const gone = `${directory}.deleted-${n}`;
    if (fs.existsSync(gone)) continue;
    try {
      fs.renameSync(directory, gone);
    } catch (cause) {
      throw writeError(directory, "renaming", cause);
    }
    syncEntries(tenantsPath(root));
    return gone;
  }
}

const REMOVAL = /^([0-9a-f]{32})\.removing$/;
const removalPath = (root: string, tenant: TenantId): string =>
  path.join(tenantsPath(root), `${tenant}.removing`);

/** Remembers, durably, that a tenant's objects are to be removed once it is deleted. Throws StoreFull, StoreFailed. */
export function noteTenantRemoval(root: string, tenant: TenantId, text: string): void {
  const file = removalPath(root, tenant);
  try {
    const handle = fs.openSync(`${file}.tmp`, "w", 0o600);
    fs.writeSync(handle, text);
    fs.fsyncSync(handle);
    fs.closeSync(handle);
    fs.renameSync(`${file}.tmp`, file);
  } catch (cause) {
    throw writeError(file, "writing", cause);
  }
  syncEntries(tenantsPath(root));
}

export function forgetTenantRemoval(root: string, tenant: TenantId): void {
  fs.rmSync(removalPath(root, tenant), { force: true });
}

/** What was noted. A note whose tenant is still there is of a deletion that did not happen, and goes. */
export function tenantRemovals(
  root: string,
): readonly { readonly tenant: TenantId; readonly text: string }[] {
  if (!fs.existsSync(tenantsPath(root))) return [];
  return fs.readdirSync(tenantsPath(root)).flatMap((name) => {
    const [, id] = REMOVAL.exec(name) ?? [];
    if (id === undefined) return [];
    const tenant = parseTenantId(id);
    if (!fs.existsSync(tenantPath(root, tenant))) {
      return [{ tenant, text: fs.readFileSync(removalPath(root, tenant), "utf8") }];
    }
    forgetTenantRemoval(root, tenant);
    return [];
  });
}

/** Directories of deleted tenants whose files are not gone yet: a crash came in between. */
export function deletedTenants(root: string): readonly string[] {
  if (!fs.existsSync(tenantsPath(root))) return [];
  const names = fs.readdirSync(tenantsPath(root)).filter((name) => DELETED.test(name));
  return names.map((name) => path.join(tenantsPath(root), name));
}

/** Makes a directory and its parents, durably: after a power cut what is in it can be found. */
export function makeDirectory(directory: string): void {
  try {
    const first = fs.mkdirSync(directory, { recursive: true, mode: 0o700 });
    if (first === undefined) return;
    // Every directory from the parent of the first new one down to the last's parent got an entry.
    for (let parent = path.dirname(path.resolve(directory)); ; parent = path.dirname(parent)) {
      syncEntries(parent);
      if (parent === path.dirname(path.resolve(first)) || parent === path.dirname(parent)) return;
    }
  } catch (cause) {
    throw writeError(directory, "making", cause);
  }
}

/** True when there are directories of timelines, whatever the catalog knows of them. */
export function hasTimelines(root: string, tenant: TenantId): boolean {
  const directory = timelinesPath(root, tenant);
  return fs.existsSync(directory) && fs.readdirSync(directory).length > 0;
}

/** Makes what was created in a directory durable. Throws StoreFull, StoreFailed. */
export function syncEntries(directory: string): void {
  try {
    const fd = fs.openSync(directory, "r");
    fs.fsyncSync(fd);
    fs.closeSync(fd);
  } catch (cause) {
    throw writeError(directory, "syncing", cause);
  }
}

/** Removes directories of timelines that the catalog does not know: a deletion or creation that a crash cut short. */
export function removeOrphanTimelines(root: string, tenant: TenantId, catalog: Catalog): void {
  const directory = timelinesPath(root, tenant);
  if (!fs.existsSync(directory)) return;
  const known = new Set<string>(catalog.timelines().map(({ id }) => id));
  for (const name of fs.readdirSync(directory)) {
    if (!known.has(name)) fs.rmSync(path.join(directory, name), { recursive: true, force: true });
  }
}

/** Removes a directory with all that is in it, off the event loop: gigabytes take a while. */
export const removeDirectoryLater = (directory: string): Promise<void> =>
  fs.promises.rm(directory, { recursive: true, force: true });

/** What a restore drill that a crash cut short has left: a few files. */
export const removeDrill = (root: string): void =>
  fs.rmSync(drillPath(root), { recursive: true, force: true });

/** Removes a timeline's files, after its catalog entry. */
export function removeTimelineFiles(timelineDirectory: string): void {
  fs.rmSync(timelineDirectory, { recursive: true, force: true });
}
