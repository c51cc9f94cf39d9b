// The thread that merges layers: see merge-work.ts. Whoever reads pages and takes in WAL goes first.

import { MERGE_NICE } from "../core/limits.ts";
import { giveWay, serveThread } from "../io/worker-thread.ts";
import { mergeWork } from "./merge-work.ts";
import { jobServer } from "./serve-jobs.ts";

giveWay(MERGE_NICE);
serveThread(jobServer(mergeWork));
