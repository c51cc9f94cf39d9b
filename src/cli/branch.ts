// `pageserver branch`: a new timeline that shares its ancestor's history up to a moment.

import { Command } from "commander";
import { contextOf } from "./context.ts";
import { branchPoint } from "./moment.ts";

const HELP = `
A branch costs milliseconds and no space, whatever the size of the database. It never changes
its source.

--at takes
  now                        the newest record the server has (the default)
  0/16B3748                  an LSN; it is rounded down to the start of a record
  2026-01-31T10:20:30Z       a moment: all commits up to it, none after it
  "2026-01-31 10:20"         the same in this machine's time zone
  snapshot:monday            a snapshot of the source: pageserver snapshot --help

Examples:
  pageserver branch prod staging
  pageserver branch prod before-the-accident --at "2026-01-31 10:19:59"
  pageserver branch main try --at 0/1A2B3C8 --json`;

export function branchCommand(): Command {
  return new Command("branch")
    .description("make a branch of a timeline, now or at an earlier moment")
    .argument("<source>", "name or id of the timeline to branch from")
    .argument("<name>", "name of the new branch")
    .option("--at <lsn|timestamp|snapshot|now>", "where the branch begins", "now")
    .addHelpText("after", HELP)
    .action(async (source: string, name: string, options: { at: string }, command: Command) => {
      const context = contextOf(command);
      const isId = /^[0-9a-fA-F]{32}$/.test(source);
      const branch = await context.client.createTimeline({
        name,
        ...(isId ? { ancestor_timeline_id: source } : { ancestor_name: source }),
        ...branchPoint(options.at),
      });
      context.print(branch, () =>
        [
          `branch "${branch.name}" of "${source}" at ${branch.ancestor_lsn ?? "?"} ` +
            `in ${branch.server_ms.toFixed(1)} ms`,
          `  boot it:  pageserver compute start ${branch.name}`,
        ].join("\n"),
      );
    });
}
