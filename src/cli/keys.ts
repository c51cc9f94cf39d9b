// `pageserver keys`: the keys that objects in a backup are encrypted with.

import { Command } from "commander";
import { CommandFailed, contextOf } from "./context.ts";
import { watchJob } from "./progress.ts";

const HELP = `
Each tenant has a key of its own, which is in object storage, wrapped by a master key. To change the master
key: add a new one as the last line of backup_key_file, restart the servers that use the place, rotate,
and take the old one out of the file.

Example:
  echo "2026-02:$(openssl rand -base64 32)" >> /etc/pageserver/backup-keys
  pageserver keys rotate`;

export function keysCommand(): Command {
  const keys = new Command("keys")
    .description("keys of encrypted backups: rotate")
    .addHelpText("after", HELP);
  keys.addCommand(
    new Command("rotate")
      .description(
        "wrap the keys of all tenants with the newest master key; objects stay as they are",
      )
      .addHelpText("after", HELP)
      .action(async (_options: unknown, command: Command) => {
        const context = contextOf(command);
        const job = await watchJob(context, await context.client.rotateKeys());
        const done = job.result?.keys;
        if (done === undefined) throw new CommandFailed(`job ${job.id} ended without a report`);
        context.print(done, () => {
          const { master, rotated, unchanged, not_encrypted: plain } = done;
          const rest = plain === 0 ? "" : `; ${plain} tenants are not encrypted`;
          return `master key "${master}": ${rotated} keys wrapped anew, ${unchanged} were already${rest}`;
        });
      }),
  );
  return keys;
}
