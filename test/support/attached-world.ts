// Another machine, with an empty data directory, takes the tenant of a test over from object storage.

import fs from "node:fs";
import path from "node:path";
import { attachTenant } from "../../src/actors/backup-attach.ts";
import { ask } from "../../src/actors/runtime.ts";
import type { TenantsMsg } from "../../src/actors/tenants.ts";
import type { ObjectStorage } from "../../src/core/object-storage.ts";
import { TENANT, TimelineWorld } from "./timeline-world.ts";

/** Rejects as attachTenant does; nothing runs then. */
export async function attachedWorld(
  dataDir: string,
  storage: ObjectStorage,
): Promise<TimelineWorld> {
  fs.mkdirSync(path.join(dataDir, "tenants"), { recursive: true });
  const world = new TimelineWorld(dataDir, { storage });
  try {
    const backup = world.shared.backup!;
    await attachTenant({ backup, dataDir, tenant: TENANT, onProgress: () => {} });
  } catch (error) {
    await world.close();
    throw error;
  }
  await ask<TenantsMsg, unknown>(
    world.tenants,
    (reply) => ({ kind: "create", id: TENANT, reply }),
    10_000,
  );
  await world.loaded();
  return world;
}
