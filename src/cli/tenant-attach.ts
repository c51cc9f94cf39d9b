// `pageserver tenant attach` and `restore`: a tenant comes from its backup.

import { Command } from "commander";
import { contextOf } from "./context.ts";
import { branchPoint } from "./moment.ts";
import { watchJob } from "./progress.ts";

const ATTACH_HELP = `
The server takes the tenant over from object storage: it serves reads at once and fetches layers when
they are read. Whichever server had it before is fenced: it writes nothing to the backup any more.

Examples:
  pageserver tenant attach 0102030405060708090a0b0c0d0e0f10
  pageserver tenant restore 0102030405060708090a0b0c0d0e0f10        (and fetches everything)`;

export function attachCommand(): Command {
  return new Command("attach")
    .description("take a tenant over from its backup; layers come when they are read")
    .argument("<id>", "32 hex digits")
    .addHelpText("after", ATTACH_HELP)
    .action(async (id: string, _options: unknown, command: Command) => {
      const context = contextOf(command);
      const job = await watchJob(context, await context.client.attachTenant(id, false));
      context.print(job, () => `attached tenant ${id}`);
    });
}

export function restoreCommand(): Command {
  return new Command("restore")
    .description("attach a tenant and fetch all that it has")
    .argument("<id>", "32 hex digits")
    .option("--at <time>", "also make a branch of each timeline as it was then: NAME-restored")
    .addHelpText("after", ATTACH_HELP)
    .action(async (id: string, options: { at?: string }, command: Command) => {
      const context = contextOf(command);
      const moment = options.at === undefined ? undefined : branchPoint(options.at);
      const job = await watchJob(context, await context.client.attachTenant(id, true));
      const client = context.client.of(id);
      const made: string[] = [];
      if (moment !== undefined) {
        for (const { name, timeline_id: ancestor } of await client.timelines()) {
          const branch = { name: `${name}-restored`, ancestor_timeline_id: ancestor };
          const { name: branched } = await client.createTimeline({ ...branch, ...moment });
          made.push(branched);
        }
      }
      context.print({ ...job, branches: made }, () =>
        [`restored tenant ${id}`, ...made.map((name) => `  branch "${name}"`)].join("\n"),
      );
    });
}
