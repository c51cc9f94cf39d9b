// Process entry: settings, log, the program, signals. Ends with 0 after an orderly stop; with 1 when
// it cannot start or when what is on disk is unknown (the next start recovers).

import { startProgram } from "./app/program.ts";
import { type Config, loadConfig } from "./config.ts";
import { type LogLevel, createLog } from "./io/log.ts";

/** Runs until SIGINT, SIGTERM or a request to stop. */
export async function serve(flags: Partial<Record<keyof Config, unknown>>): Promise<void> {
  const config = loadConfig(flags, process.env);
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
  const program = await startProgram(config, log, die).catch((error: unknown) => {
    const text = error instanceof Error ? error.message : String(error);
    process.stderr.write(`pageserver: ${text}\n`);
    process.exit(1);
  });
  log.info({ http: program.http, port: program.listenPort, pid: process.pid }, "serving");
  const why = await Promise.race([signalled, program.stopAsked]);
  log.info({ why }, "stopping");
  await program.stop();
  log.info("stopped");
  process.exit(0);
}
