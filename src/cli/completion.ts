// `pageserver completion`: what a shell runs to complete our command lines. The scripts only ask
// `pageserver complete`, which knows the commands, their options and the server's timelines.

import { Argument, Command } from "commander";
import { type Names, candidates } from "./complete.ts";
import { type Context, contextOf } from "./context.ts";

const BASH = `# bash completion of pageserver
_pageserver() {
  local IFS=$'\\n'
  COMPREPLY=($(pageserver complete -- "\${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null | cut -f1))
}
complete -o default -F _pageserver pageserver`;

const ZSH = `#compdef pageserver
_pageserver() {
  local -a found
  found=(\${(f)"$(pageserver complete -- "\${(@)words[2,CURRENT]}" 2>/dev/null)"})
  found=(\${found//$'\\t'/:})
  if (( \${#found} )); then _describe pageserver found; else _files; fi
}
compdef _pageserver pageserver`;

const FISH = `# fish completion of pageserver
complete -c pageserver -a '(pageserver complete -- (commandline -opc)[2..-1] (commandline -ct) 2>/dev/null)'`;

const SCRIPTS: Readonly<Record<string, string>> = { bash: BASH, zsh: ZSH, fish: FISH };

const HELP = `
Put one of these lines into the start-up file of your shell:
  source <(pageserver completion bash)          ~/.bashrc
  source <(pageserver completion zsh)           ~/.zshrc, after compinit
  pageserver completion fish | source           ~/.config/fish/config.fish`;

export function completionCommand(): Command {
  return new Command("completion")
    .description("completion of command lines for your shell")
    .addArgument(new Argument("<shell>", "which shell").choices(Object.keys(SCRIPTS)))
    .addHelpText("after", HELP)
    .action((shell: string, _options: unknown, command: Command) => {
      const script = SCRIPTS[shell]!;
      contextOf(command).print({ shell, script }, () => script);
    });
}

/** A Tab must not wait for a server that is slow or far away, ms. */
const NAMES_MS_MAX = 500;

/** What the scripts ask: candidates one a line, each with a tab and a word about it. */
export function completeCommand(root: Command): Command {
  return new Command("complete")
    .argument("[words...]")
    .action(async (words: readonly string[], _options: unknown, command: Command) => {
      const context = contextOf(command);
      const found = await candidates(root, words, namesOf(context));
      const lines = found.map(({ word, about }) => (about === "" ? word : `${word}\t${about}`));
      // At once: a question to a server that does not answer would hold the process.
      process.stdout.write(lines.map((line) => `${line}\n`).join(""), () => process.exit(0));
    });
}

/** A server that cannot be asked has no names: a Tab is no place for an error. */
function namesOf({ client }: Context): Names {
  return async (kind) => {
    const asked =
      kind === "timeline"
        ? client.timelines().then((all) => all.map(({ name }) => name))
        : kind === "tenant"
          ? client.tenants().then((all) => all.map(({ id }) => id as string))
          : client.jobs().then((all) => all.map(({ id }) => id));
    const late = new Promise<readonly string[]>((resolve) => {
      setTimeout(() => resolve([]), NAMES_MS_MAX).unref();
    });
    return Promise.race([asked.catch(() => []), late]);
  };
}
