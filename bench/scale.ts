// Many timelines and many tenants in one process: how long a start takes until all can be read, what an idle
// one costs, and how many files are open. Their catalogs are written directly, as a start finds them.

import { randomBytes } from "node:crypto";
import fs from "node:fs";
import { type TimelineId, parseTenantId, parseTimelineId } from "../src/core/ids.ts";
import { Catalog } from "../src/store/catalog.ts";
import {
  catalogPath,
  layersPath,
  openDataDirectory,
  tenantPath,
  timelinePath,
  walPath,
} from "../src/store/data-dir.ts";
import { type Result, figure, goal } from "./result.ts";
import { type RunningServer, type Stores, TIMELINE } from "./stores.ts";
import { TENANT } from "./tenant.ts";

const KB = 1_000;

export interface ScaleSizes {
  readonly timelines: number;
  readonly tenants: number;
}

interface Idle {
  readonly seconds: number;
  readonly memory: number;
  readonly files: number;
  /** Until one that sleeps is loaded; 0: none does. */
  readonly wakeMs: number;
}

/** `store` has one imported timeline. */
export async function measureScale(
  stores: Stores,
  store: string,
  sizes: ScaleSizes,
): Promise<readonly Result[]> {
  const { timelines, tenants } = sizes;
  const alone = await startWith(stores, store, () => undefined);
  const many = await startWith(stores, store, (dataDir) => void addBranches(dataDir, timelines));
  const wide = await startWith(stores, store, (dataDir) => addTenants(dataDir, tenants));
  const perTimeline = (many.memory - alone.memory) / timelines / KB;
  const perTenant = (wide.memory - alone.memory) / tenants / KB;
  return [
    goal(`start with ${timelines} timelines`, many.seconds, "s", "<=", 10),
    goal("  idle memory a timeline", perTimeline, "KB", "<=", 20),
    goal("  open files", many.files, "", "<=", 1_000),
    figure("  loading one that nobody has used yet", many.wakeMs, "ms"),
    goal(`start with ${tenants} tenants`, wide.seconds, "s", "<=", 10),
    goal("  idle memory a tenant", perTenant, "KB", "<=", 300),
    figure("  open files a tenant", (wide.files - alone.files) / tenants, ""),
  ];
}

/** Starts a page server on a copy of `store` that was changed; all that it knows is loaded then. */
async function startWith(
  stores: Stores,
  store: string,
  change: (dataDir: string) => void,
): Promise<Idle> {
  const server = await stores.serve(store, change);
  try {
    await server.process.ask({ do: "idle" });
    const idle = { seconds: server.seconds, memory: memoryOf(server), files: filesOf(server) };
    return { ...idle, wakeMs: await server.process.ask({ do: "wake" }) };
  } finally {
    await server.end();
  }
}

/** Branches of the imported timeline at its end, in the catalog of a store that nobody has open; gives their ids. */
export function addBranches(dataDir: string, count: number): readonly TimelineId[] {
  const catalog = new Catalog(catalogPath(dataDir, TENANT));
  const above = catalog.timeline(TIMELINE)!;
  const { pgVersion, tli, systemId, sealedLsn, sealedPrev, createdAtMs } = above;
  const ids: TimelineId[] = [];
  catalog.change((change) => {
    for (let i = 0; i < count; i++) {
      const id = parseTimelineId(randomBytes(16).toString("hex"));
      ids.push(id);
      const directory = timelinePath(dataDir, TENANT, id);
      for (const path of [layersPath(directory), walPath(directory)]) {
        fs.mkdirSync(path, { recursive: true });
      }
      change.putTimeline({
        ...{ id, name: `branch-${i}` },
        ...{ pgVersion, tli, systemId, sealedLsn, sealedPrev, createdAtMs, state: "active" },
        ...{ ancestor: { id: TIMELINE, lsn: sealedLsn }, baseLsn: sealedLsn },
        readableFrom: sealedLsn,
      });
    }
  });
  void catalog.close();
  return ids;
}

function addTenants(dataDir: string, count: number): void {
  openDataDirectory(dataDir);
  for (let i = 0; i < count; i++) {
    const id = parseTenantId(randomBytes(16).toString("hex"));
    fs.mkdirSync(tenantPath(dataDir, id), { recursive: true });
    const catalog = new Catalog(catalogPath(dataDir, id));
    catalog.change((change) => change.putTenant({ id, createdAtMs: 0 }));
    void catalog.close();
  }
}

/** What is the process's own: pages of files that it has mapped can be dropped at any time. */
function memoryOf({ process }: RunningServer): number {
  const status = fs.readFileSync(`/proc/${process.pid}/status`, "utf8");
  return Number(/^RssAnon:\s+(\d+) kB/m.exec(status)?.[1]) * 1024;
}

const filesOf = ({ process }: RunningServer): number =>
  fs.readdirSync(`/proc/${process.pid}/fd`).length;
