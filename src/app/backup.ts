// The program's object storage, as the settings have it: opened, tried out and claimed before anything
// is trusted to it. What only a person can put right refuses the start; what may pass is tried again.

import { randomBytes } from "node:crypto";
import { fileURLToPath } from "node:url";
import type { BackupOptions } from "../actors/backup.ts";
import type { Config } from "../config.ts";
import { claimPlace, probeStorage } from "../core/backup/probe.ts";
import { type ObjectStorage, mayPass } from "../core/object-storage.ts";
import { systemClock } from "../io/clock.ts";
import type { Log } from "../io/log.ts";
import { LocalStorage } from "../io/objects/local.ts";
import { withRetries } from "../io/objects/retried.ts";
import { S3Storage } from "../io/objects/s3.ts";

/** Undefined: no backup is configured. Rejects with ObjectError when it cannot be used. */
export async function openBackup(config: Config, log: Log): Promise<BackupOptions | undefined> {
  const storage = openStorage(config);
  if (storage === undefined) return undefined;
  const { background, urgent, counts, resting } = withRetries(storage);
  const randomWord = (): string => randomBytes(8).toString("hex");
  let fit = false;
  const ready = async (): Promise<void> => {
    if (fit) return;
    await claimPlace(background);
    await probeStorage(background, randomWord());
    fit = true;
  };
  try {
    await ready();
    log.info({ place: storage.place }, `backups go to ${storage.place}`);
  } catch (error) {
    if (!mayPass(error)) throw error;
    log.warn({ err: error }, "backups cannot be made yet; it is tried again");
  }
  return {
    ...{ storage: background, urgent, ready, resting, randomWord },
    counts: () => counts,
    intervalMs: config.backupIntervalMs,
    archive: config.backupWalArchive,
    purgeAgeMs: config.backupPurgeAgeS * 1_000,
    sourceKeeps: config.backupSourceKeeps,
    nowMs: systemClock.nowMs,
  };
}

/** The back end that `backup` names; undefined: none. */
export function openStorage(config: Config): ObjectStorage | undefined {
  const { backup: place } = config;
  if (place === undefined) return undefined;
  if (place.startsWith("file:")) return new LocalStorage(fileURLToPath(place));
  const [, bucket, prefix = ""] = /^s3:\/\/([^/]+)\/?(.*)$/.exec(place)!;
  const { backupEncryption: kind, backupKmsKey: keyId } = config;
  return new S3Storage({
    bucket: bucket!,
    prefix: prefix === "" ? "" : `${prefix.replace(/\/+$/, "")}/`,
    region: config.backupRegion,
    endpoint: config.backupEndpoint,
    etagQuotes: config.backupEtagQuotes ? "quoted" : "unquoted",
    ...(kind !== "none" && { encryption: { kind, ...(keyId !== undefined && { keyId }) } }),
  });
}
