// `pageserver check`: walks the whole store of the running server and reports what is broken.

import { Command } from "commander";
import type { CheckReport } from "../protocol/api-status.ts";
import { CommandFailed, contextOf } from "./context.ts";
import { formatMs } from "./format.ts";
import { waiting } from "./progress.ts";

const HELP = `
Reads every layer and every value and compares them with docs/invariants.md. Exit code 0 means
that everything was read and holds; 1 that something is broken (each with the invariant's number).

Example:
  pageserver check --json`;

export function checkCommand(): Command {
  return new Command("check")
    .description("verify everything that is stored")
    .addHelpText("after", HELP)
    .action(async (_options: unknown, command: Command) => {
      const context = contextOf(command);
      const report = await waiting(context, "checking", context.client.check());
      context.print(report, () => reportWords(report));
      if (report.problems.length > 0) {
        throw new CommandFailed(`${report.problems.length} problems found`);
      }
    });
}

export function reportWords(report: CheckReport): string {
  const seen = `${report.layers} layers, ${report.versions} versions in ${formatMs(report.ms)}`;
  if (report.problems.length === 0) return `clean: ${seen}`;
  return [`checked ${seen}`, ...report.problems.map((problem) => `  ${problem}`)].join("\n");
}
