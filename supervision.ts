// Who exists, in what order they start, and what happens when one crashes. This page is the
// running system; ARCHITECTURE.md explains it.
//
//   redo-pool             hands batches to workers; a request in flight is retried once
//    └─ redo-worker × N   one walredo process each; replaced at once, backed off when it dies young
//   uploader              few things at a time to and from object storage
//   sealer                a thread: writes sealed layers of all timelines, one at a time
//   merger                a thread at low priority: merges layers of all timelines, two at a time
//   tenants               directory of tenants; a crash here stops the process
//    └─ tenant            opens its catalog; branches; budget, then "broken", neighbours unaffected
//        └─ timeline      page reads, WAL, sealing in turns; state rebuilt from the store
//            └─ wal-receiver   reconnects by itself with back-off; restarts from the durable LSN
//   evictor               keeps the disk below its marks: layers that object storage has go; with a backup only
//   driller               restores samples of backups for a trial; with a backup only
//   scheduler             ticks: seal what is idle or old, time out waiting readers
//   connections           page service listener
//    └─ connection        one a compute link; never restarted, the compute reconnects

import type { ActorSystem, CrashReport, Scope } from "./src/actors/runtime.ts";
import { startSystem } from "./src/actors/runtime.ts";
import type { RestartPolicy } from "./src/core/restart-budget.ts";

const MINUTE_MS = 60_000;

/** Restart budgets. `crashesMax: 0` means: never restarted. */
export const POLICY = {
  redoPool: { crashesMax: 10, windowMs: MINUTE_MS, backOffMs: 100, backOffMsMax: 5_000 },
  // A worker that keeps dying is replaced by the pool; its own restarts are few and slow.
  redoWorker: { crashesMax: 3, windowMs: MINUTE_MS, backOffMs: 200, backOffMsMax: 5_000 },
  uploader: { crashesMax: 10, windowMs: MINUTE_MS, backOffMs: 500, backOffMsMax: 5_000 },
  // Each crash is a thread that died. Sealing waits meanwhile, and then WAL does.
  sealer: { crashesMax: 5, windowMs: MINUTE_MS, backOffMs: 500, backOffMsMax: 5_000 },
  // Merging waits meanwhile: reads get slower, and nothing else.
  merger: { crashesMax: 5, windowMs: MINUTE_MS, backOffMs: 500, backOffMsMax: 5_000 },
  tenants: { crashesMax: 0, windowMs: MINUTE_MS, backOffMs: 0, backOffMsMax: 0 },
  tenant: { crashesMax: 3, windowMs: MINUTE_MS, backOffMs: 500, backOffMsMax: 5_000 },
  timeline: { crashesMax: 3, windowMs: MINUTE_MS, backOffMs: 500, backOffMsMax: 5_000 },
  walReceiver: { crashesMax: 10, windowMs: MINUTE_MS, backOffMs: 500, backOffMsMax: 10_000 },
  evictor: { crashesMax: 10, windowMs: MINUTE_MS, backOffMs: 1_000, backOffMsMax: 5_000 },
  driller: { crashesMax: 10, windowMs: MINUTE_MS, backOffMs: 1_000, backOffMsMax: 5_000 },
  scheduler: { crashesMax: 10, windowMs: MINUTE_MS, backOffMs: 1_000, backOffMsMax: 5_000 },
  connections: { crashesMax: 3, windowMs: MINUTE_MS, backOffMs: 500, backOffMsMax: 5_000 },
  connection: { crashesMax: 0, windowMs: MINUTE_MS, backOffMs: 0, backOffMsMax: 0 },
} as const satisfies Record<string, RestartPolicy>;

/** One child of the root. `stop` resolves when nothing of it runs any more. */
export interface Running {
  readonly stop: () => Promise<void>;
}

/** How a child is started. Its dependencies (store, sockets, processes) are already in the closure. */
export interface ChildSpec {
  readonly name:
    | "redo-pool"
    | "uploader"
    | "sealer"
    | "merger"
    | "tenants"
    | "evictor"
    | "driller"
    | "scheduler"
    | "connections";
  readonly start: (root: Scope) => Running | Promise<Running>;
}

/** Start order: those who answer before those who ask. Stop order is the reverse. */
const ORDER: readonly ChildSpec["name"][] = [
  "redo-pool",
  "uploader",
  "sealer",
  "merger",
  "tenants",
  "evictor",
  "driller",
  "scheduler",
  "connections",
];

/** How long one child may take to stop, ms; then the stop goes on without it. */
export const STOP_MS_MAX = 30_000;

export interface Tree {
  readonly system: ActorSystem;
  /** Stops the children in reverse order of their start. */
  readonly stop: () => Promise<void>;
}

/**
 * Starts the tree. If a child cannot start, those before it are stopped and the error is thrown. `stop`
 * goes on past a child that fails to stop, and then throws what it threw.
 */
export async function startTree(
  name: string,
  children: readonly ChildSpec[],
  onCrash: (report: CrashReport) => void,
  stopMsMax = STOP_MS_MAX,
): Promise<Tree> {
  const system = startSystem(name, onCrash);
  const running: Running[] = [];
  const stop = async (): Promise<void> => {
    const failures: unknown[] = [];
    for (const child of running.splice(0).reverse()) {
      await withDeadline(child, stopMsMax).catch((error: unknown) => failures.push(error));
    }
    system.stop();
    if (failures.length > 0) throw failures[0];
  };
  try {
    for (const next of ORDER) {
      const spec = children.find((child) => child.name === next);
      if (spec !== undefined) running.push(await spec.start(system.root));
    }
  } catch (error) {
    await stop().catch(() => undefined); // why it could not start is what counts
    throw error;
  }
  return { system, stop };
}

async function withDeadline(child: Running, ms: number): Promise<void> {
  let timer: NodeJS.Timeout | undefined;
  const deadline = new Promise<void>((resolve) => {
    timer = setTimeout(resolve, ms);
  });
  await Promise.race([child.stop(), deadline]).finally(() => clearTimeout(timer));
}
