// `pageserver check`: walks the whole store of the running server and reports what is broken.

import { Command } from "commander";
import type { CheckReport } from "../protocol/api-status.ts";
import { CommandFailed, contextOf } from "./context.ts";
import { formatMs } from "./format.ts";
import { waiting } from "./progress.ts";

const HELP = `
Reads every layer and every value and compares them with docs/invariants.md. Exit code 0 means
that everything that was read holds; 1 that something is broken (each with the invariant's number).

Example:
  pageserver check --json`;

export function checkCommand(): Command {
  return new Command("check")
    .description("verify everything that is stored")
    .option("--fetch", "fetch layers that are in object storage only, and check them, too")
    .addHelpText("after", HELP)
    .action(async (options: { fetch?: boolean }, command: Command) => {
      const context = contextOf(command);
      const asked = context.client.check(options.fetch === true);
      const report = await waiting(context, "checking", asked);
      context.print(report, () => reportWords(report));
      if (report.problems.length > 0) {
        throw new CommandFailed(`${report.problems.length} problems found`);
      }
    });
}

export function reportWords(report: CheckReport): string {
  const seen = `${report.layers} layers, ${report.versions} versions in ${formatMs(report.ms)}`;
  const { remote_layers: remote, problems } = report;
  const lines = [problems.length === 0 ? `clean: ${seen}` : `checked ${seen}`];
  if (remote > 0) lines.push(`${remote} layers are remote, not checked (use --fetch)`);
  return [...lines, ...problems.map((problem) => `  ${problem}`)].join("\n");
}
