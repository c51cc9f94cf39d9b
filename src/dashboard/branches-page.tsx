// The start: tenants, and the branch tree of the one that was chosen, as a figure and as a table.

import type { JSX } from "preact";
import { formatBytes } from "../core/human.ts";
import type { TenantInfo, TimelineInfo } from "../protocol/api.ts";
import { BranchFigure } from "./branch-figure.tsx";
import { Empty, State, stateWord } from "./bits.tsx";
import type { Kept, Shown } from "./live.ts";
import { hrefOf } from "./route.ts";
import { families } from "./tree-layout.ts";

export function BranchesPage({ shown }: { readonly shown: Shown }): JSX.Element {
  const { timelines, retention, tenant } = shown;
  const running = new Set(
    shown.computes.filter((one) => one.state === "running").map((one) => one.timeline_id),
  );
  return (
    <>
      <h1>Branches</h1>
      <Tenants tenants={shown.tenants} chosen={tenant} />
      {timelines.length === 0 ? (
        <Empty>
          No timelines yet. Make one: <code>pageserver timeline create main</code>, or follow a
          primary: <code>pageserver follow postgres://… --name prod</code>
        </Empty>
      ) : (
        <>
          {families(timelines, retention).map((family) => (
            <BranchFigure key={family.rows[0]!.timeline.timeline_id} {...{ family, running }} />
          ))}
          <Legend />
          <Table timelines={timelines} retention={retention} />
        </>
      )}
    </>
  );
}

function Tenants(props: {
  readonly tenants: readonly TenantInfo[];
  readonly chosen: string | undefined;
}): JSX.Element | null {
  if (props.tenants.length === 0) return null;
  return (
    <nav class="tenants" aria-label="Tenants">
      {props.tenants.map((one) => (
        <a
          key={one.id}
          href={hrefOf({ page: "branches", tenant: one.id })}
          {...(one.id === props.chosen && { "aria-current": "true" as const })}
        >
          <code title={one.id}>{one.id.slice(0, 8)}…</code>
          {one.is_default && <b>default</b>}
          <State word={one.state.slug} />
          <span class="dim">
            {one.timelines.length} timelines, {formatBytes(one.current_physical_size)}
          </span>
        </a>
      ))}
    </nav>
  );
}

function Legend(): JSX.Element {
  return (
    <ul class="legend" aria-hidden="true">
      <li class="kept">readable</li>
      <li class="older">older than the retention window</li>
      <li class="lag">not received yet</li>
      <li class="durable">durable</li>
      <li class="pin">a snapshot, or pinned</li>
    </ul>
  );
}

function Table(props: {
  readonly timelines: readonly TimelineInfo[];
  readonly retention: ReadonlyMap<string, Kept>;
}): JSX.Element {
  return (
    <table>
      <caption>Timelines</caption>
      <thead>
        <tr>
          {["Name", "State", "Branched from", "Visible", "Stored", "Database", "Behind"].map(
            (name) => (
              <th key={name} scope="col">
                {name}
              </th>
            ),
          )}
        </tr>
      </thead>
      <tbody>
        {props.timelines.map((one) => (
          <Line key={one.timeline_id} info={one} kept={props.retention.get(one.timeline_id)} />
        ))}
      </tbody>
    </table>
  );
}

function Line(props: {
  readonly info: TimelineInfo;
  readonly kept: Kept | undefined;
}): JSX.Element {
  const { info, kept } = props;
  const { tenant_id: tenant, timeline_id: timeline } = info;
  const { lag_bytes: lag, kind } = info.source;
  return (
    <tr>
      <th scope="row">
        <a href={hrefOf({ page: "timeline", tenant, timeline })}>{info.name}</a>
      </th>
      <td>
        <State word={stateWord(info.state)} />
      </td>
      <td>
        {info.ancestor_lsn === undefined
          ? "–"
          : `${info.ancestor_name ?? "?"} at ${info.ancestor_lsn}`}
      </td>
      <td class="number">{info.positions.visible}</td>
      <td class="number">{formatBytes(info.current_physical_size)}</td>
      <td class="number">{kept === undefined ? "–" : formatBytes(kept.logical_size)}</td>
      <td class="number">{kind === "none" || lag === undefined ? "–" : formatBytes(lag)}</td>
    </tr>
  );
}
