// Writes sealed layers' files for all timelines in a second thread, one after the other in the order in
// which they were asked for, so that taking in WAL and sealing it happen at the same time. Each timeline
// asks for one at a time, and a bounded number waits.

import { SEALS_WAITING_MAX } from "../core/limits.ts";
import type { SealOrder, SealedFacts } from "../store/layer-sealing.ts";
import type { Scope } from "./runtime.ts";
import { type ThreadJobs, type ThreadJobsDeps, spawnThreadJobs } from "./thread-jobs.ts";

/** Without room a timeline had better write its layer itself. */
export type Sealer = ThreadJobs<SealOrder, SealedFacts>;

export type SealerDeps = Omit<
  ThreadJobsDeps<SealOrder, SealedFacts>,
  "name" | "atOnce" | "waitingMax"
>;

export const spawnSealer = (scope: Scope, deps: SealerDeps): Sealer =>
  spawnThreadJobs(scope, { ...deps, name: "sealer", atOnce: 1, waitingMax: SEALS_WAITING_MAX });
