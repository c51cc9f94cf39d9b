// `pageserver fullbackup`: a timeline at an LSN as a data directory of stock PostgreSQL, as a tar to stdout or
// unpacked.

import { Command } from "commander";
import { UnpackFailed, makeEmpty, unpackTar } from "../io/unpack-tar.ts";
import { CommandFailed, contextOf } from "./context.ts";

const HELP = `
Without --recovery a stock PostgreSQL starts on it, right at the LSN. With --recovery it replays WAL from
the archive by its restore_command (pageserver restore-command), to any later point.

Examples:
  pageserver fullbackup prod -D base
  pageserver fullbackup prod --at 0/16B3748 --recovery -D base
  pageserver fullbackup prod | gzip > prod.tar.gz`;

interface Options {
  readonly at?: string;
  readonly recovery?: true;
  readonly directory?: string;
}

export function fullBackupCommand(): Command {
  return new Command("fullbackup")
    .description("a whole data directory of a timeline at an LSN, as a tar to stdout")
    .argument("<timeline>", "name or id")
    .option("--at <lsn>", "e.g. 0/16B3748 (default: the last record)")
    .option("--recovery", "to recover from, with WAL of the archive")
    .option("-D, --directory <dir>", "unpacked there: it is made, or must be empty")
    .addHelpText("after", HELP)
    .action(async (timeline: string, options: Options, command: Command) => {
      const { directory } = options;
      if (directory === undefined && process.stdout.isTTY) {
        const remedy = "unpack it with -D, or send it to a file";
        throw new CommandFailed(`a tar is no sight for a terminal: ${remedy}`);
      }
      const { client } = contextOf(command);
      const use = options.recovery === true ? "recovery" : "start";
      const chunks = () => client.fullBackup(timeline, use, options.at);
      if (directory === undefined) return pour(await chunks());
      try {
        makeEmpty(directory);
        await unpackTar(await chunks(), directory);
      } catch (error) {
        throw error instanceof UnpackFailed ? new CommandFailed(error.message) : error;
      }
    });
}

async function pour(chunks: AsyncIterable<Uint8Array>): Promise<void> {
  for await (const chunk of chunks) {
    if (process.stdout.write(chunk)) continue;
    await new Promise((resolve) => process.stdout.once("drain", resolve));
  }
}
