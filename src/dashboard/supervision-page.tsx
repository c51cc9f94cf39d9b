// The live tree of actors: who is whose child, what was restarted and why.

import type { JSX } from "preact";
import type { TreeNodeInfo } from "../protocol/api-status.ts";
import { Empty, State } from "./bits.tsx";
import type { Shown } from "./live.ts";
import { type TreeNode, nest } from "./nest.ts";

export function SupervisionPage({ shown }: { readonly shown: Shown }): JSX.Element {
  const { status } = shown;
  if (status === undefined) {
    return (
      <>
        <h1>Supervision</h1>
        <Empty>The tree needs a token of scope pageserverapi.</Empty>
      </>
    );
  }
  const restarts = status.tree.reduce((sum, node) => sum + node.restarts, 0);
  const names = new Map(status.timelines.map((one) => [one.timeline_id as string, one.name]));
  return (
    <>
      <h1>Supervision</h1>
      <p>
        {status.tree.length} actors, {restarts} restarts. Redo: {status.redo.processes} processes,{" "}
        {status.redo.pages.toLocaleString("en")} pages, {status.redo.failures} failures,{" "}
        {status.redo.queued} queued.
      </p>
      <Nodes nodes={nest(status.tree)} names={names} />
    </>
  );
}

interface NodesProps {
  readonly nodes: readonly TreeNode[];
  readonly names: ReadonlyMap<string, string>;
}

/** Children of one actor that are shown: those that were restarted first. */
const CHILDREN_MAX = 100;

function Nodes({ nodes, names }: NodesProps): JSX.Element {
  const most =
    nodes.length <= CHILDREN_MAX
      ? nodes
      : [...nodes].sort((a, b) => b.info.restarts - a.info.restarts).slice(0, CHILDREN_MAX);
  return (
    <ul class="actors">
      {most.map(({ info, children }) => (
        <li key={info.path}>
          <NodeLine info={info} names={names} />
          {children.length > 0 && <Nodes nodes={children} names={names} />}
        </li>
      ))}
      {most.length < nodes.length && (
        <li class="dim">and {nodes.length - most.length} more that were restarted less often</li>
      )}
    </ul>
  );
}

function NodeLine(props: { readonly info: TreeNodeInfo; readonly names: NodesProps["names"] }) {
  const { info, names } = props;
  const name = info.path.slice(info.path.lastIndexOf("/") + 1);
  const timeline = names.get(/[0-9a-f]{32}$/.exec(name)?.[0] ?? "");
  return (
    <span class="actor">
      <code>{name}</code>
      {timeline !== undefined && <b>{timeline}</b>}
      <State word={info.state} />
      {info.restarts > 0 && <span class="restarts">{info.restarts} restarts</span>}
      <span class="dim">since {new Date(info.since).toLocaleString()}</span>
      {info.last_crash !== undefined && <span class="crash">{info.last_crash}</span>}
    </span>
  );
}
