// `pageserver restore-command`: what PostgreSQL's restore_command calls, for point-in-time recovery from
// the archive in object storage. Exit codes are PostgreSQL's contract: 0 the file is there, 1 the
// archive has no such file; whatever else goes wrong ends recovery (context.ts, exitCode).

import { Command } from "commander";
import { EXIT, NotInArchive } from "./context.ts";

const HELP = `
In postgresql.conf of the server that is to recover (ids: pageserver timeline list --json):
  restore_command = 'pageserver restore-command --config /etc/pageserver.toml TENANT/TIMELINE %f %p'

No page server has to run. Credentials and keys come from the environment and the settings, as those of
pageserver serve. Exit code 0: restored; 1: the archive has no such file, which ends recovery
there; ${EXIT.fatal}: it cannot be said, and PostgreSQL stops instead of ending recovery too early.`;

export function restoreCommandCommand(): Command {
  return new Command("restore-command")
    .description("fetch a WAL segment from a backup, for PostgreSQL's restore_command")
    .argument("<tenant/timeline>", "32 hex digits each")
    .argument("<file>", "%f")
    .argument("<path>", "%p")
    .option("--config <file>", "TOML file of settings (default: PAGESERVER_CONFIG)")
    .option("--backup <place>", "s3://BUCKET/PREFIX or file:///DIRECTORY")
    .addHelpText("after", HELP)
    .action(
      async (
        timeline: string,
        file: string,
        path: string,
        options: { config?: string; backup?: string },
      ) => {
        const { restoreFromArchive } = await import("../main.ts");
        const flags = { backup: options.backup };
        const done = await restoreFromArchive(flags, options.config, { timeline, file, path });
        if (done === "absent") throw new NotInArchive(`the archive has no ${file}`);
      },
    );
}
