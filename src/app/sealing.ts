// The sealer as a child of the tree: its thread is the module beside this one.

import { POLICY, type ChildSpec } from "../../supervision.ts";
import { type ActorRef, ask } from "../actors/runtime.ts";
import { type Sealer, type SealerDeps, type SealerMsg, spawnSealer } from "../actors/sealer.ts";
import { THREAD_STOP_MS_MAX } from "../core/limits.ts";
import { startThread } from "../io/worker-thread.ts";
import type { CrashPoint } from "../store/crash-points.ts";

// Compiled or not.
const ENDING = import.meta.url.endsWith(".ts") ? "ts" : "js";
const MODULE = new URL(`./seal-thread.${ENDING}`, import.meta.url);

/** Starts the thread. */
export const openSealThread: SealerDeps["open"] = (handlers) =>
  startThread("seal", MODULE, handlers);

/** `live`: where it is to be found by those that start after it. */
export const sealerChild = (
  live: { sealer?: Sealer },
  crashPoint: CrashPoint | undefined,
): ChildSpec => ({
  name: "sealer",
  start: (root) => {
    const deps = { restart: POLICY.sealer, open: openSealThread, crashPoint };
    const { ref } = (live.sealer = spawnSealer(root, deps));
    return { stop: () => stopSealer(ref) };
  },
});

async function stopSealer(sealer: ActorRef<SealerMsg>): Promise<void> {
  await ask<SealerMsg, undefined>(sealer, (reply) => ({ kind: "stop", reply }), THREAD_STOP_MS_MAX);
  sealer.stop();
}
