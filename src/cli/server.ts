// `pageserver server`: the program itself, asked from outside: settings again, metrics, the end.

import { Command } from "commander";
import type { Reloaded } from "../protocol/api-status.ts";
import { contextOf } from "./context.ts";

const HELP = `
Examples:
  pageserver server reload        after a new key, a new certificate, or another log_level
  pageserver server metrics | grep wal_lag
  pageserver server stop`;

export function serverCommand(): Command {
  const server = new Command("server")
    .description("reload, measure or stop the server that runs")
    .addHelpText("after", HELP);
  server.addCommand(
    new Command("reload")
      .description(
        "read settings, public keys and certificate again; all of them, or none if one is wrong",
      )
      .addHelpText("after", HELP)
      .action(async (_options: unknown, command: Command) => {
        const context = contextOf(command);
        const reloaded = await context.client.reload();
        context.print(reloaded, () => reloadedWords(reloaded));
      }),
  );
  server.addCommand(
    new Command("metrics")
      .description("what Prometheus would be told")
      .addHelpText("after", HELP)
      .action(async (_options: unknown, command: Command) => {
        const context = contextOf(command);
        const text = await context.client.metrics();
        context.print({ text }, () => text.trimEnd());
      }),
  );
  server.addCommand(
    new Command("stop")
      .description("an orderly stop; computes that run go on and connect again")
      .addHelpText("after", HELP)
      .action(async (_options: unknown, command: Command) => {
        const context = contextOf(command);
        await context.client.shutdown();
        context.print({ stopping: true }, () => "the server stops");
      }),
  );
  return server;
}

function reloadedWords(reloaded: Reloaded): string {
  const lines = [`${reloaded.keys} public keys in use`];
  const { certificate_not_after: until, settings } = reloaded;
  if (until !== undefined) lines.push(`the certificate is valid until ${until}`);
  if (settings !== undefined && settings.applied.length > 0) {
    lines.push(`changed: ${settings.applied.join(", ")}`);
  }
  if (settings !== undefined && settings.need_restart.length > 0) {
    lines.push(`changed, and counts after a restart: ${settings.need_restart.join(", ")}`);
  }
  return lines.join("\n");
}
