// `pageserver doctor`: is this machine fit for a page server with these settings?

import { Command } from "commander";
import { loadSettings } from "./config.ts";
import { CommandFailed, contextOf } from "./context.ts";
import { table } from "./format.ts";

const HELP = `
Looks at PostgreSQL's programs, our libraries, the data directory and its disk, ports, limits, clock
and keys, with the settings that "pageserver serve" would have. Works with and without a server.

Examples:
  pageserver doctor
  pageserver doctor --config /etc/pageserver.toml --json`;

export function doctorCommand(): Command {
  return new Command("doctor")
    .description("check this machine and the settings, and say what to do")
    .option("--config <file>", "TOML file of settings (default: PAGESERVER_CONFIG)")
    .addHelpText("after", HELP)
    .action(async (options: { config?: string }, command: Command) => {
      const { config } = await loadSettings(options.config);
      const { examine } = await import("../app/doctor.ts");
      const findings = await examine(config);
      const rows = findings.map(({ what, state, detail }) => [state, what, detail]);
      contextOf(command).print(findings, () => table(["STATE", "WHAT", "FOUND"], rows));
      const wrong = findings.filter(({ state }) => state === "bad").map(({ what }) => what);
      if (wrong.length > 0) throw new CommandFailed(`not fit yet: ${wrong.join(", ")}`);
    });
}
