// `pageserver drill`: restores a sample of a backup for a trial and compares it with what is served.

import { Command, InvalidArgumentError } from "commander";
import type { DrillInfo, DrilledTimeline } from "../protocol/api-backup.ts";
import { CommandFailed, contextOf } from "./context.ts";
import { formatBytes } from "./format.ts";
import { watchJob } from "./progress.ts";

const HELP = `
Takes the manifests from object storage, restores some layers of each timeline into a scratch folder of the
data directory, makes pages of them as of some LSNs, and compares those with what the server gives to a compute.
The server does so by itself each backup_drill_every. Exit code 0: what was sampled is as it must be; 1: not.

Examples:
  pageserver drill
  pageserver drill 0102030405060708090a0b0c0d0e0f10
  pageserver drill --json | jq '.timelines[] | {name, verified_lsn}'`;

export function drillCommand(): Command {
  return new Command("drill")
    .description("restore a sample of backups for a trial, and compare")
    .argument("[tenant]", "32 hex digits (default: all of this server)")
    .option("--seed <number>", "repeat the choices of another drill", parseSeed)
    .addHelpText("after", HELP)
    .action(async (tenant: string | undefined, options: { seed?: number }, command: Command) => {
      const context = contextOf(command);
      const { seed } = options;
      const request = {
        ...(tenant !== undefined && { tenant_id: tenant }),
        ...(seed !== undefined && { seed }),
      };
      const job = await watchJob(context, await context.client.drill(request));
      const report = job.result?.drill;
      if (report === undefined) throw new CommandFailed(`job ${job.id} ended without a report`);
      context.print(report, () => reportWords(report));
      if (report.problems > 0) throw new CommandFailed(`${report.problems} problems in the backup`);
    });
}

function parseSeed(text: string): number {
  const seed = Number(text);
  if (/^\d{1,10}$/.test(text) && seed < 2 ** 32) return seed;
  throw new InvalidArgumentError("it must be a number from 0 to 4294967295");
}

function reportWords({ place, seed, bytes, problems, timelines }: DrillInfo): string {
  return [
    `${place}: ${timelines.length} timelines, ${formatBytes(bytes)} restored (seed ${seed})`,
    ...timelines.flatMap(timelineWords),
    ...(problems === 0 ? ["nothing is wrong"] : []),
  ].join("\n");
}

function timelineWords(one: DrilledTimeline): readonly string[] {
  const skipped = one.skipped === 0 ? "" : `, ${one.skipped} could not be compared`;
  const verified =
    one.verified_lsn === undefined ? "never verified" : `verified to ${one.verified_lsn}`;
  return [
    `  ${one.name}: ${one.pages} pages of ${one.layers} layers are as served${skipped}; ${verified}`,
    ...one.problems.map(({ kind, name, detail }) => `    ${kind} ${name}\n      ${detail}`),
  ];
}
