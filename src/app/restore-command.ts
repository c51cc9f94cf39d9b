// PostgreSQL's restore_command: one file of the archive, fetched from object storage to where PostgreSQL
// wants it. No server has to run; the settings are those of one (--config, environment).

import fs from "node:fs/promises";
import { archivedSegment } from "../actors/archived-wal.ts";
import type { Config } from "../config.ts";
import { MalformedInput } from "../core/assert.ts";
import { parseTenantId, parseTimelineId } from "../core/ids.ts";
import type { Secret } from "../protocol/conninfo.ts";
import { openObjects } from "./backup.ts";

export interface WantedFile {
  /** TENANT/TIMELINE. */
  readonly timeline: string;
  /** %f */
  readonly file: string;
  /** %p: relative to the working directory, which PostgreSQL makes its data directory. */
  readonly path: string;
}

/**
 * Puts the file at its path, whole. "absent": the archive has no such file. Rejects with what a person has
 * to see: MalformedInput, ObjectError, MasterKeysUnusable, ManifestUnusable, what the disk says.
 */
export async function restoreFile(
  config: Config,
  masterKeys: Secret | undefined,
  wanted: WantedFile,
): Promise<"restored" | "absent"> {
  const [tenantText = "", timelineText = "", ...rest] = wanted.timeline.split("/");
  if (rest.length > 0) throw new MalformedInput(`not TENANT/TIMELINE: "${wanted.timeline}"`);
  const tenant = parseTenantId(tenantText);
  const timeline = parseTimelineId(timelineText);
  const objects = await openObjects(config, masterKeys);
  if (objects === undefined) {
    throw new MalformedInput("no backup is named: give --backup PLACE, or --config FILE");
  }
  try {
    const bytes = await archivedSegment(objects.urgent, tenant, timeline, wanted.file);
    if (bytes === undefined) return "absent";
    await writeWhole(wanted.path, bytes);
    return "restored";
  } finally {
    await objects.urgent.close();
  }
}

async function writeWhole(path: string, bytes: Uint8Array): Promise<void> {
  const temporary = `${path}.fetching`;
  try {
    const file = await fs.open(temporary, "w", 0o600);
    try {
      await file.writeFile(bytes);
      await file.sync();
    } finally {
      await file.close();
    }
    await fs.rename(temporary, path);
  } catch (error) {
    await fs.rm(temporary, { force: true });
    throw error;
  }
}
