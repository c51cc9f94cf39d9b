// `pageserver scrub`: reads all of a backup, repairs what can be, reports the rest.

import { Command } from "commander";
import type { ScrubInfo } from "../protocol/api-backup.ts";
import { CommandFailed, contextOf } from "./context.ts";
import { formatBytes } from "./format.ts";
import { watchJob } from "./progress.ts";

const HELP = `
Reads every object that a manifest names and compares it with what was written. What is missing or
corrupt is written again from this server's copy, where it has one. What no manifest names is
reported; --purge deletes it if it is older than backup_purge_age, by the clock of the object storage,
and if the tenant is this server's. Exit code 0: nothing is wrong any more; 1: something remains.

Examples:
  pageserver scrub
  pageserver scrub 0102030405060708090a0b0c0d0e0f10 --purge
  pageserver scrub --json | jq '.problems[] | select(.outcome == "remains")'`;

export function scrubCommand(): Command {
  return new Command("scrub")
    .description("verify and repair what object storage has")
    .argument("[tenant]", "32 hex digits (default: all that are there)")
    .option("--purge", "delete what no manifest names and is old")
    .addHelpText("after", HELP)
    .action(async (tenant: string | undefined, options: { purge?: true }, command: Command) => {
      const context = contextOf(command);
      const request = { ...(tenant !== undefined && { tenant_id: tenant }) };
      const purge = options.purge === true;
      const job = await watchJob(context, await context.client.scrub({ ...request, purge }));
      const report = job.result?.scrub;
      if (report === undefined) throw new CommandFailed(`job ${job.id} ended without a report`);
      context.print(report, () => reportWords(report));
      if (report.remaining > 0) throw new CommandFailed(`${report.remaining} problems remain`);
    });
}

function reportWords(report: ScrubInfo): string {
  const { tenants, timelines, objects, bytes, repaired, deleted, too_young: young } = report;
  const counts = `${tenants} tenants, ${timelines} timelines, ${objects} objects`;
  const done = [
    `${repaired} repaired, ${deleted} deleted`,
    ...(young === 0 ? [] : [`${young} that no manifest names yet`]),
  ];
  return [
    `${report.place}: ${counts}, ${formatBytes(bytes)} read; ${done.join(", ")}`,
    ...report.problems.map(({ kind, name, detail, outcome }) =>
      [`  ${outcome}: ${kind} ${name}`, `    ${detail}`].join("\n"),
    ),
    ...(report.remaining === 0 ? ["nothing is wrong"] : []),
  ].join("\n");
}
