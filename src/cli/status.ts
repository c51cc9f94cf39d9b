// `pageserver status`: the live tree of actors with restarts, the timelines, the redo processes.

import { Command } from "commander";
import type { Status, TreeNodeInfo } from "../protocol/api-status.ts";
import { CommandFailed, contextOf } from "./context.ts";
import { formatBytes, formatMs, sourceText, stateText, table } from "./format.ts";

export function statusCommand(): Command {
  return new Command("status")
    .description("what runs, what was restarted and why, how far every timeline is")
    .addHelpText(
      "after",
      "\nExample:\n  pageserver status --json | jq '.tree[] | select(.restarts > 0)'",
    )
    .action(async (_options: unknown, command: Command) => {
      const context = contextOf(command);
      const status: Partial<Status> = await context.client.status();
      if (!isWhole(status)) {
        const what = "the server is there; more is shown to a token of scope pageserverapi";
        throw new CommandFailed(`${what} (PAGESERVER_TOKEN)`);
      }
      context.print(status, () => statusWords(status));
    });
}

/** Without a token that manages the server, its id is all that it shows. */
const isWhole = (status: Partial<Status>): status is Status => status.state !== undefined;

function statusWords(status: Status): string {
  const { redo } = status;
  return [
    `page server ${status.version}, ${status.state}, pid ${status.pid}, up ${formatMs(status.uptime_ms)}`,
    `  page service  ${status.page_service}`,
    `  http          ${status.http}`,
    `  data          ${status.data_dir}`,
    `  memory        ${formatBytes(status.rss_bytes)}, open layers ${formatBytes(status.open_layers_bytes)}`,
    `  redo          ${redo.processes} processes, ${redo.pages} pages, ${redo.failures} failures, ${redo.queued} queued`,
    ...status.alarms.map((alarm) => `  ALARM         ${alarm}`),
    "",
    timelines(status),
    ...alarms(status.timelines),
    "",
    treeWords(status.tree),
  ].join("\n");
}

function timelines(status: Status): string {
  if (status.timelines.length === 0) return "no timelines";
  return table(
    ["TIMELINE", "STATE", "ANCESTOR", "VISIBLE", "DURABLE", "SOURCE"],
    status.timelines.map((line) => [
      line.name,
      stateText(line.state),
      line.ancestor_name ?? "-",
      line.positions.visible,
      line.positions.durable,
      sourceText(line.source),
    ]),
  );
}

/** What somebody should do something about. */
function alarms(timelines: Status["timelines"]): readonly string[] {
  return timelines.flatMap(({ name, damaged_layers: damaged = [] }) =>
    damaged.map(
      ({ file, reason }) =>
        `ALARM: layer ${file} of ${name} is damaged (${reason}); reads that need it fail; restore it from backup`,
    ),
  );
}

/** The tree, children under their parents, however the nodes are ordered. */
export function treeWords(nodes: readonly TreeNodeInfo[]): string {
  const children = new Map<string, TreeNodeInfo[]>();
  const paths = new Set(nodes.map((node) => node.path));
  for (const node of nodes) {
    const parent = parentOf(node.path);
    const under = paths.has(parent) ? parent : "";
    const list = children.get(under) ?? [];
    list.push(node);
    children.set(under, list);
  }
  const lines: string[] = [];
  const draw = (under: string, indent: string): void => {
    const list = children.get(under) ?? [];
    list.forEach((node, i) => {
      const last = i === list.length - 1;
      lines.push(`${indent}${last ? "└─" : "├─"} ${nodeWords(node)}`);
      draw(node.path, `${indent}${last ? "   " : "│  "}`);
    });
  };
  draw("", "");
  return lines.join("\n");
}

const parentOf = (path: string): string => path.slice(0, Math.max(0, path.lastIndexOf("/")));

function nodeWords(node: TreeNodeInfo): string {
  const name = node.path.slice(node.path.lastIndexOf("/") + 1);
  const restarts = node.restarts === 0 ? "" : `, ${node.restarts} restarts`;
  const crash = node.last_crash === undefined ? "" : ` (last crash: ${node.last_crash})`;
  return `${name}  ${node.state}${restarts}${crash}`;
}
