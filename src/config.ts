// Settings: flags win over the environment, the environment over one TOML file, the file over
// defaults. Everything is validated once, into one frozen Config; where each value came from is kept
// for `pageserver config`. Secrets are no settings: tokens come from the environment alone.

import { TomlError, parse as parseToml } from "smol-toml";
import { z } from "zod";
import { parseMark, parseSize } from "./core/backup/evict.ts";
import { CONNECTIONS_MAX, TENANT_CONNECTIONS_MAX } from "./core/limits.ts";

const port = z.coerce.number().int().min(0).max(65_535);
/** Text of the environment, or a boolean of the file. */
const yesOrNo = z.union([z.boolean(), z.stringbool()]);
const optionalText = z.string().min(1).optional();

const text = z.union([z.number(), z.string()]).transform((given) => String(given).trim());
/** "256MB", or a number: bytes. */
const size = text.refine((given) => parseSize(given) !== undefined, "it must be bytes, e.g. 256MB");
const diskMark = text.refine(
  (given) => given === "off" || parseMark(given) !== undefined,
  "it must be percent of the disk (85%), bytes of layers (500GB), or off",
);

const schema = z.strictObject({
  dataDir: z.string().min(1).default("data"),
  listenHost: z.string().min(1).default("127.0.0.1"),
  listenPort: port.default(64_000),
  httpHost: z.string().min(1).default("127.0.0.1"),
  httpPort: port.default(9_898),
  logLevel: z.enum(["trace", "debug", "info", "warn", "error"]).default("info"),
  traces: yesOrNo.default(false),
  tenantConnections: z.coerce
    .number()
    .int()
    .min(1)
    .max(CONNECTIONS_MAX)
    .default(TENANT_CONNECTIONS_MAX),
  redoProcesses: z.coerce.number().int().min(1).max(64).default(2),
  pgBinDir: z.string().min(1).default("/usr/lib/postgresql/15/bin"),
  authKeys: optionalText,
  authAudience: optionalText,
  authClockSkewS: z.coerce.number().int().min(0).max(3_600).default(30),
  authRequireExpiry: yesOrNo.default(true),
  allowUnauthenticated: yesOrNo.default(false),
  tlsCert: optionalText,
  tlsKey: optionalText,
  tlsRequired: yesOrNo.default(true),
  backup: z
    .string()
    .regex(/^(s3:\/\/[^/]+(\/.*)?|file:\/\/\/.+)$/, "s3://BUCKET/PREFIX or file:///DIRECTORY")
    .optional(),
  backupEndpoint: z.url().optional(),
  backupRegion: z.string().min(1).default("us-east-1"),
  backupEtagQuotes: yesOrNo.default(true),
  backupEncryption: z.enum(["none", "AES256", "aws:kms"]).default("none"),
  backupKmsKey: optionalText,
  backupIntervalMs: z.coerce.number().int().min(50).max(3_600_000).default(1_000),
  backupWalArchive: yesOrNo.default(true),
  backupKeyFile: optionalText,
  backupPlainObjects: yesOrNo.default(false),
  backupPurgeAgeS: z.coerce.number().int().min(1).max(31_536_000).default(86_400),
  backupDrillEveryS: z.coerce.number().int().min(0).max(31_536_000).default(86_400),
  backupSourceKeeps: z.enum(["uploaded", "durable"]).default("uploaded"),
  backupWarmUp: size.default("1GB"),
  evictHigh: diskMark.default("85%"),
  evictLow: diskMark.default("80%"),
  evictAgeS: z.coerce.number().int().min(0).max(31_536_000).default(0),
  evictFloor: size.default("256MB"),
});

export type Config = Readonly<z.infer<typeof schema>>;
export type SettingKey = keyof Config;

interface About {
  /** Name in the file. */
  readonly name: string;
  readonly env: string;
  readonly unit: string;
  readonly about: string;
}

const about = (name: string, env: string, unit: string, what: string): About => ({
  ...{ name, env: `PAGESERVER_${env}`, unit, about: what },
});

