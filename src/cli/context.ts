// What every command shares: which server, which tenant, JSON or words, and how failures end.
//
// Exit codes: 0 done; 1 refused or failed (the sentence is on stderr); 2 wrong usage; 3 no server.

import type { Command } from "commander";
import { MalformedInput } from "../core/assert.ts";
import { ApiError, Client, ServerUnreachable } from "../http/client.ts";

/** fatal: of restore-command alone; PostgreSQL stops at what is above 125. */
export const EXIT = { done: 0, failed: 1, usage: 2, noServer: 3, fatal: 255 } as const;

export const DEFAULT_API = "http://127.0.0.1:9898";
export const DEFAULT_DATA_DIR = "./data";

interface GlobalOptions {
  readonly api: string;
  readonly tenant: string;
  readonly json?: boolean;
}

export interface Context {
  readonly client: Client;
  readonly json: boolean;
  /** JSON if asked for, else the words. */
  readonly print: (value: unknown, words: () => string) => void;
  /** Progress and hints: to stderr, never with --json. */
  readonly note: (line: string) => void;
}

/** Options that every command has, read from the command that runs. */
export function contextOf(command: Command): Context {
  const options = globalOptions(command);
  const json = options.json === true;
  // Never a flag: command lines are seen by everyone on the machine.
  const token = process.env["PAGESERVER_TOKEN"];
  return {
    client: new Client(options.api, options.tenant, token === "" ? undefined : token),
    json,
    print: (value, words) => {
      process.stdout.write(`${json ? JSON.stringify(value, undefined, 2) : words()}\n`);
    },
    note: (line) => {
      if (!json) process.stderr.write(`${line}\n`);
    },
  };
}

/** The option of the innermost command that was given it, else the program's (default or environment). */
function globalOptions(command: Command): GlobalOptions {
  let root = command;
  const given: Record<string, unknown> = {};
  for (let at: Command | null = command; at !== null; at = at.parent) {
    for (const name of ["api", "tenant", "json"]) {
      if (at.getOptionValueSource(name) === "cli") given[name] ??= at.getOptionValue(name);
    }
    root = at;
  }
  return { ...root.opts<GlobalOptions>(), ...given };
}

/** A failure that a command already knows the sentence of. */
export class CommandFailed extends Error {
  override readonly name = "CommandFailed";
}

/** restore-command: a file that the archive does not have. */
export class NotInArchive extends CommandFailed {}

/**
 * What a command line that failed exits with. PostgreSQL takes a small code of restore-command for "there is
 * no such file", and ends recovery there: no other failure, wrong usage included, may look like it.
 */
export const exitCode = (args: readonly string[], error: unknown, code: number): number =>
  args.includes("restore-command") && !(error instanceof NotInArchive) ? EXIT.fatal : code;

/** The sentence and the exit code of whatever ended a command. */
export function failure(error: unknown): { readonly code: number; readonly text: string } {
  if (error instanceof ServerUnreachable) {
    return {
      code: EXIT.noServer,
      text:
        `${error.message}\n` +
        `start one:      pageserver serve --data ${DEFAULT_DATA_DIR}\n` +
        `or name it:     pageserver --api http://host:port …   (or PAGESERVER_API=http://host:port)`,
    };
  }
  if (error instanceof MalformedInput) return { code: EXIT.usage, text: error.message };
  if (error instanceof ApiError && error.status === 401) {
    const hint = "put a token into the environment: PAGESERVER_TOKEN";
    return { code: EXIT.failed, text: `${error.message}\n${hint}` };
  }
  if (error instanceof ApiError || error instanceof CommandFailed) {
    return { code: EXIT.failed, text: error.message };
  }
  return {
    code: EXIT.failed,
    text: error instanceof Error ? (error.stack ?? error.message) : String(error),
  };
}
