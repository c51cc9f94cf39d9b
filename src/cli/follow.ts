// `pageserver follow`: copy a running primary, then receive its WAL for ever.

import { Command } from "commander";
import { contextOf } from "./context.ts";
import { parseBytes } from "./format.ts";
import { watchJob } from "./progress.ts";

const HELP = `
The primary needs: wal_level = replica or higher (the default), a free walsender and replication
slot, and a role with REPLICATION. It sees one more standby; it is never written to, apart from
the slot that keeps WAL for us while we are away.

Once the base backup is in, the command ends and the server goes on following, also after
restarts of either side.

Examples:
  pageserver follow postgres://replicator:secret@prod:5432/postgres --name prod
  pageserver follow "host=prod user=replicator sslmode=verify-full sslrootcert=/etc/ca.pem" --name prod
  pageserver follow postgres://me@prod/app --name prod --max-rate 20M     (gentle: 20 MiB/s)`;

export function followCommand(): Command {
  return new Command("follow")
    .description("copy a running PostgreSQL primary and follow its WAL")
    .argument("<uri>", "connection string of the primary")
    .requiredOption("--name <name>", "name of the new timeline")
    .option("--max-rate <bytes>", "limit of the base backup a second, e.g. 20M")
    .option(
      "--slot <name>",
      "name of the replication slot (default: made from the timeline's name)",
    )
    .addHelpText("after", HELP)
    .action(
      async (
        uri: string,
        options: { name: string; maxRate?: string; slot?: string },
        command: Command,
      ) => {
        const context = contextOf(command);
        const started = await context.client.follow({
          conninfo: uri,
          name: options.name,
          ...(options.maxRate !== undefined && { max_rate_bytes: parseBytes(options.maxRate) }),
          ...(options.slot !== undefined && { slot: options.slot }),
        });
        const job = await watchJob(context, started);
        context.print(job, () =>
          [
            `following as timeline "${options.name}"`,
            `  how far:  pageserver timeline show ${options.name}`,
            `  branch:   pageserver branch ${options.name} <new-name> --at now`,
          ].join("\n"),
        );
      },
    );
}
