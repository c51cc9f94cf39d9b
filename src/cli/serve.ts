// `pageserver serve`: the page server itself, in the foreground, until SIGINT or SIGTERM.

import { Command } from "commander";
import { InvariantViolation, MalformedInput } from "../core/assert.ts";
import { CommandFailed } from "./context.ts";

const HELP = `
Settings also come from the environment and from a TOML file; flags win over the environment, the
environment over the file. All of them, and where each comes from: pageserver config.

With --auth-keys both ports ask for a token (JWT, EdDSA or RS256): as libpq's password, and as
Authorization: Bearer. Without, both ports have to be on loopback. With --tls-cert and --tls-key both
speak TLS only (the page service also in clear with tls_required = false). SIGHUP reads
settings, keys and certificate again.

PAGESERVER_WAL_TOKEN (environment only): the password for WAL sources that ask for one and whose
connection string has none, a safekeeper's token for example. It is stored nowhere.

Examples:
  pageserver serve                          data in ./data, page service 64000, HTTP 9898
  pageserver serve --config /etc/pageserver.toml
  pageserver serve --data /srv/pageserver --listen 10.0.0.5:64000 --auth-keys /etc/pageserver/keys`;

interface ServeOptions {
  readonly config?: string;
  readonly data?: string;
  readonly listen?: string;
  readonly http?: string;
  readonly authKeys?: string;
  readonly allowUnauthenticated?: boolean;
  readonly tlsCert?: string;
  readonly tlsKey?: string;
  readonly backup?: string;
}

export function serveCommand(): Command {
  return new Command("serve")
    .description("run the page server in the foreground")
    .option("--config <file>", "TOML file of settings (default: PAGESERVER_CONFIG)")
    .option("--data <dir>", "data directory (default: data)")
    .option("--listen <host:port>", "page service address (default: 127.0.0.1:64000)")
    .option("--http <host:port>", "management API address (default: 127.0.0.1:9898)")
    .option("--auth-keys <path>", "public keys of tokens: PEM, directory of them, or JWKS")
    .option("--allow-unauthenticated", "listen beyond loopback without asking for tokens")
    .option("--tls-cert <file>", "certificate of both ports, PEM (default: no TLS)")
    .option("--tls-key <file>", "its private key, PEM")
    .option("--backup <place>", "s3://BUCKET/PREFIX or file:///DIRECTORY (default: no backup)")
    .addHelpText("after", HELP)
    .action(async (options: ServeOptions) => {
      const listen = hostPort(options.listen, "--listen");
      const http = hostPort(options.http, "--http");
      const { serve } = await import("../main.ts");
      try {
        const flags = {
          dataDir: options.data,
          listenHost: listen?.host,
          listenPort: listen?.port,
          httpHost: http?.host,
          httpPort: http?.port,
          authKeys: options.authKeys,
          allowUnauthenticated: options.allowUnauthenticated,
          tlsCert: options.tlsCert,
          tlsKey: options.tlsKey,
          backup: options.backup,
        };
        await serve(flags, options.config);
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
