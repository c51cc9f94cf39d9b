// The whole page server in the test's own process, on free ports, its log kept.

import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import { type Program, type Secrets, startProgram } from "../../src/app/program.ts";
import { type Flags, loadConfig } from "../../src/config.ts";
import { Client } from "../../src/http/client.ts";
import { createLog } from "../../src/io/log.ts";
import { PageClient } from "./page-client.ts";
import { PG_BIN } from "./postgres.ts";
import { buildPgext } from "./redo.ts";

export interface LogLine {
  readonly level: number;
  readonly msg: string;
  readonly err?: { readonly message: string };
  readonly [field: string]: unknown;
}

export interface TestProgram {
  readonly program: Program;
  readonly client: Client;
  readonly lines: readonly LogLine[];
  /** What would have ended the process. */
  readonly fatal: readonly Error[];
  connect(): Promise<PageClient>;
}

/** A data directory that user postgres can reach into. */
export function newDataDir(): string {
  const dir = fs.mkdtempSync(path.join(os.tmpdir(), "pageserver-app-"));
  fs.chmodSync(dir, 0o755);
  return dir;
}

/** Starts it; rejects with the sentence that a person would see. */
export async function startTestProgram(
  dataDir: string,
  flags: Flags = {},
  secrets: Secrets = {},
): Promise<TestProgram> {
  buildPgext();
  const lines: LogLine[] = [];
  const to = { write: (line: string) => lines.push(JSON.parse(line) as LogLine) };
  const log = createLog({ level: "info", to, pretty: false });
  const own = { dataDir, listenPort: 0, httpPort: 0, pgBinDir: PG_BIN, ...flags };
  const { config } = loadConfig(own, {}, undefined);
  const fatal: Error[] = [];
  const program = await startProgram(config, log, (error) => fatal.push(error), secrets);
  return {
    program,
    client: new Client(program.http),
    ...{ lines, fatal },
    connect: () => PageClient.connect({ port: program.listenPort }),
  };
}
