// The threads beside the main one, as children of the tree: the modules that they run are beside this one.

import { POLICY, type ChildSpec } from "../../supervision.ts";
import { type Merger, type OpenMergeThread, spawnMerger } from "../actors/merger.ts";
import { type ActorRef, ask } from "../actors/runtime.ts";
import { type Sealer, type SealerDeps, spawnSealer } from "../actors/sealer.ts";
import type { ThreadJobsMsg } from "../actors/thread-jobs.ts";
import { THREAD_STOP_MS_MAX } from "../core/limits.ts";
import { startThread } from "../io/worker-thread.ts";
import type { CrashPoint } from "../store/crash-points.ts";

// Compiled or not.
const ENDING = import.meta.url.endsWith(".ts") ? "ts" : "js";
const moduleOf = (name: string): URL => new URL(`./${name}-thread.${ENDING}`, import.meta.url);

/** Starts the thread that seals. */
export const openSealThread: SealerDeps["open"] = (handlers) =>
  startThread("seal", moduleOf("seal"), handlers);

/** Starts the thread that merges. */
export const openMergeThread: OpenMergeThread = (handlers) =>
  startThread("merge", moduleOf("merge"), handlers);

/** `live`: where they are to be found by those that start after them. */
export const threadChildren = (
  live: { sealer?: Sealer; merger?: Merger },
  crashPoint: CrashPoint | undefined,
): readonly ChildSpec[] => [
  {
    name: "sealer",
    start: (root) => {
      const deps = { restart: POLICY.sealer, open: openSealThread, crashPoint };
      const { ref } = (live.sealer = spawnSealer(root, deps));
      return { stop: () => stopThread(ref) };
    },
  },
  {
    name: "merger",
    start: (root) => {
      const deps = { restart: POLICY.merger, open: openMergeThread, crashPoint };
      const { ref } = (live.merger = spawnMerger(root, deps));
      return { stop: () => stopThread(ref) };
    },
  },
];

async function stopThread<Order, Done, Wanted, Given>(
  actor: ActorRef<ThreadJobsMsg<Order, Done, Wanted, Given>>,
): Promise<void> {
  await ask<ThreadJobsMsg<Order, Done, Wanted, Given>, undefined>(
    actor,
    (reply) => ({ kind: "stop", reply }),
    THREAD_STOP_MS_MAX,
  );
  actor.stop();
}
