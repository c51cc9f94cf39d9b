// `pageserver job`: long work that was asked for, by whomever: what runs, what came of it.

import { Command } from "commander";
import type { Job } from "../protocol/api-work.ts";
import { contextOf } from "./context.ts";
import { formatMs, table } from "./format.ts";
import { stepLine, watchJob } from "./progress.ts";

/** How long one request waits for the end of what is cancelled, ms. */
const CANCEL_POLL_MS = 1_000;

const HELP = `
Commands that begin long work wait for it. Interrupting them ends the waiting, not the work: it is a job
of the server, and so are sealing, merging, checking and deleting. What is cancelled is undone; a merge
that is cancelled leaves the layers as they were. Deleting cannot be cancelled.

Examples:
  pageserver job list
  pageserver job wait 5c0d7d2e-…
  pageserver job cancel 5c0d7d2e-…
  pageserver job list --json | jq '.[] | select(.state == "failed") | .error'`;

export function jobCommand(): Command {
  const job = new Command("job")
    .description("long work: list, show, wait, cancel")
    .addHelpText("after", HELP);
  job.addCommand(
    new Command("list")
      .description("jobs that run, and the last that ended")
      .addHelpText("after", HELP)
      .action(async (_options: unknown, command: Command) => {
        const context = contextOf(command);
        const jobs = await context.client.jobs();
        context.print(jobs, () => jobTable(jobs));
      }),
  );
  job.addCommand(
    new Command("show")
      .description("a job and its steps")
      .argument("<job>", "id of the job")
      .addHelpText("after", HELP)
      .action(async (id: string, _options: unknown, command: Command) => {
        const context = contextOf(command);
        const found = await context.client.job(id);
        context.print(found, () => jobWords(found));
      }),
  );
  job.addCommand(
    new Command("wait")
      .description("wait for a job's end; exit code 1 if it fails")
      .argument("<job>", "id of the job")
      .addHelpText("after", HELP)
      .action(async (id: string, _options: unknown, command: Command) => {
        const context = contextOf(command);
        const ended = await watchJob(context, await context.client.job(id));
        context.print(ended, () => `${ended.kind} of "${ended.target}" is ${ended.state}`);
      }),
  );
  job.addCommand(
    new Command("cancel")
      .description("tell a job to give up, and wait until it has")
      .argument("<job>", "id of the job")
      .addHelpText("after", HELP)
      .action(async (id: string, _options: unknown, command: Command) => {
        const context = contextOf(command);
        let ended = await context.client.cancelJob(id);
        while (ended.state === "running") ended = await context.client.job(id, CANCEL_POLL_MS);
        context.print(ended, () => `${ended.kind} of "${ended.target}" is ${ended.state}`);
      }),
  );
  return job;
}

function jobTable(jobs: readonly Job[]): string {
  if (jobs.length === 0) return "no jobs since the server was started";
  return table(
    ["ID", "KIND", "TARGET", "STATE", "STARTED", "TIME"],
    jobs.map((job) => [
      ...[job.id, job.kind, job.target],
      job.error === undefined ? job.state : `${job.state}: ${job.error}`,
      job.started_at,
      formatMs(job.ms),
    ]),
  );
}

function jobWords(job: Job): string {
  const end = job.error === undefined ? job.state : `${job.state}: ${job.error}`;
  return [`${job.kind} of "${job.target}", ${end}`, ...job.steps.map(stepLine)].join("\n");
}
