// One timeline: what it does just now, its history to branch from, its compute, its facts.

import type { JSX } from "preact";
import { formatBytes, formatMs } from "../core/human.ts";
import type { TimelineInfo } from "../protocol/api.ts";
import { Empty, Problem, State, stateReason, stateWord } from "./bits.tsx";
import { Chart } from "./chart.tsx";
import { ComputeOf } from "./computes-page.tsx";
import type { Kept, Live, Shown } from "./live.ts";
import { Moment } from "./moment.tsx";
import { pinWords } from "./tree-layout.ts";

export function TimelinePage(props: {
  readonly live: Live;
  readonly shown: Shown;
  readonly id: string;
}): JSX.Element {
  const { live, shown, id } = props;
  const info = shown.timelines.find((one) => one.timeline_id === id || one.name === id);
  if (info === undefined) {
    return shown.tenant === undefined ? (
      <Empty>Asking the server …</Empty>
    ) : (
      <Empty>This tenant has no timeline {id}.</Empty>
    );
  }
  return (
    <>
      <h1>
        {info.name} <State word={stateWord(info.state)} />
      </h1>
      <Problem text={stateReason(info.state) ?? info.source.reason} />
      <Charts live={live} id={info.timeline_id} />
      <Moment live={live} timeline={info} />
      <ComputeOf {...{ live, shown }} timeline={info} />
      <Facts info={info} kept={shown.retention.get(info.timeline_id)} />
    </>
  );
}

const perSecond = (value: number): string => `${formatBytes(value)}/s`;
const count = (value: number): string =>
  `${value >= 100 ? Math.round(value).toLocaleString("en") : Number(value.toPrecision(2))}/s`;
const milliseconds = (value: number): string =>
  value < 10 ? `${Number(value.toPrecision(2))} ms` : formatMs(value);

function Charts({ live, id }: { readonly live: Live; readonly id: string }): JSX.Element {
  const { at, wal, reads, latencyMs, lag } = live.history.of(id);
  return (
    <section class="charts" aria-label="The last five minutes">
      <Chart title="WAL received" {...{ at, values: wal, format: perSecond }} base={2} />
      <Chart title="Pages read" {...{ at, values: reads, format: count }} base={10} />
      <Chart
        title="Time of a read"
        {...{ at, values: latencyMs, format: milliseconds }}
        base={10}
      />
      <Chart title="Behind its source" {...{ at, values: lag, format: formatBytes }} base={2} />
    </section>
  );
}

function Facts(props: {
  readonly info: TimelineInfo;
  readonly kept: Kept | undefined;
}): JSX.Element {
  const { info, kept } = props;
  const { positions, source } = info;
  const rows: (readonly [string, string])[] = [
    ["Id", info.timeline_id],
    ["PostgreSQL", `${info.pg_version}, system ${info.system_id}`],
    ["Made", new Date(info.created_at).toLocaleString()],
    [
      "Branched from",
      info.ancestor_lsn === undefined
        ? "nothing: it is a root"
        : `${info.ancestor_name ?? info.ancestor_timeline_id ?? "?"} at ${info.ancestor_lsn}`,
    ],
    ["Received", positions.received],
    ["Visible", positions.visible],
    ["Durable", positions.durable],
    ["Uploaded", positions.uploaded],
    ["Readable from", info.min_readable_lsn],
    [
      "Stored",
      `${formatBytes(info.current_physical_size)} in ${info.layers} ${info.layers === 1 ? "layer" : "layers"}`,
    ],
    ["WAL comes from", source.kind === "none" ? "nowhere" : `${source.kind}, ${source.connection}`],
  ];
  if (source.conninfo !== undefined) rows.push(["Connection", source.conninfo]);
  if (kept !== undefined) rows.push(...keptRows(kept));
  return (
    <section>
      <h2>Facts</h2>
      <dl class="facts">
        {rows.map(([name, value]) => (
          <div key={name}>
            <dt>{name}</dt>
            <dd>{value}</dd>
          </div>
        ))}
      </dl>
    </section>
  );
}

function keptRows(kept: Kept): readonly (readonly [string, string])[] {
  const days = (kept.window_ms / 86_400_000).toFixed(1);
  const pins = kept.pins.map((pin) => `${pin.lsn} for ${pinWords(pin)}`);
  const named = kept.snapshots.map(({ name, lsn }) => `${name} at ${lsn}`);
  return [
    ["Database", formatBytes(kept.logical_size)],
    ["Retention", `${days} days and at least ${formatBytes(kept.wal_bytes)} of WAL`],
    ["Kept below", pins.length === 0 ? "nothing" : pins.join(", ")],
    ["Snapshots", named.length === 0 ? "none" : named.join(", ")],
    ["Merging", kept.failure ?? (kept.merging ? "now" : "nothing to do")],
  ];
}
