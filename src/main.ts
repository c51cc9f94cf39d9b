// Process entry: settings, log, the program, signals. Ends with 0 after an orderly stop; with 1 when
// it cannot start or when what is on disk is unknown (the next start recovers).

import { readFileSync } from "node:fs";
import { type Program, startProgram } from "./app/program.ts";
import { ConfigError, type ConfigFile, type Flags, loadConfig } from "./config.ts";
import { type LogLevel, createLog } from "./io/log.ts";

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

/** Runs until SIGINT, SIGTERM or a request to stop; SIGHUP reads keys again. */
export async function serve(flags: Flags, configFile?: string): Promise<void> {
  const { config } = loadConfig(flags, process.env, readConfigFile(configFile));
  const level: LogLevel = config.logLevel === "trace" ? "debug" : config.logLevel;
  const log = createLog({ level, to: 1, pretty: process.stdout.isTTY === true });
  const die = (error: Error): void => {
    log.error({ err: error }, "the process stops at once; what is durable is safe");
    process.exit(1);
  };
  process.on("uncaughtException", die);
  process.on("unhandledRejection", (cause) =>
    die(cause instanceof Error ? cause : new Error(String(cause))),
  );
  const signalled = new Promise<string>((resolve) => {
    for (const signal of ["SIGINT", "SIGTERM"] as const) process.on(signal, () => resolve(signal));
  });
  // Before the program can react to it, the signal must not end it either.
  process.on("SIGHUP", () => void running?.reload());
  let running: Program | undefined;
  const program = await startProgram(config, log, die).catch((error: unknown) => {
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
