// Long work, newest first, with its steps.

import type { JSX } from "preact";
import { formatBytes, formatMs } from "../core/human.ts";
import type { Job, JobStep } from "../protocol/api-work.ts";
import { Empty, Problem, State, useWork } from "./bits.tsx";
import type { Live, Shown } from "./live.ts";

export function JobsPage({ live, shown }: { readonly live: Live; readonly shown: Shown }) {
  const jobs = [...(shown.jobs ?? [])].reverse();
  return (
    <>
      <h1>Jobs</h1>
      {shown.jobs === undefined && <Empty>Jobs need a token of scope pageserverapi.</Empty>}
      {shown.jobs !== undefined && jobs.length === 0 && (
        <Empty>No work since the server was started.</Empty>
      )}
      {jobs.map((job) => (
        <JobView key={job.id} {...{ live, job }} />
      ))}
    </>
  );
}

export function JobView({ live, job }: { readonly live: Live; readonly job: Job }): JSX.Element {
  const { busy, problem, run } = useWork();
  const cancel = async (): Promise<void> => {
    await live.client().cancelJob(job.id);
    live.refresh();
  };
  return (
    <section class="job" aria-label={`${job.kind} of ${job.target}`}>
      <h2>
        {job.kind.replace("-", " ")} <b>{job.target}</b> <State word={job.state} />
        <small>
          {formatMs(job.ms)}, begun {new Date(job.started_at).toLocaleTimeString()}
        </small>
        {job.state === "running" && (
          <button type="button" class="quiet" disabled={busy} onClick={() => run(cancel)}>
            Cancel
          </button>
        )}
      </h2>
      <ol>
        {job.steps.map((step) => (
          <Step key={step.name} step={step} />
        ))}
      </ol>
      <Problem text={problem ?? job.error} />
    </section>
  );
}

function Step({ step }: { readonly step: JobStep }): JSX.Element {
  const { bytes_done: done, bytes_total: total } = step;
  return (
    <li>
      <span class="name">{step.name}</span>
      {done !== undefined && total !== undefined && total > 0 && (
        <progress
          max={total}
          value={Math.min(done, total)}
          aria-label={`Progress of ${step.name}`}
        />
      )}
      {done !== undefined && <span>{formatBytes(done)}</span>}
      {total !== undefined && total > 0 && <span>of {formatBytes(total)}</span>}
      {step.detail !== undefined && <span class="dim">{step.detail}</span>}
      <span class="dim">{formatMs(step.ms)}</span>
      {step.state === "running" && <State word="running" />}
      {step.state === "failed" && <State word="failed" />}
    </li>
  );
}
