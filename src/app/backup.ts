// The program's object storage, as the settings have it: opened, tried out and claimed before anything
// is trusted to it. What only a person can put right refuses the start; what may pass is tried again.

import { randomBytes } from "node:crypto";
import { fileURLToPath } from "node:url";
import type { BackupOptions } from "../actors/backup.ts";
import type { Config } from "../config.ts";
import { type EvictionPolicy, parseMark, parseSize } from "../core/backup/evict.ts";
import { claimPlace, probeStorage } from "../core/backup/probe.ts";
import { type ObjectStorage, mayPass } from "../core/object-storage.ts";
import { systemClock } from "../io/clock.ts";
import type { Log } from "../io/log.ts";
import { EncryptedStorage } from "../io/objects/encrypted.ts";
import {
  MasterKeysUnusable,
  NO_MASTER_KEYS,
  parseMasterKeys,
  readMasterKeys,
} from "../io/objects/master-keys.ts";
import { LocalStorage } from "../io/objects/local.ts";
import { withRetries } from "../io/objects/retried.ts";
import { S3Storage } from "../io/objects/s3.ts";
import { TenantKeys } from "../io/objects/tenant-keys.ts";
import type { Secret } from "../protocol/conninfo.ts";

/**
 * Undefined: no backup is configured. Rejects with ObjectError when it cannot be used, MasterKeysUnusable.
 * `masterKeys`: of the environment.
 */
export async function openBackup(
  config: Config,
  log: Log,
  masterKeys: Secret | undefined,
): Promise<BackupOptions | undefined> {
  const lanes = await openObjects(config, masterKeys);
  if (lanes === undefined) return undefined;
  const { storage, background, urgent, counts, resting } = lanes;
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
    ...{ storage: background, urgent, ready, resting, randomWord, keys: lanes.keys },
    counts: () => counts,
    intervalMs: config.backupIntervalMs,
    archive: config.backupWalArchive,
    purgeAgeMs: config.backupPurgeAgeS * 1_000,
    sourceKeeps: config.backupSourceKeeps,
    warmUpBytes: parseSize(config.backupWarmUp) ?? 0,
    nowMs: systemClock.nowMs,
  };
}

/** What `backup` names, with retries and encryption; undefined: none. Rejects with MasterKeysUnusable. */
export async function openObjects(config: Config, masterKeys: Secret | undefined) {
  const { backupKeyFile: file, backupPlainObjects } = config;
  const storage = openStorage(config);
  if (storage === undefined) return undefined;
  if (file !== undefined && masterKeys !== undefined) {
    throw new MasterKeysUnusable(`both backup_key_file and ${MASTER_KEYS} are set: set one`);
  }
  const masters =
    masterKeys !== undefined
      ? parseMasterKeys(masterKeys.reveal(), MASTER_KEYS)
      : file === undefined
        ? NO_MASTER_KEYS
        : await readMasterKeys(file);
  const { background, urgent, counts, resting } = withRetries(storage);
  const keys = new TenantKeys(background, masters, backupPlainObjects ? "read" : "refused");
  return {
    ...{ storage, counts, resting, keys },
    background: new EncryptedStorage(background, keys),
    urgent: new EncryptedStorage(urgent, keys),
  };
}

/** The environment's name for master keys. */
export const MASTER_KEYS = "PAGESERVER_BACKUP_KEY";

/** When layers leave the local disk. */
export function evictionPolicy(config: Config): EvictionPolicy {
  const { evictHigh, evictLow, evictAgeS, evictFloor } = config;
  const high = parseMark(evictHigh);
  return {
    marks: high && { high, low: parseMark(evictLow) ?? high },
    ageMs: evictAgeS === 0 ? undefined : evictAgeS * 1_000,
    floorBytes: parseSize(evictFloor) ?? 0,
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
