// `pageserver compute`: stock PostgreSQL servers on timelines, started and stopped by the server.

import { Command, InvalidArgumentError } from "commander";
import { MalformedInput } from "../core/assert.ts";
import { resolve } from "node:path";
import type { ComputeInfo } from "../protocol/api-work.ts";
import { contextOf } from "./context.ts";
import { branchPoint } from "./moment.ts";
import { table } from "./format.ts";
import { watchJob } from "./progress.ts";

const START_HELP = `
PostgreSQL starts with no pages at all, whatever the size of the database, and reads each from the
page server when it is first needed. The server receives its WAL: what is committed there is history
of the timeline and can be branched. The directory of a compute is disposable. A timeline has at most
one compute that writes.

With --at it shows the timeline as it was then, read-only, beside the one that writes and others; the
history it needs is kept until it is stopped (pageserver compute stop staging --at 0/16B3748).

Without --async a commit returns when the page server has it on disk; with --async PostgreSQL
does not wait (the last moments before a crash of the compute can be lost).

With --replace it takes the place of a compute that runs there already. From then on nothing that one
does counts, even if it cannot be ended: its commits are not acknowledged, its reads are refused. All
that was acknowledged is there, but for what a compute with --async had not sent yet.

With --full-copy all pages are copied into the directory first, and PostgreSQL runs as it is.

Examples:
  pageserver compute start staging
  pageserver compute start staging --set shared_buffers=1GB
  pageserver compute start staging --port 55433
  pageserver compute start prod --at "2026-01-31 10:20"
  pageserver compute start prod --at snapshot:before-migration
  psql "$(pageserver compute start try --json | jq -r .result.compute.uri)"`;

export function computeCommand(): Command {
  const compute = new Command("compute").description("start, stop and list PostgreSQL computes");
  compute.addCommand(startCommand());
  compute.addCommand(
    new Command("stop")
      .description("stop the compute of a timeline; its history stays")
      .argument("<timeline>", "name or id of the timeline")
      .option("--at <lsn>", "the read-only one that shows this LSN")
      .addHelpText("after", "\nExample:\n  pageserver compute stop staging")
      .action(async (timeline: string, { at }: { readonly at?: string }, command: Command) => {
        const context = contextOf(command);
        const job = await watchJob(context, await context.client.stopCompute(timeline, at));
        const which = at === undefined ? "" : ` at ${at}`;
        context.print(job, () => `compute of "${timeline}"${which} stopped`);
      }),
  );
  compute.addCommand(
    new Command("list")
      .description("computes of this server")
      .addHelpText("after", "\nExample:\n  pageserver compute list --json")
      .action(async (_options: unknown, command: Command) => {
        const context = contextOf(command);
        const computes = await context.client.computes();
        context.print(computes, () => computeTable(computes));
      }),
  );
  return compute;
}

interface StartOptions {
  readonly port?: string;
  readonly dir?: string;
  readonly fullCopy?: boolean;
  readonly async?: boolean;
  readonly replace?: boolean;
  readonly at?: string;
  readonly set: Readonly<Record<string, string>>;
}

function parseSetting(
  text: string,
  before: Readonly<Record<string, string>>,
): Readonly<Record<string, string>> {
  const [, name, value] = /^([^=]+)=(.*)$/.exec(text) ?? [];
  if (name === undefined || value === undefined) {
    throw new InvalidArgumentError("not of the form name=value");
  }
  return { ...before, [name]: value };
}

function startCommand(): Command {
  return new Command("start")
    .description("boot stock PostgreSQL on a timeline")
    .argument("<timeline>", "name or id of the timeline")
    .option("--port <port>", "port to listen on (default: a free one)")
    .option("--dir <dir>", "data directory (default: chosen by the server)")
    .option("--full-copy", "copy all pages first instead of reading them when they are needed")
    .option("--set <name=value>", "a PostgreSQL setting (repeatable)", parseSetting, {})
    .option("--async", "commits do not wait for the page server")
    .option("--at <moment>", 'read-only, as of an LSN, a time, "snapshot:NAME" or "now"')
    .option("--replace", "take the place of a compute that runs there, ending it by force")
    .addHelpText("after", START_HELP)
    .action(async (timeline: string, options: StartOptions, command: Command) => {
      const context = contextOf(command);
      const started = await context.client.startCompute({
        timeline,
        ...(options.port !== undefined && { port: parsePort(options.port) }),
        ...(options.dir !== undefined && { dir: resolve(options.dir) }),
        ...(Object.keys(options.set).length > 0 && { settings: options.set }),
        ...(options.fullCopy === true && { diskless: false }),
        ...(options.async === true && { synchronous: false }),
        ...(options.replace === true && { replace: true }),
        ...(options.at !== undefined && fixedAt(options.at)),
      });
      const job = await watchJob(context, started);
      context.print(job, () => startedWords(timeline, job.result?.compute));
    });
}

/** Throws MalformedInput. */
function fixedAt(at: string) {
  const {
    ancestor_start_lsn: lsn,
    ancestor_start_timestamp: timestamp,
    ancestor_start_snapshot: snapshot,
  } = branchPoint(at);
  return {
    read_only: true,
    ...(lsn !== undefined && { lsn }),
    ...(timestamp !== undefined && { timestamp }),
    ...(snapshot !== undefined && { snapshot }),
  };
}

function startedWords(timeline: string, compute: ComputeInfo | undefined): string {
  if (compute === undefined) return `compute of "${timeline}" runs`;
  const fixed = compute.read_only === true;
  return [
    `PostgreSQL ${fixed ? "shows" : "runs on"} "${timeline}"${fixed ? `, read-only, at ${compute.start_lsn}` : ""}`,
    `  psql:  psql ${compute.uri}`,
    `  log:   ${compute.log}`,
    `  stop:  pageserver compute stop ${timeline}${fixed ? ` --at ${compute.start_lsn}` : ""}`,
  ].join("\n");
}

function computeTable(computes: readonly ComputeInfo[]): string {
  if (computes.length === 0) return "no computes; start one: pageserver compute start <timeline>";
  return table(
    ["TIMELINE", "STATE", "PORT", "PID", "URI", "LOG"],
    computes.map((compute) => [
      compute.read_only === true ? `${compute.timeline} at ${compute.start_lsn}` : compute.timeline,
      compute.reason === undefined ? compute.state : `${compute.state}: ${compute.reason}`,
      String(compute.port),
      String(compute.pid ?? "-"),
      compute.uri,
      // A compute's log goes with its directory when it is stopped.
      compute.state === "stopped" ? "-" : compute.log,
    ]),
  );
}

function parsePort(text: string): number {
  const port = /^\d{1,5}$/.test(text) ? Number(text) : 0;
  if (port < 1 || port > 65_535) {
    throw new MalformedInput(`--port: not a port: "${text}" (expected 1 to 65535)`);
  }
  return port;
}
