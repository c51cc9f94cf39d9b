// Another machine, with an empty data directory, takes the tenant of a test over from object storage.

import fs from "node:fs";
import path from "node:path";
import { afterEach, beforeEach } from "vitest";
import { attachTenant } from "../../src/actors/backup-attach.ts";
import { ask } from "../../src/actors/runtime.ts";
import type { TenantsMsg } from "../../src/actors/tenants.ts";
import type { ObjectStorage } from "../../src/core/object-storage.ts";
import type { TimelineTest } from "./timeline-test.ts";
import { TENANT, TimelineWorld } from "./timeline-world.ts";

/** Rejects as attachTenant does; nothing runs then. */
async function attachedWorld(
  dataDir: string,
  storage: ObjectStorage,
  warmUpBytes = 0,
): Promise<TimelineWorld> {
  fs.mkdirSync(path.join(dataDir, "tenants"), { recursive: true });
  const world = new TimelineWorld(dataDir, { storage });
  try {
    const backup = world.shared.backup!;
    await attachTenant({ backup, dataDir, tenant: TENANT, warmUpBytes, onProgress: () => {} });
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

export interface Machines {
  /** Another machine takes the tenant over; it ends with the test. */
  attach(storage: ObjectStorage, warmUpBytes?: number): Promise<TimelineWorld>;
  /** It starts once more, with what it has. */
  reopen(storage: ObjectStorage): Promise<TimelineWorld>;
  /** Its data directory: not there before an attach. */
  readonly dataDir: string;
  /** Stops the ticks that make time pass on both. */
  pause(): void;
  goOn(): void;
}

/** The machine of the test and another one, for each test of the file; time passes on both. */
export function machines(t: TimelineTest): Machines {
  let beat: NodeJS.Timeout | undefined;
  let other: TimelineWorld | undefined;
  const both: Machines = {
    attach: async (storage, warmUpBytes) =>
      (other = await attachedWorld(both.dataDir, storage, warmUpBytes)),
    reopen: async (storage) => {
      other = new TimelineWorld(both.dataDir, { storage });
      await other.loaded();
      return other;
    },
    get dataDir() {
      return `${t.dataDir}-new`;
    },
    pause: () => clearInterval(beat),
    goOn: () => {
      beat = setInterval(() => {
        for (const world of [t.world, other]) world?.tenants.tell({ kind: "tick" });
      }, 20);
    },
  };
  beforeEach(() => {
    other = undefined;
    both.goOn();
  });
  afterEach(async () => {
    both.pause();
    await other?.close();
    fs.rmSync(both.dataDir, { recursive: true, force: true });
  });
  return both;
}
