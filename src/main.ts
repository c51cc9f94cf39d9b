// Process entry: settings, log, the program, signals. Ends with 0 after an orderly stop; with 1 when
// it cannot start or when what is on disk is unknown (the next start recovers).

import { readFileSync } from "node:fs";
import { MASTER_KEYS } from "./app/backup.ts";
import { liveSettings } from "./app/live-settings.ts";
import { type Program, type Secrets, startProgram } from "./app/program.ts";
import { type WantedFile, restoreFile } from "./app/restore-command.ts";
import { type Config, ConfigError, type ConfigFile, type Flags, loadConfig } from "./config.ts";
import { keepOutOfCoreDumps } from "./io/core-dumps.ts";
import { type Log, type LogLevel, createLog } from "./io/log.ts";
import { setTraces } from "./io/traces.ts";
import { Secret } from "./protocol/conninfo.ts";
import type { CrashPoint } from "./store/crash-points.ts";

/** The settings file that was named, by flag or else by PAGESERVER_CONFIG. Throws ConfigError. */
export function readConfigFile(named: string | undefined): ConfigFile | undefined {
  const path = named ?? process.env["PAGESERVER_CONFIG"];
  if (path === undefined || path === "") return undefined;
  try {
    return { path, text: readFileSync(path, "utf8") };
  } catch (error) {
    throw new ConfigError(`settings: ${error instanceof Error ? error.message : String(error)}`);
  }
}

/** npm passes a terminal's Ctrl-C on: signals that come so soon, ms, after the first are the same one. */
const SAME_SIGNAL_MS = 1_000;

/** The first signal to stop. Whoever signals again does not want to wait: what is durable is safe. */
function firstSignal(log: Log): Promise<string> {
  return new Promise((resolve) => {
    let firstMs: number | undefined;
    for (const signal of ["SIGINT", "SIGTERM"] as const) {
      process.on(signal, () => {
        firstMs ??= performance.now();
        resolve(signal);
        if (performance.now() - firstMs < SAME_SIGNAL_MS) return;
        log.warn({ signal }, "signalled again: the process stops at once");
        process.exit(1);
      });
    }
  });
}

/** Secrets of the environment, which are not left there for the processes that we start. */
function takeSecrets(): Secrets {
  const take = (name: string): Secret | undefined => {
    const value = process.env[name];
    delete process.env[name];
    return value === undefined || value === "" ? undefined : new Secret(value);
  };
  return { walToken: take("PAGESERVER_WAL_TOKEN"), backupKeys: take(MASTER_KEYS) };
}

/** restore_command of PostgreSQL: fetches a file of the archive. Rejects as restoreFile does, and with ConfigError. */
export async function restoreFromArchive(
  flags: Flags,
  configFile: string | undefined,
  wanted: WantedFile,
): Promise<"restored" | "absent"> {
  const { backupKeys } = takeSecrets();
  const { config } = loadConfig(flags, { ...process.env }, readConfigFile(configFile));
  return restoreFile(config, backupKeys, wanted);
}

const levelOf = ({ logLevel }: Config): LogLevel => (logLevel === "trace" ? "debug" : logLevel);

/** Runs until SIGINT, SIGTERM or a request to stop, in order; a second signal ends it at once. SIGHUP reads settings and keys again. */
export async function serve(
  flags: Flags,
  configFile?: string,
  crashPoint?: CrashPoint,
): Promise<void> {
  const secrets = takeSecrets();
  const environment = { ...process.env };
  const read = (): Config => loadConfig(flags, environment, readConfigFile(configFile)).config;
  const config = read();
  const log = createLog({ level: levelOf(config), to: 1, pretty: process.stdout.isTTY === true });
  setTraces(config.traces ? "on" : "off");
  const settings = liveSettings(config, read, {
    logLevel: (next) => log.setLevel(levelOf(next)),
    traces: (next) => setTraces(next.traces ? "on" : "off"),
  });
  const { walToken, backupKeys } = secrets;
  const secret = config.authKeys ?? config.backupKeyFile ?? walToken ?? backupKeys;
  if (secret !== undefined) keepOutOfCoreDumps();
  const die = (error: Error): void => {
    log.error({ err: error }, "the process stops at once; what is durable is safe");
    process.exit(1);
  };
  process.on("uncaughtException", die);
  process.on("unhandledRejection", (cause) =>
    die(cause instanceof Error ? cause : new Error(String(cause))),
  );
  const signalled = firstSignal(log);
  // Before the program can react to it, the signal must not end it either.
  process.on("SIGHUP", () => void running?.reload());
  let running: Program | undefined;
  const started = startProgram(config, log, die, { ...secrets, settings }, crashPoint);
  const program = await started.catch((error: unknown) => {
    const text = error instanceof Error ? error.message : String(error);
    process.stderr.write(`pageserver: ${text}\n`);
    process.exit(1);
  });
  running = program;
  log.info({ http: program.http, port: program.listenPort, pid: process.pid }, "serving");
  const why = await Promise.race([signalled, program.stopAsked]);
  log.info({ why }, "stopping");
  await program.stop();
  log.info("stopped");
  process.exit(0);
}
