// `pageserver config`: every setting with its value, unit, default, and where the value comes from.
// What `serve` would refuse is refused here too, so that a file can be checked before a restart.

import { Command } from "commander";
import { type SettingInfo, loadConfig } from "../config.ts";
import { CommandFailed, contextOf } from "./context.ts";
import { table } from "./format.ts";

const HELP = `
Flags of "serve" win over the environment, the environment over the file. The file is TOML:

  data_dir = "/srv/pageserver"
  listen_host = "10.0.0.5"
  auth_keys = "/etc/pageserver/keys"

Examples:
  pageserver config                                   what "pageserver serve" would run with
  pageserver config --config /etc/pageserver.toml     is this file good?`;

export function configCommand(): Command {
  return new Command("config")
    .description("show every setting: value, unit, default, source")
    .option("--config <file>", "TOML file of settings (default: PAGESERVER_CONFIG)")
    .addHelpText("after", HELP)
    .action(async (options: { config?: string }, command: Command) => {
      const { settings } = await loadSettings(options.config);
      contextOf(command).print(settings, () => words(settings));
    });
}

/** The settings that `serve` would have. Throws CommandFailed with what is wrong. */
export async function loadSettings(
  file: string | undefined,
): Promise<ReturnType<typeof loadConfig>> {
  const { readConfigFile } = await import("../main.ts");
  try {
    return loadConfig({}, process.env, readConfigFile(file));
  } catch (error) {
    if (error instanceof Error && error.name === "ConfigError") {
      throw new CommandFailed(error.message);
    }
    throw error;
  }
}

function words(settings: readonly SettingInfo[]): string {
  const show = (value: SettingInfo["value"]): string => (value === undefined ? "-" : String(value));
  const rows = settings.map((setting) => [
    setting.name,
    show(setting.value),
    setting.unit,
    show(setting.default),
    setting.source,
    setting.env,
    setting.about,
  ]);
  return table(["SETTING", "VALUE", "UNIT", "DEFAULT", "SOURCE", "ENVIRONMENT", "ABOUT"], rows);
}
