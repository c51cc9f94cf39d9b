// `pageserver`: one program for serving and for asking. All commands but `serve` and the offline
// checks go through the management API, so whatever a person can do, a program can do.

import { Command, CommanderError, Option } from "commander";
import { branchCommand } from "./branch.ts";
import { completeCommand, completionCommand } from "./completion.ts";
import { checkCommand } from "./check.ts";
import { computeCommand } from "./compute.ts";
import { configCommand } from "./config.ts";
import { DEFAULT_API, EXIT, exitCode, failure } from "./context.ts";
import { doctorCommand } from "./doctor.ts";
import { drillCommand } from "./drill.ts";
import { dumpCommand } from "./dump.ts";
import { followCommand } from "./follow.ts";
import { fullBackupCommand } from "./full-backup.ts";
import { jobCommand } from "./job.ts";
import { keysCommand } from "./keys.ts";
import { leaseCommand, snapshotCommand } from "./holds.ts";
import { serveCommand } from "./serve.ts";
import { serverCommand } from "./server.ts";
import { restoreCommandCommand } from "./restore-command.ts";
import { scrubCommand } from "./scrub.ts";
import { statusCommand } from "./status.ts";
import { tenantCommand } from "./tenant.ts";
import { timelineCommand } from "./timeline.ts";

const EXAMPLES = `
Examples:
  pageserver serve --data ./data                          run the page server
  pageserver follow postgres://me@prod:5432/app --name prod
                                                          copy a primary, then follow its WAL for ever
  pageserver branch prod staging --at "2026-01-31 10:20"  a copy of prod as it was then, in milliseconds
  pageserver compute start staging --port 55433           boot stock PostgreSQL on it
  pageserver status                                       what runs, and how far everything is

Exit codes: 0 done, 1 refused or failed, 2 wrong usage, 3 no server answers.`;

/** All commands. */
export function program(): Command {
  const root = new Command("pageserver")
    .description("Storage for stock PostgreSQL: branches, time travel, computes without disks")
    .addOption(
      new Option("--api <url>", "management API of the server")
        .env("PAGESERVER_API")
        .default(DEFAULT_API),
    )
    .addOption(new Option("--tenant <id>", "tenant id").env("PAGESERVER_TENANT").default("default"))
    .option("--json", "print JSON: the API's answers as they are")
    .addHelpText("after", EXAMPLES)
    .showHelpAfterError("(pageserver <command> --help shows examples)");
  const commands = [
    serveCommand(),
    configCommand(),
    doctorCommand(),
    followCommand(),
    branchCommand(),
    computeCommand(),
    timelineCommand(),
    tenantCommand(),
    snapshotCommand(),
    leaseCommand(),
    jobCommand(),
    statusCommand(),
    serverCommand(),
    dumpCommand(),
    checkCommand(),
    scrubCommand(),
    drillCommand(),
    keysCommand(),
    fullBackupCommand(),
    restoreCommandCommand(),
    completionCommand(),
  ];
  for (const command of commands) root.addCommand(command);
  root.addCommand(completeCommand(root), { hidden: true });
  return withGlobals(root);
}

/** Lets `--json` and the others stand after the subcommand too, where people write them. */
function withGlobals(root: Command): Command {
  const visit = (command: Command): void => {
    command.exitOverride().copyInheritedSettings(root);
    if (command !== root && command.commands.length === 0) {
      for (const option of root.options) {
        const copy = new Option(option.flags, option.description).hideHelp();
        command.addOption(copy);
      }
    }
    command.commands.forEach(visit);
  };
  visit(root);
  return root;
}

/** Runs one command line (without node and script); answers the exit code. */
export async function run(args: readonly string[]): Promise<number> {
  process.stdout.once("error", endWithoutReader);
  try {
    await program().parseAsync([...args], { from: "user" });
    return EXIT.done;
  } catch (error) {
    if (error instanceof CommanderError) {
      return error.exitCode === 0 ? EXIT.done : exitCode(args, error, EXIT.usage);
    }
    const { code, text } = failure(error);
    process.stderr.write(`pageserver: ${text}\n`);
    return exitCode(args, error, code);
  }
}

/** Whoever read the output has ended (`| head`), which is no fault; or the output cannot be written. */
function endWithoutReader(error: NodeJS.ErrnoException): never {
  if (error.code !== "EPIPE") {
    process.stderr.write(`pageserver: the output cannot be written: ${error.message}\n`);
  }
  process.exit(EXIT.failed);
}