/** In the order in which they are shown. */
const ABOUT: Readonly<Record<SettingKey, About>> = {
  dataDir: about("data_dir", "DATA", "path", "catalogs, layers and WAL"),
  listenHost: about("listen_host", "LISTEN_HOST", "address", "page service (libpq)"),
  listenPort: about("listen_port", "LISTEN_PORT", "port", "page service; 0 is any free one"),
  httpHost: about("http_host", "HTTP_HOST", "address", "management API"),
  httpPort: about("http_port", "HTTP_PORT", "port", "management API; 0 is any free one"),
  logLevel: about("log_level", "LOG_LEVEL", "word", "trace, debug, info, warn or error"),
  traces: about("traces", "TRACES", "boolean", "spans for the OpenTelemetry SDK that was loaded"),
  tenantConnections: about(
    ...(["tenant_connections", "TENANT_CONNECTIONS", "number"] as const),
    "connections of one tenant to the page service at once",
  ),
  redoProcesses: about("redo_processes", "REDO_PROCESSES", "number", "WAL redo processes"),
  pgBinDir: about("pg_bin_dir", "PG_BIN", "path", "directory of PostgreSQL's programs"),
  authKeys: about(
    ...(["auth_keys", "AUTH_KEYS", "path or URL"] as const),
    "public keys of tokens: PEM file, directory of *.pem, or JWKS; none: no token is asked for",
  ),
  authAudience: about("auth_audience", "AUTH_AUDIENCE", "text", "what a token's aud must contain"),
  authClockSkewS: about("auth_clock_skew", "AUTH_CLOCK_SKEW", "seconds", "clocks may differ by"),
  authRequireExpiry: about(
    ...(["auth_require_expiry", "AUTH_REQUIRE_EXPIRY", "boolean"] as const),
    "tokens without an end (exp) are refused",
  ),
  allowUnauthenticated: about(
    ...(["allow_unauthenticated", "ALLOW_UNAUTHENTICATED", "boolean"] as const),
    "listen beyond loopback without asking for tokens",
  ),
  tlsCert: about("tls_cert", "TLS_CERT", "path", "certificate of both ports, PEM; none: no TLS"),
  tlsKey: about("tls_key", "TLS_KEY", "path", "its private key, PEM, readable by nobody else"),
  tlsRequired: about(
    ...(["tls_required", "TLS_REQUIRED", "boolean"] as const),
    "with a certificate: the page service refuses connections without TLS",
  ),
  backup: about(
    ...(["backup", "BACKUP", "place"] as const),
    "where backups go: s3://BUCKET/PREFIX or file:///DIRECTORY; none: no backup",
  ),
  backupEndpoint: about(
    ...(["backup_endpoint", "BACKUP_ENDPOINT", "URL"] as const),
    "of an S3 that is not Amazon's; spoken to in path style",
  ),
  backupRegion: about("backup_region", "BACKUP_REGION", "text", "region of the bucket"),
  backupEtagQuotes: about(
    ...(["backup_etag_quotes", "BACKUP_ETAG_QUOTES", "boolean"] as const),
    "If-Match is sent with quotes; Ceph RGW wants none",
  ),
  backupEncryption: about(
    ...(["backup_encryption", "BACKUP_ENCRYPTION", "word"] as const),
    "encryption by the S3 server: none, AES256 or aws:kms",
  ),
  backupKmsKey: about("backup_kms_key", "BACKUP_KMS_KEY", "text", "key of aws:kms; none: default"),
  backupIntervalMs: about(
    ...(["backup_interval", "BACKUP_INTERVAL", "ms"] as const),
    "least time between two uploads of a timeline's WAL",
  ),
  backupWalArchive: about(
    ...(["backup_wal_archive", "BACKUP_WAL_ARCHIVE", "boolean"] as const),
    "whole WAL segments stay for restore_command, as long as history does",
  ),
  backupKeyFile: about(
    ...(["backup_key_file", "BACKUP_KEY_FILE", "path"] as const),
    "master keys, ID:KEY a line, the newest last: objects are encrypted; none: in the clear",
  ),
  backupPlainObjects: about(
    ...(["backup_plain_objects", "BACKUP_PLAIN_OBJECTS", "boolean"] as const),
    "objects from before there was a key are read too",
  ),
  backupPurgeAgeS: about(
    ...(["backup_purge_age", "BACKUP_PURGE_AGE", "seconds"] as const),
    "scrub --purge deletes only what is older, by the clock of the back end",
  ),
  backupDrillEveryS: about(
    ...(["backup_drill_every", "BACKUP_DRILL_EVERY", "seconds"] as const),
    "a sample of each timeline's backup is restored and compared with what is served; 0: never",
  ),
  backupSourceKeeps: about(
    ...(["backup_source_keeps", "BACKUP_SOURCE_KEEPS", "word"] as const),
    "followed primaries keep WAL that is not: uploaded (a lost machine has no gap) or durable here",
  ),
  backupWarmUp: about(
    ...(["backup_warm_up", "BACKUP_WARM_UP", "bytes"] as const),
    "layers, those that were read most, that an attach fetches before anybody asks",
  ),
  evictHigh: about(
    ...(["evict_high", "EVICT_HIGH", "mark"] as const),
    "with a backup: above it layers leave the disk; percent of the disk, bytes of layers, or off",
  ),
  evictLow: about(
    ...(["evict_low", "EVICT_LOW", "mark"] as const),
    "so long until it is below this",
  ),
  evictAgeS: about(
    ...(["evict_age", "EVICT_AGE", "seconds"] as const),
    "with a backup: a layer that was not read for so long leaves the disk; 0: none does",
  ),
  evictFloor: about(
    ...(["evict_floor", "EVICT_FLOOR", "bytes"] as const),
    "bytes of layers, those read last, that each tenant keeps on the disk",
  ),
};

/** As the file calls it. */
export const settingName = (key: SettingKey): string => ABOUT[key].name;

/** A setting that cannot be used; the message names it, what is wrong and what is accepted. */
export class ConfigError extends Error {
  override readonly name = "ConfigError";
}

export type Source = "default" | "file" | "environment" | "flag";

