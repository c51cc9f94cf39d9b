// The program's log: pino, JSON lines, or readable lines on a terminal. What is about a tenant or
// a timeline is logged through a child that carries their ids. Passwords of conninfo strings and
// URIs never get out: every finished line passes `redactSecrets`, so no caller has to remember it.

import pino from "pino";
import { prettyFactory } from "pino-pretty";
import { LOG_WAITING_BYTES_MAX } from "../core/limits.ts";

/** Fields of one line. An error goes under `err`. */
export type LogFields = Readonly<Record<string, unknown>>;

interface LogMethod {
  (fields: LogFields, message: string): void;
  (message: string): void;
}

/** What the program logs through. Calls look as pino's do. */
export interface Log {
  readonly debug: LogMethod;
  readonly info: LogMethod;
  readonly warn: LogMethod;
  readonly error: LogMethod;
  /** A log whose every line also carries `fields`, e.g. `{ tenant, timeline }`. */
  child(fields: LogFields): Log;
}

export type LogLevel = "debug" | "info" | "warn" | "error" | "silent";

export interface LogOptions {
  readonly level: LogLevel;
  /** Where lines go: a file descriptor, or anything that takes whole lines. */
  readonly to: number | { write(line: string): void };
  /** Readable lines instead of JSON; a terminal wants `true`. */
  readonly pretty: boolean;
}

/** The program's own log: what is below its level is not written, by it and all its children. */
export interface RootLog extends Log {
  setLevel(level: LogLevel): void;
}

const RANK: Readonly<Record<LogLevel, number>> = {
  debug: 0,
  info: 1,
  warn: 2,
  error: 3,
  silent: 4,
};

/** Opens the log. Lines are written synchronously: the last one before an exit is the one needed. */
export function createLog(options: LogOptions): RootLog {
  const sink = typeof options.to === "number" ? fileSink(options.to) : options.to;
  const print = options.pretty ? prettyFactory({ colorize: true }) : (line: string) => line;
  const lines = pino(
    { level: "debug", base: null, timestamp: pino.stdTimeFunctions.isoTime },
    { write: (line: string) => void sink.write(print(redactSecrets(line))) },
  );
  const threshold = { level: options.level };
  return { ...from(lines, threshold), setLevel: (level) => void (threshold.level = level) };
}

/** A pino's children keep the level that it had when they were made: the level is asked here instead. */
function from(lines: pino.Logger, threshold: { readonly level: LogLevel }): Log {
  const method = (level: "debug" | "info" | "warn" | "error"): LogMethod => {
    const write = lines[level].bind(lines) as LogMethod;
    return ((...line: Parameters<LogMethod>) => {
      if (RANK[level] >= RANK[threshold.level]) write(...line);
    }) as LogMethod;
  };
  return {
    ...{ debug: method("debug"), info: method("info"), warn: method("warn") },
    error: method("error"),
    child: (fields) => from(lines.child(fields), threshold),
  };
}

/**
 * A log that cannot be written (its disk is full, its reader has gone) must not end what it tells of.
 * Lines wait for the next that can be written, up to a bound; then they are dropped.
 */
function fileSink(fd: number): { write(line: string): unknown } {
  const sink = pino.destination({ fd, sync: true, maxLength: LOG_WAITING_BYTES_MAX });
  sink.on("error", () => undefined);
  return sink;
}

// Patterns of a line of JSON: a backslash there is an escape and takes the next character with it,
// and conninfo's own \' inside quotes is written \\'.
const URI_PASSWORD = /(postgres(?:ql)?:\/\/[^\s:@/"]*):(?:\\.|[^\s"/\\])*@/gi;
const QUOTED = /'(?:\\\\(?:\\.|[^\\])|\\[^\\]|[^'\\])*'/.source;
const CONNINFO_PASSWORD = new RegExp(
  `\\b(password|sslpassword)(\\s*=\\s*)(?:${QUOTED}|(?:\\\\.|[^\\s"&\\\\])+)`,
  "gi",
);
const JSON_PASSWORD = /("(?:password|sslpassword|token|authorization)":)"(?:\\.|[^"\\])*"/gi;

/** Puts *** in the place of passwords in a line of JSON: in conninfo strings, PostgreSQL URIs and fields of their own. */
export function redactSecrets(line: string): string {
  return line
    .replace(URI_PASSWORD, "$1:***@")
    .replace(CONNINFO_PASSWORD, "$1$2***")
    .replace(JSON_PASSWORD, '$1"***"');
}
