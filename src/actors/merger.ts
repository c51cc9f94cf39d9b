// Merges sealed layers for all timelines in a thread beside the main one, at low priority, so that pages
// are read and WAL is taken in as if nothing were merged. A merge asks here for the pages that WAL redo
// makes, and for layers whose files are not on this disk.

import { MERGES_MAX } from "../core/limits.ts";
import type { PlainRedoRequest, RedoResult } from "../core/redo-request.ts";
import type { MergeOrder, Merged } from "../store/merge-order.ts";
import type { PlainFailure } from "../store/store-errors.ts";
import type { Scope } from "./runtime.ts";
import {
  type Giver,
  type OpenThread,
  type ThreadJobs,
  type ThreadJobsDeps,
  spawnThreadJobs,
} from "./thread-jobs.ts";

export type MergeWanted =
  | { readonly kind: "redo"; readonly requests: readonly PlainRedoRequest[] }
  | { readonly kind: "layer"; readonly path: string };

export type MergeGiven =
  | { readonly kind: "redone"; readonly results: readonly RedoResult[] }
  /** The layer is here, or why it is not. */
  | { readonly kind: "layer"; readonly failure: PlainFailure | undefined };

export type Merger = ThreadJobs<MergeOrder, Merged, MergeWanted, MergeGiven>;
export type MergeGiver = Giver<MergeWanted, MergeGiven>;
export type OpenMergeThread = OpenThread<MergeOrder, Merged, MergeWanted, MergeGiven>;

export type MergerDeps = Omit<
  ThreadJobsDeps<MergeOrder, Merged, MergeWanted, MergeGiven>,
  "name" | "atOnce" | "waitingMax"
>;

/** Those that wait do so with their timelines: one each. */
export const spawnMerger = (scope: Scope, deps: MergerDeps): Merger =>
  spawnThreadJobs(scope, { ...deps, name: "merger", atOnce: MERGES_MAX, waitingMax: Infinity });
