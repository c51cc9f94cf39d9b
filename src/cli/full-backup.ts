// `pageserver fullbackup`: a timeline at an LSN as a data directory of stock PostgreSQL, as a tar to stdout.

import { Command } from "commander";
import { CommandFailed, contextOf } from "./context.ts";

const HELP = `
Without --recovery a stock PostgreSQL starts on it, right at the LSN. With --recovery it replays WAL from
the archive by its restore_command (pageserver restore-command), to any later point.

Examples:
  mkdir -m 700 base && pageserver fullbackup prod | tar -x -C base
  mkdir -m 700 base && pageserver fullbackup prod --at 0/16B3748 --recovery | tar -x -C base`;

export function fullBackupCommand(): Command {
  return new Command("fullbackup")
    .description("a whole data directory of a timeline at an LSN, as a tar to stdout")
    .argument("<timeline>", "name or id")
    .option("--at <lsn>", "e.g. 0/16B3748 (default: the last record)")
    .option("--recovery", "to recover from, with WAL of the archive")
    .addHelpText("after", HELP)
    .action(
      async (timeline: string, options: { at?: string; recovery?: true }, command: Command) => {
        if (process.stdout.isTTY) {
          throw new CommandFailed(
            "a tar is no sight for a terminal: send it to tar -x, or to a file",
          );
        }
        const { client } = contextOf(command);
        const use = options.recovery === true ? "recovery" : "start";
        for await (const chunk of await client.fullBackup(timeline, use, options.at)) {
          if (process.stdout.write(chunk)) continue;
          await new Promise((resolve) => process.stdout.once("drain", resolve));
        }
      },
    );
}
