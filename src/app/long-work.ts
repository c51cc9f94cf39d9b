// Work that whoever asks waits for, though it may take long: it is in the book of jobs meanwhile, so that
// others see how far it is and can cancel it. The answer is that of the work itself.

import type { AdminError } from "../core/admin-error.ts";
import { adminErrorText } from "../core/admin-error.ts";
import { type Result, err } from "../core/result.ts";
import { type JobBook, JobCancelled, type JobReporter, type JobResult } from "../http/jobs.ts";
import type { Job } from "../protocol/api-work.ts";

/** Does `work` as a job. Work that gives up throws JobCancelled; what else it throws is thrown on. */
export async function asJob<T>(
  jobs: JobBook,
  kind: Job["kind"],
  target: string,
  work: (job: JobReporter) => Promise<Result<T, AdminError>>,
  shown: (value: T) => JobResult,
): Promise<Result<T, AdminError>> {
  const job = jobs.start(kind, target);
  try {
    const outcome = await work(job);
    if (outcome.ok) job.done(shown(outcome.value));
    else job.failed(adminErrorText(outcome.error));
    return outcome;
  } catch (error) {
    job.failed(error instanceof Error ? error.message : String(error));
    if (!(error instanceof JobCancelled)) throw error;
    return err({ kind: "conflict", message: `job ${job.id} was cancelled on request` });
  }
}

/** Throws JobCancelled once somebody has asked for the job's end. */
export function unlessCancelled({ signal }: JobReporter): void {
  if (signal.aborted) throw new JobCancelled();
}
