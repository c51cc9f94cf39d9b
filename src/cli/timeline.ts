// `pageserver timeline`: list, show, create, wait.

import { setTimeout as sleep } from "node:timers/promises";
import { Command } from "commander";
import { MalformedInput } from "../core/assert.ts";
import { Lsn } from "../core/lsn.ts";
import type { BackupInfo, TimelineInfo } from "../protocol/api.ts";
import { CommandFailed, contextOf } from "./context.ts";
import { checkpointCommand, lsnAtCommand, timeAtCommand } from "./timeline-time.ts";
import { compactCommand, deleteCommand, gcCommand, retentionCommand } from "./retention.ts";
import { formatBytes, formatMs, sourceText, stateText, table } from "./format.ts";

/** How often `wait` asks, ms. */
const WAIT_POLL_MS = 100;

const WAIT_HELP = `
Waits until the timeline can be read at an LSN: "everything that was committed before this".

Example:
  lsn=$(psql -Atc 'select pg_current_wal_flush_lsn()')
  pageserver timeline wait prod --lsn "$lsn" --position durable --timeout 10`;

export function timelineCommand(): Command {
  const timeline = new Command("timeline").description("list, show, create and wait for timelines");
  timeline.addCommand(listCommand());
  timeline.addCommand(showCommand());
  timeline.addCommand(createCommand());
  timeline.addCommand(waitCommand());
  timeline.addCommand(lsnAtCommand());
  timeline.addCommand(timeAtCommand());
  timeline.addCommand(checkpointCommand());
  timeline.addCommand(retentionCommand());
  timeline.addCommand(gcCommand());
  timeline.addCommand(compactCommand());
  timeline.addCommand(deleteCommand());
  return timeline;
}

function listCommand(): Command {
  return new Command("list")
    .description("all timelines, how far they are and where their WAL comes from")
    .addHelpText("after", "\nExample:\n  pageserver timeline list --json | jq '.[].name'")
    .action(async (_options: unknown, command: Command) => {
      const context = contextOf(command);
      const timelines = await context.client.timelines();
      context.print(timelines, () => timelineTable(timelines));
    });
}

function showCommand(): Command {
  return new Command("show")
    .description("everything about one timeline")
    .argument("<timeline>", "name or id")
    .addHelpText("after", "\nExample:\n  pageserver timeline show prod")
    .action(async (nameOrId: string, _options: unknown, command: Command) => {
      const context = contextOf(command);
      const info = await context.client.timelineSized(nameOrId);
      context.print(info, () => timelineWords(info));
    });
}

function createCommand(): Command {
  return new Command("create")
    .description("a new, empty database (initdb) as a timeline without ancestor")
    .argument("<name>", "name of the new timeline")
    .addHelpText("after", "\nExample:\n  pageserver timeline create main")
    .action(async (name: string, _options: unknown, command: Command) => {
      const context = contextOf(command);
      const created = await context.client.createTimeline({ name });
      context.print(
        created,
        () => `timeline "${created.name}" created in ${formatMs(created.server_ms)}`,
      );
    });
}

function waitCommand(): Command {
  return new Command("wait")
    .description("wait until a timeline has reached an LSN")
    .argument("<timeline>", "name or id")
    .requiredOption("--lsn <lsn>", "the LSN to wait for")
    .option("--position <name>", "received, visible, durable or uploaded", "visible")
    .option("--timeout <seconds>", "give up after this long", "60")
    .addHelpText("after", WAIT_HELP)
    .action(
      async (
        nameOrId: string,
        options: { lsn: string; position: string; timeout: string },
        command: Command,
      ) => {
        const context = contextOf(command);
        const lsn = Lsn.parse(options.lsn);
        const position = parsePosition(options.position);
        const deadline = performance.now() + parseSeconds(options.timeout) * 1000;
        for (;;) {
          const info = await context.client.timeline(nameOrId);
          const at = info.positions[position];
          if (Lsn.parse(at) >= lsn) {
            return context.print(info, () => `${info.name}: ${position} ${at}`);
          }
          if (typeof info.state !== "string") throw new CommandFailed(stateText(info.state));
          if (performance.now() >= deadline) {
            throw new CommandFailed(
              `${info.name} is ${position} up to ${at} only, after ${options.timeout} s; ` +
                `its source: ${sourceText(info.source)}`,
            );
          }
          await sleep(WAIT_POLL_MS);
        }
      },
    );
}

