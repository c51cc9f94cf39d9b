// One merge in a thread of its own: its turns one after the other, letting go of the thread between them.

import type { MergeGiven, MergeWanted } from "../actors/merger.ts";
import { plainRedo } from "../core/redo-request.ts";
import { systemClock } from "../io/clock.ts";
import { filesWithPoints } from "../store/crash-points.ts";
import { MergeJob, type MergeTurn } from "../store/merge-job.ts";
import type { MergeOrder, Merged } from "../store/merge-order.ts";
import { OpenFiles } from "../store/sealed-file.ts";
import { failureOf } from "../store/store-errors.ts";
import type { JobHere } from "./serve-jobs.ts";

type Here = JobHere<MergeWanted, MergeGiven>;

/** Rejects with StoreFull, StoreFailed, StoreCorrupt, and when it is given up; then what was written is gone. */
export async function mergeWork(order: MergeOrder, job: Here): Promise<Merged> {
  // Of its own: nothing of what is merged stays open.
  const open = new OpenFiles();
  const files = job.point === undefined ? open : filesWithPoints(open, job.point);
  try {
    const { steadyMs } = systemClock;
    const merge = new MergeJob({ order, files, steadyMs, fault: () => undefined });
    try {
      return await allTurns(merge, job);
    } catch (error) {
      await merge.abandon().catch(() => undefined); // the next start removes it
      throw error;
    }
  } finally {
    open.closeAll();
  }
}

async function allTurns(merge: MergeJob, job: Here): Promise<Merged> {
  for (;;) {
    const turn = merge.step();
    if (turn.kind === "written") return turn.merged;
    await between(merge, turn, job);
    if (job.isGivenUp()) throw new Error("the merge was given up");
  }
}

async function between(merge: MergeJob, turn: MergeTurn, job: Here): Promise<void> {
  switch (turn.kind) {
    case "redo": {
      const given = await job.want({ kind: "redo", requests: turn.requests.map(plainRedo) });
      if (given.kind === "redone") merge.give(given.results);
      return;
    }
    case "absent": {
      const given = await job.want({ kind: "layer", path: turn.error.path });
      if (given.kind === "layer" && given.failure !== undefined) throw failureOf(given.failure);
      return;
    }
    case "close":
      return merge.closeLayer();
    default:
      return new Promise((resolve) => setImmediate(resolve));
  }
}
