// PostgreSQL servers on timelines: started, stopped, and the line that connects to them.

import type { JSX } from "preact";
import { useState } from "preact/hooks";
import type { ComputeInfo, Job } from "../protocol/api-work.ts";
import type { TimelineInfo } from "../protocol/api.ts";
import { Copy, Empty, Problem, State, useWork } from "./bits.tsx";
import { JobView } from "./jobs-page.tsx";
import type { Live, Shown } from "./live.ts";
import { hrefOf } from "./route.ts";

/** How long one request waits for a job's end, ms; its steps are seen so often. */
const JOB_POLL_MS = 300;

interface Props {
  readonly live: Live;
  readonly shown: Shown;
}

/** Those that show a moment are many to a timeline, and the command line's. */
const writes = (compute: ComputeInfo): boolean => compute.read_only !== true;

export function ComputesPage({ live, shown }: Props): JSX.Element {
  const byTimeline = new Map(
    shown.computes.filter(writes).map((one) => [one.timeline_id as string, one]),
  );
  return (
    <>
      <h1>Computes</h1>
      {shown.timelines.length === 0 && <Empty>No timelines yet to run one on.</Empty>}
      {shown.timelines.map((timeline) => (
        <section key={timeline.timeline_id} class="compute" aria-label={timeline.name}>
          <h2>
            <a
              href={hrefOf({
                page: "timeline",
                tenant: timeline.tenant_id,
                timeline: timeline.timeline_id,
              })}
            >
              {timeline.name}
            </a>
          </h2>
          <Control {...{ live, timeline }} compute={byTimeline.get(timeline.timeline_id)} />
        </section>
      ))}
    </>
  );
}

export function ComputeOf({
  live,
  shown,
  timeline,
}: Props & { readonly timeline: TimelineInfo }): JSX.Element {
  const compute = shown.computes
    .filter(writes)
    .find((one) => one.timeline_id === timeline.timeline_id);
  return (
    <section class="compute">
      <h2>Compute</h2>
      <Control {...{ live, timeline, compute }} />
    </section>
  );
}

function Control(props: {
  readonly live: Live;
  readonly timeline: TimelineInfo;
  readonly compute: ComputeInfo | undefined;
}): JSX.Element {
  const { live, timeline, compute } = props;
  const [job, setJob] = useState<Job>();
  const [diskless, setDiskless] = useState(true);
  const { busy, problem, run } = useWork();
  const client = live.client(timeline.tenant_id);
  const work = (begin: () => Promise<Job>): void =>
    run(async () => {
      for (let now = await begin(); ; now = await client.job(now.id, JOB_POLL_MS)) {
        setJob(now);
        if (now.state !== "running") break;
      }
      live.refresh();
    });
  const running = compute?.state === "running";
  const start = () => client.startCompute({ timeline: timeline.timeline_id, diskless });
  return (
    <>
      <p class="controls">
        {compute === undefined ? <span class="dim">none</span> : <State word={compute.state} />}
        {running ? (
          <button
            type="button"
            disabled={busy}
            onClick={() => work(() => client.stopCompute(timeline.timeline_id))}
          >
            Stop
          </button>
        ) : (
          <>
            <button type="button" disabled={busy} onClick={() => work(start)}>
              Start
            </button>
            <label>
              <input
                type="checkbox"
                checked={diskless}
                onChange={(event) => setDiskless(event.currentTarget.checked)}
              />{" "}
              without disk: pages are read when they are needed
            </label>
          </>
        )}
        {running && compute.pid !== undefined && (
          <span class="dim">
            port {compute.port}, pid {compute.pid}
          </span>
        )}
      </p>
      {running && <Copy text={`psql ${compute.uri}`} label="the psql line" />}
      <Problem text={problem ?? compute?.reason} />
      {job !== undefined && job.state !== "done" && <JobView {...{ live, job }} />}
    </>
  );
}