/** One setting, for people. */
export interface SettingInfo {
  readonly name: string;
  readonly env: string;
  readonly unit: string;
  readonly about: string;
  readonly value: string | number | boolean | undefined;
  readonly default: string | number | boolean | undefined;
  readonly source: Source;
}

export interface LoadedConfig {
  readonly config: Config;
  readonly settings: readonly SettingInfo[];
}

export type Flags = Partial<Record<SettingKey, unknown>>;
type Environment = Readonly<Record<string, string | undefined>>;
export interface ConfigFile {
  readonly path: string;
  readonly text: string;
}

const keys = Object.keys(ABOUT) as SettingKey[];

/** Throws ConfigError. */
export function loadConfig(
  flags: Flags,
  environment: Environment,
  file?: ConfigFile,
): LoadedConfig {
  const raw: Record<string, unknown> = {};
  const sources = new Map<SettingKey, Source>();
  const take = (key: SettingKey, value: unknown, source: Source): void => {
    raw[key] = value;
    sources.set(key, source);
  };
  for (const [key, value] of file === undefined ? [] : fileSettings(file)) {
    take(key, value, "file");
  }
  for (const key of keys) {
    const value = environment[ABOUT[key].env];
    if (value !== undefined && value !== "") take(key, value, "environment");
    if (flags[key] !== undefined) take(key, flags[key], "flag");
  }
  const parsed = schema.safeParse(raw);
  if (!parsed.success) throw new ConfigError(problems(parsed.error, sources, file));
  const config = Object.freeze(parsed.data);
  refuseOpenDoors(config);
  refuseHalfTls(config);
  const defaults = schema.parse({});
  const settings = keys.map((key) => ({
    ...ABOUT[key],
    value: config[key],
    default: defaults[key],
    source: sources.get(key) ?? "default",
  }));
  return { config, settings };
}

function fileSettings({ path, text }: ConfigFile): readonly (readonly [SettingKey, unknown])[] {
  let table: Record<string, unknown>;
  try {
    table = parseToml(text);
  } catch (error) {
    if (!(error instanceof TomlError)) throw error;
    throw new ConfigError(`${path}: line ${error.line}: ${error.message.split("\n")[0]}`);
  }
  return Object.entries(table).map(([name, value]) => {
    const key = keys.find((known) => ABOUT[known].name === name);
    if (key !== undefined) return [key, value] as const;
    const near = nearest(name);
    const hint = near === undefined ? "see: pageserver config" : `did you mean ${near}?`;
    throw new ConfigError(`${path}: there is no setting "${name}"; ${hint}`);
  });
}

function problems(
  error: z.ZodError,
  sources: ReadonlyMap<SettingKey, Source>,
  file: ConfigFile | undefined,
): string {
  const lines = error.issues.map((issue) => {
    const key = issue.path[0] as SettingKey;
    const { name, env, unit } = ABOUT[key];
    const source = sources.get(key);
    const where =
      source === "file" ? `${file!.path}: ${name}` : source === "environment" ? env : name;
    return `${where}: ${issue.message} (${unit})`;
  });
  return lines.join("\n");
}

const isLoopback = (host: string): boolean =>
  host === "localhost" || host === "::1" || /^127(\.\d{1,3}){3}$/.test(host);

/** Whether others than this machine can reach a port. */
export const isReachable = (config: Config): boolean =>
  !isLoopback(config.listenHost) || !isLoopback(config.httpHost);

/** Whoever reaches an open port may read and destroy everything, so that must be said aloud. */
function refuseOpenDoors(config: Config): void {
  if (config.authKeys !== undefined || config.allowUnauthenticated) return;
  for (const key of ["listenHost", "httpHost"] as const) {
    if (isLoopback(config[key])) continue;
    throw new ConfigError(
      `${ABOUT[key].name} is ${config[key]}, which others can reach, and no token is asked for: ` +
        `set ${ABOUT.authKeys.name}, or ${ABOUT.allowUnauthenticated.name} if that is meant`,
    );
  }
}

function refuseHalfTls({ tlsCert, tlsKey }: Config): void {
  if ((tlsCert === undefined) === (tlsKey === undefined)) return;
  const [given, missing] =
    tlsCert === undefined ? (["tlsKey", "tlsCert"] as const) : (["tlsCert", "tlsKey"] as const);
  throw new ConfigError(
    `${ABOUT[given].name} is set and ${ABOUT[missing].name} is not: TLS needs both`,
  );
}

/** Misspelt by this much at most, single characters. */
const TYPOS_MAX = 3;

function nearest(name: string): string | undefined {
  const [best] = keys
    .map((key) => ({ name: ABOUT[key].name, typos: distance(name, ABOUT[key].name) }))
    .sort((a, b) => a.typos - b.typos);
  return best !== undefined && best.typos <= TYPOS_MAX ? best.name : undefined;
}

/** Levenshtein: characters to put in, take out or change. */
function distance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, i) => i);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++) {
      const change = row[j - 1]! + (a[i - 1] === b[j - 1] ? 0 : 1);
      next.push(Math.min(change, row[j]! + 1, next[j - 1]! + 1));
    }
    row = next;
  }
  return row[b.length]!;
}
