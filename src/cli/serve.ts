// `pageserver serve`: the page server itself, in the foreground, until SIGINT or SIGTERM.

import { Command } from "commander";
import { InvariantViolation, MalformedInput } from "../core/assert.ts";
import { CommandFailed } from "./context.ts";

const HELP = `
Settings also come from the environment (flags win): PAGESERVER_DATA, PAGESERVER_LISTEN_HOST,
PAGESERVER_LISTEN_PORT, PAGESERVER_HTTP_HOST, PAGESERVER_HTTP_PORT, PAGESERVER_LOG_LEVEL.

Neither port has a login: keep both on loopback or behind a firewall.

Examples:
  pageserver serve                          data in ./data, page service 64000, HTTP 9898
  pageserver serve --data /srv/pageserver --listen 10.0.0.5:64000 --http 127.0.0.1:9898`;

export function serveCommand(): Command {
  return new Command("serve")
    .description("run the page server in the foreground")
    .option("--data <dir>", "data directory (default: data)")
    .option("--listen <host:port>", "page service address (default: 127.0.0.1:64000)")
    .option("--http <host:port>", "management API address (default: 127.0.0.1:9898)")
    .addHelpText("after", HELP)
    .action(async (options: { data?: string; listen?: string; http?: string }) => {
      const listen = hostPort(options.listen, "--listen");
      const http = hostPort(options.http, "--http");
      const { serve } = await import("../main.ts");
      try {
        await serve({
          dataDir: options.data,
          listenHost: listen?.host,
          listenPort: listen?.port,
          httpHost: http?.host,
          httpPort: http?.port,
        });
      } catch (error) {
        throw isExpected(error) ? new CommandFailed(error.message) : error;
      }
    });
}

/** Names of JavaScript's own errors: bugs, which show where they happened. */
const BUGS: ReadonlySet<string> = new Set([
  ...["Error", "TypeError", "RangeError", "SyntaxError", "ReferenceError", "AggregateError"],
  InvariantViolation.name,
]);

/** Wrong settings, no PostgreSQL, a data directory or port in use: the sentence says it all. */
function isExpected(error: unknown): error is Error {
  if (!(error instanceof Error)) return false;
  return !BUGS.has(error.name) || (error as NodeJS.ErrnoException).syscall !== undefined;
}

/** "host:port", ":port" or "port"; brackets around IPv6. */
export function hostPort(
  text: string | undefined,
  flag: string,
): { readonly host: string | undefined; readonly port: number } | undefined {
  if (text === undefined) return undefined;
  const match = /^(?:(?:\[([^\]]+)\]|([^:[\]]*)):)?(\d{1,5})$/.exec(text);
  const port = Number(match?.[3]);
  if (match === null || port > 65_535) {
    throw new MalformedInput(`${flag}: not an address: "${text}" (expected e.g. 127.0.0.1:64000)`);
  }
  const host = match[1] ?? match[2];
  return { host: host === "" ? undefined : host, port };
}
