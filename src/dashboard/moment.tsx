// The time slider: a moment becomes the LSN at which exactly the commits up to it are visible, and a
// branch can be made there. What is made is what is shown: the LSN, not the moment, is sent.

import type { JSX } from "preact";
import { useEffect, useState } from "preact/hooks";
import type { LsnByTimestamp, TimelineInfo } from "../protocol/api.ts";
import { Problem, useWork } from "./bits.tsx";
import type { Live } from "./live.ts";
import { type MomentRange, localSeconds, localText, momentRange } from "./moment-range.ts";
import { hrefOf } from "./route.ts";

/** The slider has to rest so long before the server is asked, ms. */
const REST_MS = 150;

interface Props {
  readonly live: Live;
  readonly timeline: TimelineInfo;
}

export function Moment({ live, timeline }: Props): JSX.Element {
  const range = useRange(live, timeline);
  const [chosen, setChosen] = useState<number>();
  const at = Math.min(Math.max(chosen ?? range.maxS, range.minS), range.maxS);
  const isNow = at === range.maxS;
  const past = useLsn(live, timeline, at, isNow);
  const found: Found | undefined = isNow ? { kind: "now", lsn: timeline.positions.durable } : past;
  const words = isNow ? "now" : new Date(at * 1000).toLocaleString();
  return (
    <section class="moment">
      <h2>Branch from a moment</h2>
      <input
        type="range"
        aria-label="Moment"
        aria-valuetext={words}
        min={range.minS}
        max={range.maxS}
        step={1}
        value={at}
        onInput={(event) => setChosen(Number(event.currentTarget.value))}
      />
      <div class="ends" aria-hidden="true">
        <span>{new Date(range.minS * 1000).toLocaleString()}</span>
        <span>now</span>
      </div>
      <div class="found">
        <label>
          Moment{" "}
          <input
            type="datetime-local"
            step={1}
            value={localText(at)}
            onChange={(event) => setChosen(localSeconds(event.currentTarget.value) ?? at)}
          />
        </label>
        <output class="lsn" aria-live="polite">
          {found === undefined ? "…" : lsnWords(found)}
        </output>
      </div>
      <BranchForm {...{ live, timeline }} lsn={lsnOf(found)} />
    </section>
  );
}

type Found =
  LsnByTimestamp | { readonly kind: "now"; readonly lsn: string } | { readonly problem: string };

const lsnOf = (found: Found | undefined): string | undefined =>
  found === undefined || "problem" in found || found.kind === "past" || found.kind === "nodata"
    ? undefined
    : found.lsn;

function lsnWords(found: Found): string {
  if ("problem" in found) return found.problem;
  switch (found.kind) {
    case "present":
      return `LSN ${found.lsn}`;
    case "future":
      return `LSN ${found.lsn}, the newest commit`;
    case "now":
      return `LSN ${found.lsn}, all that is durable`;
    case "past":
      return "no commit that old is kept";
    case "nodata":
      return "no commit is known yet: only now can be branched";
  }
}

/** From the oldest readable commit to now; the end moves on. */
function useRange(live: Live, timeline: TimelineInfo): MomentRange {
  const [oldest, setOldest] = useState<number>();
  const { timeline_id: id, min_readable_lsn: cutoff, initdb_lsn: first } = timeline;
  useEffect(() => {
    // Nothing was let go of: its making is the oldest moment, and no commit is older.
    if (cutoff === first) return setOldest(undefined);
    live
      .client(timeline.tenant_id)
      .timestampOfLsn(id, cutoff)
      .then(
        (text) => setOldest(Date.parse(text)),
        () => setOldest(undefined),
      );
  }, [live, id, cutoff, first]);
  return momentRange(Date.parse(timeline.created_at), oldest, Date.now());
}

/** What the server says of the moment, once it has rested there. */
function useLsn(
  live: Live,
  timeline: TimelineInfo,
  seconds: number,
  isNow: boolean,
): Found | undefined {
  const [found, setFound] = useState<Found>();
  useEffect(() => {
    if (isNow) return undefined;
    setFound(undefined);
    let late = false;
    const timer = setTimeout(() => {
      live
        .client(timeline.tenant_id)
        .lsnByTimestamp(timeline.timeline_id, new Date(seconds * 1000).toISOString())
        .then(
          (answer) => !late && setFound(answer),
          (error: unknown) =>
            !late && setFound({ problem: error instanceof Error ? error.message : String(error) }),
        );
    }, REST_MS);
    return () => {
      late = true;
      clearTimeout(timer);
    };
  }, [live, timeline.timeline_id, seconds, isNow]);
  return found;
}

function BranchForm(props: Props & { readonly lsn: string | undefined }): JSX.Element {
  const { live, timeline, lsn } = props;
  const [name, setName] = useState("");
  const { busy, problem, run } = useWork();
  const client = live.client(timeline.tenant_id);
  const branch = async (at: string): Promise<void> => {
    const made = await client.createTimeline({
      name,
      ancestor_timeline_id: timeline.timeline_id,
      ancestor_start_lsn: at,
    });
    live.refresh();
    const { tenant_id: tenant, timeline_id: madeId } = made;
    location.hash = hrefOf({ page: "timeline", tenant, timeline: madeId });
  };
  const snapshot = async (at: string): Promise<void> => {
    await client.createSnapshot(timeline.timeline_id, { name, lsn: at });
    setName("");
    live.refresh();
  };
  const submit = (event: SubmitEvent): void => {
    event.preventDefault();
    if (lsn === undefined) return;
    const button = event.submitter as HTMLButtonElement | null;
    run(() => (button?.value === "snapshot" ? snapshot(lsn) : branch(lsn)));
  };
  return (
    <form onSubmit={submit}>
      <label>
        Name{" "}
        <input
          required
          pattern="[A-Za-z][A-Za-z0-9_.\-]{0,62}"
          title="A letter, then letters, digits, _ . or -"
          value={name}
          onInput={(event) => setName(event.currentTarget.value)}
        />
      </label>
      <button type="submit" disabled={busy || lsn === undefined}>
        Create branch
      </button>
      <button
        type="submit"
        value="snapshot"
        class="second"
        disabled={busy || lsn === undefined}
        title="The moment stays readable under this name until the snapshot is deleted"
      >
        Keep as snapshot
      </button>
      <Problem text={problem} />
    </form>
  );
}
