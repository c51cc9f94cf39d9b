// The branch tree along the LSN axis, as SVG. Drawn from families(): this says only what a bar looks
// like. Every bar is a link to its timeline; the table under the figure says the same in words.
//
//   ─ ─ ═══════════│══════╪─ ─ ─
//    |      |      |      |    what the source has and we have not
//    |      |      |      fsynced up to here
//    |      |      a pin: kept below the cutoff
//    |      readable: the retention window
//    older than what is kept

import type { JSX } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import { Lsn } from "../core/lsn.ts";
import { formatBytes } from "../core/human.ts";
import { hrefOf } from "./route.ts";
import { type Family, type Row, ticks } from "./tree-layout.ts";

const ROW = 34;
const TOP = 8;
const AXIS = 26;
/** Room for the names, right of the bars. */
const NAMES = 230;
const LEFT = 16;
/** A branch of a second ago must be seen, too. */
const BAR_MIN = 4;

export function BranchFigure(props: {
  readonly family: Family;
  /** Ids of timelines with a compute that runs. */
  readonly running: ReadonlySet<string>;
}): JSX.Element {
  const { family, running } = props;
  const [box, width] = useWidth();
  const span = Math.max(120, width - NAMES - LEFT);
  const x = (lsn: number): number =>
    LEFT + (Math.max(0, lsn - family.min) / (family.max - family.min)) * span;
  const height = TOP + family.rows.length * ROW + AXIS;
  const root = family.rows[0]!.timeline.name;
  return (
    <div ref={box} class="tree">
      <svg width={width} height={height} role="group" aria-label={`Branches of ${root}`}>
        <Axis family={family} x={x} y={height - AXIS} count={Math.floor(span / 130)} />
        {family.rows.map((row, i) => (
          <Connector key={row.timeline.timeline_id} row={row} at={i} x={x} />
        ))}
        {family.rows.map((row, i) => (
          <Bar
            key={row.timeline.timeline_id}
            {...{ row, x }}
            y={middle(i)}
            end={LEFT + span}
            running={running.has(row.timeline.timeline_id)}
          />
        ))}
      </svg>
    </div>
  );
}

const middle = (row: number): number => TOP + row * ROW + ROW / 2;

function useWidth(): [{ readonly current: HTMLDivElement | null }, number] {
  const box = useRef<HTMLDivElement>(null);
  const [width, setWidth] = useState(800);
  useEffect(() => {
    const seen = new ResizeObserver(([entry]) => {
      if (entry !== undefined) setWidth(Math.max(360, Math.floor(entry.contentRect.width)));
    });
    seen.observe(box.current!);
    return () => seen.disconnect();
  }, []);
  return [box, width];
}

interface AxisProps {
  readonly family: Family;
  readonly x: (lsn: number) => number;
  readonly y: number;
  readonly count: number;
}

function Axis({ family, x, y, count }: AxisProps): JSX.Element {
  return (
    <g class="axis" aria-hidden="true">
      {ticks(family.min, family.max, Math.max(2, count)).map((lsn) => (
        <g key={lsn} transform={`translate(${x(lsn)} 0)`}>
          <line y1={TOP} y2={y} />
          <text y={y + 16} text-anchor="middle">
            {Lsn.format(lsn as Lsn)}
          </text>
        </g>
      ))}
    </g>
  );
}

interface ConnectorProps {
  readonly row: Row;
  readonly at: number;
  readonly x: (lsn: number) => number;
}

function Connector({ row, at, x }: ConnectorProps): JSX.Element | null {
  if (row.parent === undefined) return null;
  const [left, from, to] = [x(row.from), middle(row.parent), middle(at)];
  return <path class="connector" d={`M${left} ${from}V${to - 6}q0 6 6 6`} />;
}

interface BarProps {
  readonly row: Row;
  readonly x: (lsn: number) => number;
  readonly y: number;
  readonly end: number;
  readonly running: boolean;
}

function Bar({ row, x, y, end, running }: BarProps): JSX.Element {
  const { timeline } = row;
  const from = x(row.from);
  const cutoff = x(row.cutoff);
  const visible = Math.max(x(row.visible), cutoff + BAR_MIN);
  const lag = row.source - row.visible;
  const broken = typeof timeline.state !== "string";
  const href = hrefOf({
    page: "timeline",
    tenant: timeline.tenant_id,
    timeline: timeline.timeline_id,
  });
  const facts = [
    formatBytes(timeline.current_physical_size),
    ...(lag > 0 ? [`${formatBytes(lag)} behind`] : []),
    ...(running ? ["compute runs"] : []),
    ...(broken ? ["broken"] : []),
  ].join(", ");
  return (
    <a href={href} class={broken ? "bar broken" : "bar"} aria-label={`${timeline.name}: ${facts}`}>
      <title>{barTitle(row)}</title>
      <rect class="hit" x={0} y={y - ROW / 2} width={end + NAMES} height={ROW} />
      {cutoff > from && <line class="older" x1={from} x2={cutoff} y1={y} y2={y} />}
      <rect class="kept" x={cutoff} y={y - 5} width={visible - cutoff} height={10} rx={3} />
      {lag > 0 && <line class="lag" x1={visible} x2={x(row.source)} y1={y} y2={y} />}
      <line class="durable" x1={x(row.durable)} x2={x(row.durable)} y1={y - 8} y2={y + 8} />
      {row.pins.map((pin) => (
        <path key={pin.lsn} class="pin" d={`M${x(pin.lsn)} ${y - 9}l4 -6h-8z`}>
          <title>{pin.what}</title>
        </path>
      ))}
      {running && <circle class="running" cx={end + 14} cy={y} r={4} />}
      <text x={end + 24} y={y - 1} class="name">
        {timeline.name}
      </text>
      <text x={end + 24} y={y + 12} class="facts">
        {facts}
      </text>
    </a>
  );
}

function barTitle(row: Row): string {
  const { positions } = row.timeline;
  return [
    `begins at ${Lsn.format(row.from as Lsn)}`,
    `readable from ${Lsn.format(row.cutoff as Lsn)}`,
    `durable up to ${positions.durable}`,
    `visible up to ${positions.visible}`,
  ].join("\n");
}
