// Where a PostgreSQL is and how to log in: `postgres://` URIs and libpq's key=value strings, parsed
// once. A parameter that we would not honour is refused by name rather than ignored. The password
// is a Secret: printing, logging or serialising a Conninfo never shows it, nor do the errors here.

import { MalformedInput } from "../core/assert.ts";
import type { TenantId, TimelineId } from "../core/ids.ts";

/** A string that prints, inspects and serialises as "***". */
export class Secret {
  readonly #value: string;

  constructor(value: string) {
    this.#value = value;
  }

  reveal(): string {
    return this.#value;
  }
  toString(): string {
    return "***";
  }
  toJSON(): string {
    return "***";
  }
}

export type SslMode = "disable" | "prefer" | "require" | "verify-ca" | "verify-full";

export interface Conninfo {
  /** Host name, address, or the directory of a unix socket (begins with "/"). */
  readonly host: string;
  readonly port: number;
  readonly user: string;
  readonly password: Secret | undefined;
  readonly dbname: string | undefined;
  readonly sslMode: SslMode;
  /** Files in PEM; "system" as root certificate means the platform's authorities. */
  readonly sslRootCert: string | undefined;
  readonly sslCert: string | undefined;
  readonly sslKey: string | undefined;
  readonly applicationName: string | undefined;
  /** Server command-line options, sent as they are in the startup packet. */
  readonly options: string | undefined;
}

const SSL_MODES: readonly SslMode[] = ["disable", "prefer", "require", "verify-ca", "verify-full"];

const KNOWN = new Set([
  ...["host", "hostaddr", "port", "user", "password", "dbname", "application_name", "options"],
  ...["sslmode", "sslrootcert", "sslcert", "sslkey"],
]);

// Parameters of libpq that change nothing for a replication connection of ours.
const HARMLESS = new Set([
  ...["replication", "client_encoding", "fallback_application_name", "connect_timeout"],
  ...["keepalives", "keepalives_idle", "keepalives_interval", "keepalives_count"],
  ...["tcp_user_timeout", "sslcompression", "sslsni", "gssencmode", "krbsrvname"],
]);

const DEFAULT_PORT = 5432;

/**
 * Parses a URI or a key=value string (libpq's "Connection Strings"). Throws MalformedInput, never
 * with the password in it.
 */
export function parseConninfo(text: string): Conninfo {
  const pairs = /^postgres(ql)?:\/\//.test(text) ? uriPairs(text) : keyValuePairs(text);
  const values = new Map<string, string>();
  for (const [key, value] of pairs) {
    if (HARMLESS.has(key)) continue;
    if (key === "target_session_attrs" && value === "any") continue;
    if (key === "channel_binding" && value !== "require") continue;
    if (!KNOWN.has(key)) {
      throw new MalformedInput(
        `conninfo: parameter "${key}" is not supported; known are ${[...KNOWN].join(", ")}`,
      );
    }
    values.set(key, value);
  }
  const filled = (key: string): string | undefined => values.get(key) || undefined;
  const password = filled("password");
  const host = filled("hostaddr") ?? filled("host") ?? "localhost";
  if (host.includes(",")) {
    throw new MalformedInput("conninfo: a list of hosts is not supported; name one host");
  }
  const dbname = filled("dbname");
  const user = filled("user");
  if (user === undefined) throw new MalformedInput("conninfo: no user; add user=<role>");
  return {
    host,
    port: parsePort(filled("port")),
    user,
    password: password === undefined ? undefined : new Secret(password),
    dbname,
    sslMode: parseSslMode(filled("sslmode")),
    sslRootCert: filled("sslrootcert"),
    sslCert: filled("sslcert"),
    sslKey: filled("sslkey"),
    applicationName: filled("application_name"),
    options: filled("options"),
  };
}

function parsePort(text: string | undefined): number {
  if (text === undefined) return DEFAULT_PORT;
  const port = Number(text);
  if (!/^\d+$/.test(text) || port < 1 || port > 65_535) {
    throw new MalformedInput(`conninfo: port "${text}" is not a number from 1 to 65535`);
  }
  return port;
}

function parseSslMode(text: string | undefined): SslMode {
  const mode = SSL_MODES.find((known) => known === (text ?? "prefer"));
  if (mode === undefined) {
    throw new MalformedInput(`conninfo: sslmode "${text}" is not one of ${SSL_MODES.join(", ")}`);
  }
  return mode;
}

