// Where a verification's backups go: a directory of its own, or a bucket in a real Ceph RADOS gateway;
// and the environment that tells a page server so.

import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import type { ObjectStorage } from "../../src/core/object-storage.ts";
import { LocalStorage } from "../../src/io/objects/local.ts";
import { S3Storage } from "../../src/io/objects/s3.ts";
import { makeBucket, rgwMissing, startRgw } from "../support/rgw.ts";

export type PlaceKind = "local" | "s3";

export interface BackupPlace {
  /** The objects, beside any page server. */
  readonly storage: ObjectStorage;
  readonly environment: Readonly<Record<string, string>>;
  end(): Promise<void>;
}

/** Least time between two turns, ms: so that much comes and goes in a short time. */
const INTERVAL_MS = "200";

/** Encrypts from now on, and still reads what is there in the clear. */
export const MASTER_KEY = {
  PAGESERVER_BACKUP_KEY: `verify:${"5a".repeat(32)}`,
  PAGESERVER_BACKUP_PLAIN_OBJECTS: "true",
} as const;

export async function openPlace(kind: PlaceKind): Promise<BackupPlace> {
  return kind === "s3" ? gateway() : directory();
}

function directory(): BackupPlace {
  const dir = fs.mkdtempSync(path.join(os.tmpdir(), "verify-backup-objects-"));
  return {
    storage: new LocalStorage(dir),
    environment: {
      PAGESERVER_BACKUP: `file://${dir}`,
      PAGESERVER_BACKUP_INTERVAL: INTERVAL_MS,
    },
    end: async () => fs.rmSync(dir, { recursive: true, force: true }),
  };
}

async function gateway(): Promise<BackupPlace> {
  const missing = rgwMissing();
  if (missing !== undefined) throw new Error(missing);
  const rgw = await startRgw();
  await makeBucket(rgw, "verify");
  const { endpoint, credentials } = rgw;
  const where = { bucket: "verify", prefix: "backup/", region: "us-east-1", endpoint, credentials };
  return {
    storage: new S3Storage({ ...where, etagQuotes: "unquoted" }),
    environment: {
      PAGESERVER_BACKUP: "s3://verify/backup",
      PAGESERVER_BACKUP_ENDPOINT: rgw.endpoint,
      PAGESERVER_BACKUP_ETAG_QUOTES: "false",
      PAGESERVER_BACKUP_INTERVAL: INTERVAL_MS,
      AWS_ACCESS_KEY_ID: rgw.credentials.accessKeyId,
      AWS_SECRET_ACCESS_KEY: rgw.credentials.secretAccessKey,
    },
    end: rgw.stop,
  };
}
