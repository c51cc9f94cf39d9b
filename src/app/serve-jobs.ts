// A thread's side of actors/thread-jobs.ts: does the jobs that it is asked for, several at once if each of
// them lets go of the thread now and then.

import type { JobAsked, JobTold } from "../actors/thread-jobs.ts";
import type { CrashPoint } from "../store/crash-points.ts";
import { plainFailure } from "../store/store-errors.ts";

/** A job as the one who does it sees it. */
export interface JobHere<Wanted, Given> {
  /** Undefined: nobody wants to hear of moments. */
  readonly point: CrashPoint | undefined;
  /** Asks whoever asked for the job. */
  readonly want: (wanted: Wanted) => Promise<Given>;
  /** Nobody wants the job any more. */
  readonly isGivenUp: () => boolean;
}

/** What it throws ends the thread, what it rejects with only the job. */
export type Work<Order, Done, Wanted, Given> = (
  order: Order,
  job: JobHere<Wanted, Given>,
) => Promise<Done>;

interface UnderWay<Given> {
  givenUp: boolean;
  give: (given: Given) => void;
  /** What it wants does not come any more. */
  refuse: (error: Error) => void;
}

/** For serveThread. */
export function jobServer<Order, Done, Wanted, Given>(
  work: Work<Order, Done, Wanted, Given>,
): (asked: JobAsked<Order, Given>, tell: (told: JobTold<Done, Wanted>) => void) => void {
  const jobs = new Map<number, UnderWay<Given>>();
  return (asked, tell) => {
    const { job } = asked;
    const known = jobs.get(job);
    if (asked.kind === "give") return known?.give(asked.given);
    if (asked.kind === "give-up") {
      if (known === undefined) return;
      known.givenUp = true;
      return known.refuse(new Error("the job was given up"));
    }
    const nobody = (): void => undefined;
    const here: UnderWay<Given> = { givenUp: false, give: nobody, refuse: nobody };
    jobs.set(job, here);
    const over = (told: JobTold<Done, Wanted>): void => {
      jobs.delete(job);
      tell(told);
    };
    work(asked.order, {
      point: asked.points && pointOf(asked.points, (point) => tell({ kind: "point", point })),
      want: (wanted) =>
        new Promise((resolve, reject) => {
          here.give = resolve;
          here.refuse = reject;
          tell({ kind: "wants", job, wanted });
        }),
      isGivenUp: () => here.givenUp,
    }).then(
      (done) => over({ kind: "done", job, done }),
      (error: unknown) => over({ kind: "failed", job, failure: plainFailure(error) }),
    );
  };
}

/** The thread stands still until whoever hears of the point has let it pass: so the process ends there, if it does. */
function pointOf(points: SharedArrayBuffer, tell: CrashPoint): CrashPoint {
  const passed = new Int32Array(points);
  return (point) => {
    const before = Atomics.load(passed, 0);
    tell(point);
    Atomics.wait(passed, 0, before);
  };
}
