// Connects and logs in: TCP or unix socket, TLS and passwords are pg's work; its socket is then
// taken over, at the one moment when nothing is under way (the first ReadyForQuery), because pg's
// parser hands out views of a buffer that it overwrites.

import fs from "node:fs/promises";
import type { Socket } from "node:net";
import type { ConnectionOptions } from "node:tls";
import pg from "pg";
import type { Conninfo } from "../../protocol/conninfo.ts";
import { ServerError } from "../../protocol/replication.ts";
import { ConnectionLost, PgWire } from "./wire.ts";

export interface ConnectOptions {
  /**
   * Shown in pg_stat_replication; what synchronous_standby_names matches. The conninfo's own wins.
   */
  readonly applicationName: string;
  readonly timeoutMs: number;
}

/** pg's fields that its types leave out. */
interface ReplicationConfig extends pg.ClientConfig {
  readonly replication: string;
}
interface ClientInternals {
  readonly connection: {
    readonly stream: Socket;
    on(
      event: "parameterStatus",
      listener: (message: { parameterName: string; parameterValue: string }) => void,
    ): void;
  };
}

export interface LoggedIn {
  readonly wire: PgWire;
  /** ParameterStatus values of the login, e.g. server_version. */
  readonly parameters: ReadonlyMap<string, string>;
}

/**
 * Logs in for physical replication. Throws ServerError (refused by the server) or ConnectionLost.
 */
export async function login(conninfo: Conninfo, options: ConnectOptions): Promise<LoggedIn> {
  const attempts = await tlsAttempts(conninfo);
  for (const [n, ssl] of attempts.entries()) {
    try {
      return await loginOnce(conninfo, options, ssl);
    } catch (cause) {
      const error = toKnownError(cause, conninfo);
      if (n + 1 === attempts.length || !mayTryWithoutTls(error)) throw error;
    }
  }
  throw new ConnectionLost("no way to connect was tried"); // attempts is never empty
}

/** sslmode as the TLS settings to try, in this order (libpq's "SSL Support"). */
async function tlsAttempts(conninfo: Conninfo): Promise<readonly (false | ConnectionOptions)[]> {
  const { sslMode, sslRootCert, sslCert, sslKey } = conninfo;
  if (sslMode === "disable" || conninfo.host.startsWith("/")) return [false];
  const read = async (name: string, file: string | undefined): Promise<string | undefined> =>
    file === undefined
      ? undefined
      : await fs.readFile(file, "utf8").catch((cause: NodeJS.ErrnoException) => {
          throw new Error(`conninfo: ${name} "${file}" cannot be read: ${cause.message}`);
        });
  const ca = sslRootCert === "system" ? undefined : await read("sslrootcert", sslRootCert);
  const cert = await read("sslcert", sslCert);
  const key = await read("sslkey", sslKey);
  const files = {
    ...(ca === undefined ? {} : { ca }),
    ...(cert === undefined ? {} : { cert }),
    ...(key === undefined ? {} : { key }),
  };
  const unverified = { ...files, rejectUnauthorized: false };
  const chainOnly = { ...files, rejectUnauthorized: true, checkServerIdentity: () => undefined };
  switch (sslMode) {
    case "prefer":
      return [unverified, false];
    case "require":
      return [sslRootCert === undefined ? unverified : chainOnly];
    case "verify-ca":
      return [chainOnly];
    case "verify-full":
      return [{ ...files, rejectUnauthorized: true }];
  }
}

async function loginOnce(
  conninfo: Conninfo,
  options: ConnectOptions,
  ssl: false | ConnectionOptions,
): Promise<LoggedIn> {
  const config: ReplicationConfig = {
    host: conninfo.host,
    port: conninfo.port,
    user: conninfo.user,
    password: conninfo.password?.reveal(),
    database: conninfo.dbname ?? conninfo.user,
    application_name: conninfo.applicationName ?? options.applicationName,
    options: conninfo.options,
    ssl,
    replication: "true",
    connectionTimeoutMillis: options.timeoutMs,
    keepAlive: true,
  };
  const client = new pg.Client(config);
  client.on("error", () => {}); // after the take-over the wire reports what becomes of the socket
  const { connection } = client as unknown as ClientInternals;
  const parameters = new Map<string, string>();
  connection.on("parameterStatus", (m) => parameters.set(m.parameterName, m.parameterValue));
  try {
    await client.connect();
  } catch (cause) {
    connection.stream.destroy();
    throw cause;
  }
  return { wire: new PgWire(connection.stream), parameters };
}

function toKnownError(cause: unknown, conninfo: Conninfo): Error {
  const where = `${conninfo.host}:${conninfo.port}`;
  if (cause instanceof pg.DatabaseError) {
    return new ServerError(
      cause.severity ?? "FATAL",
      cause.code ?? "XX000",
      cause.message,
      cause.detail,
    );
  }
  if (cause instanceof AggregateError) {
    // A name with several addresses: Node reports one error for each and no message of its own.
    const reasons = cause.errors.map((e: unknown) => (e instanceof Error ? e.message : String(e)));
    return new ConnectionLost(`cannot connect to ${where}: ${reasons.join("; ")}`);
  }
  const reason = cause instanceof Error ? cause.message : String(cause);
  const password = /password must be a( non-empty)? string/.test(reason)
    ? `the server asks ${conninfo.user} for a password and the conninfo has none`
    : undefined;
  return new ConnectionLost(`cannot connect to ${where}: ${password ?? reason}`);
}

/** sslmode=prefer: the server has no TLS, or refuses this login over TLS only (as libpq has it). */
const mayTryWithoutTls = (error: Error): boolean =>
  error instanceof ServerError
    ? error.code === "28000"
    : /does not support SSL connections/.test(error.message);
