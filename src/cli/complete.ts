// What may follow on a command line, from the commands themselves: shells ask for it at every Tab
// (completion.ts), so a command that is added is completed without another line anywhere.

import type { Argument, Command, Option } from "commander";

export interface Candidate {
  readonly word: string;
  readonly about: string;
}

/** Names that only the server knows: of timelines, tenants, jobs. */
export type Names = (kind: "timeline" | "tenant" | "job") => Promise<readonly string[]>;

/** By the names that our commands give their arguments. */
const KINDS: Readonly<Record<string, Parameters<Names>[0]>> = {
  timeline: "timeline",
  source: "timeline",
  job: "job",
};

/** What may stand for the last of `words`, which may be empty. The program's own name is not in them. */
export async function candidates(
  root: Command,
  words: readonly string[],
  names: Names,
): Promise<readonly Candidate[]> {
  const last = words.at(-1) ?? "";
  const place = placeOf(root, words.slice(0, -1));
  const fitting = (found: readonly Candidate[]): readonly Candidate[] =>
    found.filter(({ word }) => word.startsWith(last));
  if (place.option !== undefined) return fitting(await valuesOf(place.option, names));
  if (last.startsWith("-")) return fitting(optionsOf(root, place.command));
  const commands = place.command
    .createHelp()
    .visibleCommands(place.command)
    .map((one) => ({ word: one.name(), about: one.description() }));
  if (commands.length > 0) return place.operands === 0 ? fitting(commands) : [];
  const argument = place.command.registeredArguments[place.operands];
  return fitting(argument === undefined ? [] : await operands(argument, names));
}

interface Place {
  readonly command: Command;
  /** Operands of the command that are given already. */
  readonly operands: number;
  /** The option whose value comes next. */
  readonly option: Option | undefined;
}

function placeOf(root: Command, words: readonly string[]): Place {
  let command = root;
  let operands = 0;
  let option: Option | undefined;
  for (const word of words) {
    if (option !== undefined) {
      option = undefined;
    } else if (word.startsWith("-")) {
      const found = [...command.options, ...root.options].find(
        ({ long, short }) => long === word || short === word,
      );
      option = found?.required === true ? found : undefined;
    } else {
      const under = command.commands.find((one) => one.name() === word);
      if (under === undefined) operands++;
      else [command, operands] = [under, 0];
    }
  }
  return { command, operands, option };
}

function optionsOf(root: Command, command: Command): readonly Candidate[] {
  const all = new Map<string, string>();
  for (const { long, hidden, description } of [...command.options, ...root.options]) {
    if (long && !hidden) all.set(long, description);
  }
  all.set("--help", "explains the command");
  return [...all].map(([word, about]) => ({ word, about }));
}

const plain = (words: readonly string[]): readonly Candidate[] =>
  words.map((word) => ({ word, about: "" }));

const valuesOf = async (option: Option, names: Names): Promise<readonly Candidate[]> =>
  plain(option.long === "--tenant" ? await names("tenant") : (option.argChoices ?? []));

async function operands(argument: Argument, names: Names): Promise<readonly Candidate[]> {
  if (argument.argChoices !== undefined) return plain(argument.argChoices);
  const kind = KINDS[argument.name()];
  return kind === undefined ? [] : plain(await names(kind));
}
