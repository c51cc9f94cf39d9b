// A thread's work done in this one, for tests of what is around it: messages are copied as between threads,
// and come later. Starting real threads from sources takes a second each.

import { mergeWork } from "../../src/app/merge-work.ts";
import { jobServer } from "../../src/app/serve-jobs.ts";
import type { OpenMergeThread } from "../../src/actors/merger.ts";

/** The thread that merges. */
export const mergeInPlace: OpenMergeThread = ({ onTold }) => {
  const serve = jobServer(mergeWork);
  let open = true;
  return {
    tell: (asked) => {
      const copy = structuredClone(asked);
      setImmediate(() =>
        serve(copy, (told) => {
          const back = structuredClone(told);
          setImmediate(() => open && onTold(back));
        }),
      );
    },
    stop: async () => {
      open = false;
    },
  };
};