function* uriPairs(text: string): Generator<readonly [string, string]> {
  const match =
    /^postgres(?:ql)?:\/\/(?:([^@/?#]*)@)?([^@/?#]*)(?:\/([^?#]*))?(?:\?([^#]*))?$/.exec(text);
  if (match === null) {
    throw new MalformedInput(
      "conninfo: not a valid URI; expected postgres://user:password@host:port/dbname?parameters " +
        "with special characters percent-encoded",
    );
  }
  const [, login = "", where = "", dbname = "", query = ""] = match;
  const colon = login.indexOf(":");
  const user = colon < 0 ? login : login.slice(0, colon);
  if (user !== "") yield ["user", decode("user", user)];
  if (colon >= 0) yield ["password", decode("password", login.slice(colon + 1))];
  const at = /^(\[[^\]]*\]|[^:[\]]*)(?::(.*))?$/.exec(where);
  if (at === null) throw new MalformedInput("conninfo: the URI's host and port are not host:port");
  if (at[1]) yield ["host", decode("host", at[1].replace(/^\[|\]$/g, ""))];
  if (at[2]) yield ["port", at[2]];
  if (dbname !== "") yield ["dbname", decode("dbname", dbname)];
  for (const pair of query.split("&").filter((part) => part !== "")) {
    const equals = pair.indexOf("=");
    if (equals < 0) throw new MalformedInput("conninfo: a URI parameter has no '='");
    const key = decode("parameter", pair.slice(0, equals));
    const value = decode(key, pair.slice(equals + 1));
    // libpq takes ssl=true for sslmode=require, as JDBC writes it.
    yield key === "ssl" && value === "true" ? ["sslmode", "require"] : [key, value];
  }
}

function decode(field: string, text: string): string {
  let value: string;
  try {
    value = decodeURIComponent(text);
  } catch {
    throw new MalformedInput(`conninfo: ${field} has an invalid percent-encoding`);
  }
  if (value.includes("\0")) throw new MalformedInput(`conninfo: ${field} contains a NUL`);
  return value;
}

function* keyValuePairs(text: string): Generator<readonly [string, string]> {
  // key = value, where a value is bare (backslash escapes) or in single quotes (same escapes).
  const pair = /\s*([A-Za-z_]+)\s*=\s*(?:'((?:[^'\\]|\\[^])*)'|((?:[^\s'\\]|\\[^])*))(?=\s|$)/y;
  let at = 0;
  const end = text.trimEnd().length;
  let lastKey = "";
  while (at < end) {
    pair.lastIndex = at;
    const match = pair.exec(text);
    if (match === null) {
      throw new MalformedInput(
        `conninfo: not key=value ${lastKey === "" ? "at its start" : `after "${lastKey}"`}; ` +
          "quote values that hold spaces with '…'",
      );
    }
    at = pair.lastIndex;
    lastKey = match[1]!;
    const value = (match[2] ?? match[3] ?? "").replace(/\\([^])/g, "$1");
    if (value.includes("\0")) throw new MalformedInput(`conninfo: ${lastKey} contains a NUL`);
    yield [lastKey, value];
  }
}

/** The same with a password, unless it has one. */
export const withPassword = (conninfo: Conninfo, password: Secret | undefined): Conninfo => ({
  ...conninfo,
  password: conninfo.password ?? password,
});

/** For logs and status: a URI without the password and without `options`. */
export function formatConninfo(conninfo: Conninfo): string {
  const { host, port, user, password, dbname, sslMode } = conninfo;
  const login = `${encodeURIComponent(user)}${password === undefined ? "" : ":***"}`;
  const socket = host.startsWith("/");
  const where = socket ? "" : host.includes(":") ? `[${host}]` : host;
  const query = [...(socket ? [`host=${host}`] : []), `sslmode=${sslMode}`].join("&");
  return `postgres://${login}@${where}:${port}/${encodeURIComponent(dbname ?? "")}?${query}`;
}

/**
 * `options` of a connection to a Neon safekeeper: which timeline's WAL, in the vanilla
 * (PostgreSQL's own) protocol. One -c, then bare words; the safekeeper splits at spaces that no
 * backslash precedes.
 */
export function safekeeperOptions(of: {
  readonly tenant: TenantId;
  readonly timeline: TimelineId;
  readonly availabilityZone?: string;
}): string {
  const words = [
    `timeline_id=${of.timeline}`,
    `tenant_id=${of.tenant}`,
    'protocol={"type":"vanilla"}',
    ...(of.availabilityZone === undefined ? [] : [`availability_zone=${of.availabilityZone}`]),
  ];
  return `-c ${words.map((word) => word.replace(/[\\\s]/g, "\\$&")).join(" ")}`;
}
