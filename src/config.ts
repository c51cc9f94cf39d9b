// Flags and environment to one frozen, validated Config. Every setting with its unit and default.

import { z } from "zod";

const port = z.coerce.number().int().min(0).max(65_535);

const schema = z.strictObject({
  /** Data directory: catalogs, layers, WAL. */
  dataDir: z.string().min(1).default("data"),
  /** Page service (libpq) address. Port 0 takes a free one. */
  listenHost: z.string().default("127.0.0.1"),
  listenPort: port.default(64_000),
  /** Management API address. */
  httpHost: z.string().default("127.0.0.1"),
  httpPort: port.default(9_898),
  logLevel: z.enum(["trace", "debug", "info", "warn", "error"]).default("info"),
  /** WAL redo processes. */
  redoProcesses: z.coerce.number().int().min(1).max(64).default(2),
  /** Directory of PostgreSQL's programs. */
  pgBinDir: z.string().default("/usr/lib/postgresql/15/bin"),
});

export type Config = Readonly<z.infer<typeof schema>>;

const ENVIRONMENT: Readonly<Record<string, keyof Config>> = {
  PAGESERVER_DATA: "dataDir",
  PAGESERVER_LISTEN_HOST: "listenHost",
  PAGESERVER_LISTEN_PORT: "listenPort",
  PAGESERVER_HTTP_HOST: "httpHost",
  PAGESERVER_HTTP_PORT: "httpPort",
  PAGESERVER_LOG_LEVEL: "logLevel",
  PAGESERVER_REDO_PROCESSES: "redoProcesses",
  PAGESERVER_PG_BIN: "pgBinDir",
};

/** A setting that cannot be used; the message names it, what is wrong and what is accepted. */
export class ConfigError extends Error {
  override readonly name = "ConfigError";
}

/** Flags win over the environment, the environment over defaults. Throws ConfigError. */
export function loadConfig(
  flags: Partial<Record<keyof Config, unknown>>,
  environment: Readonly<Record<string, string | undefined>>,
): Config {
  const raw: Record<string, unknown> = {};
  for (const [name, key] of Object.entries(ENVIRONMENT)) {
    const value = environment[name];
    if (value !== undefined && value !== "") raw[key] = value;
  }
  for (const [key, value] of Object.entries(flags)) if (value !== undefined) raw[key] = value;
  const parsed = schema.safeParse(raw);
  if (!parsed.success) throw new ConfigError(`settings: ${z.prettifyError(parsed.error)}`);
  return Object.freeze(parsed.data);
}