type Position = keyof TimelineInfo["positions"];
const POSITIONS: readonly Position[] = ["received", "visible", "durable", "uploaded"];

function parsePosition(text: string): Position {
  const position = POSITIONS.find((name) => name === text);
  if (position === undefined) {
    throw new MalformedInput(`--position: not one of ${POSITIONS.join(", ")}: "${text}"`);
  }
  return position;
}

function parseSeconds(text: string): number {
  const seconds = Number(text);
  if (!(seconds >= 0 && seconds <= 86_400)) {
    throw new MalformedInput(`--timeout: not seconds between 0 and 86400: "${text}"`);
  }
  return seconds;
}

function timelineTable(timelines: readonly TimelineInfo[]): string {
  if (timelines.length === 0) {
    return "no timelines; make one: pageserver timeline create main, or pageserver follow <uri>";
  }
  return table(
    ["NAME", "STATE", "ANCESTOR", "AT", "VISIBLE", "DURABLE", "SIZE", "SOURCE"],
    timelines.map((info) => [
      info.name,
      stateText(info.state),
      info.ancestor_name ?? "-",
      info.ancestor_lsn ?? "-",
      info.positions.visible,
      info.positions.durable,
      formatBytes(info.current_physical_size),
      sourceText(info.source),
    ]),
  );
}

function timelineWords(info: TimelineInfo): string {
  const rows: (readonly [string, string])[] = [
    ["name", info.name],
    ["id", info.timeline_id],
    ["tenant", info.tenant_id],
    ["state", stateText(info.state)],
    ["PostgreSQL", `${info.pg_version}, system ${info.system_id}`],
    ["created", info.created_at],
    [
      "ancestor",
      info.ancestor_lsn === undefined
        ? "none"
        : `${info.ancestor_name ?? info.ancestor_timeline_id ?? "?"} at ${info.ancestor_lsn}`,
    ],
    ["received", info.positions.received],
    ["visible", info.positions.visible],
    ["durable", info.positions.durable],
    ["uploaded", info.positions.uploaded],
    ["readable from", info.min_readable_lsn],
    ["size", `${formatBytes(info.current_physical_size)} in ${info.layers} sealed layers`],
    ...(info.damaged_layers ?? []).map(
      ({ file, reason }) =>
        ["DAMAGED", `${file}: ${reason}; restore it from backup`] satisfies [string, string],
    ),
    ["source", sourceText(info.source)],
  ];
  const { sizes, backup } = info;
  if (backup !== undefined) {
    rows.push(["backup", backupText(backup)], ["layers", residenceText(backup)]);
  }
  if (sizes !== undefined) {
    rows.push(
      ["logical size", formatBytes(sizes.logical)],
      ["on disk", `${formatBytes(sizes.physical)}, of it WAL ${formatBytes(sizes.wal)}`],
      ["history", `${formatBytes(sizes.history)} of WAL can be read`],
    );
    if (sizes.synthetic !== undefined) {
      rows.push(["whole tree", `${formatBytes(sizes.synthetic)} if nothing were stored twice`]);
    }
  }
  if (info.source.conninfo !== undefined) rows.push(["connection", info.source.conninfo]);
  return rows.map(([name, value]) => `${name.padEnd(14)} ${value}`).join("\n");
}

function backupText({ state, reason, lag_bytes: lag, layers_waiting: layers }: BackupInfo): string {
  if (state !== "backing-up") return `${state}: ${reason ?? "?"}`;
  return `${formatBytes(lag)} of WAL and ${layers} layers to go`;
}

function residenceText(info: BackupInfo): string {
  const here = `${info.local_layers} here (${formatBytes(info.local_bytes)})`;
  const away = `${info.remote_layers} in object storage only (${formatBytes(info.remote_bytes)})`;
  return `${here}, ${away}; ${info.evicted_layers} left the disk, ${info.fetched_layers} came`;
}
