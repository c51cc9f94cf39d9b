// Real redo processes for tests: builds pgext once, makes the template once, opens processes.

import { execFileSync } from "node:child_process";
import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import { fileURLToPath } from "node:url";

import type { OpenRedoProcess } from "../../src/actors/redo-worker.ts";
import { findPostgres } from "../../src/io/postgres.ts";
import {
  type RedoProcess,
  type RedoProcessOptions,
  startRedoProcess,
} from "../../src/io/redo-process.ts";
import { prepareRedoTemplate } from "../../src/io/redo-template.ts";
import { PG_BIN } from "./postgres.ts";

const PGEXT = fileURLToPath(new URL("../../pgext", import.meta.url));

/** XLOG_PAGE_MAGIC of PostgreSQL 15. */
export const WAL_MAGIC_15 = 0xd110;

/** Builds what is out of date; several test files may do so at once. Gives the directory of results. */
export function buildPgext(target = "all"): string {
  const out = path.join(PGEXT, "build");
  fs.mkdirSync(out, { recursive: true });
  const make = ["make", "-s", "-C", PGEXT, `PG_CONFIG=${path.join(PG_BIN, "pg_config")}`, target];
  execFileSync("flock", [path.join(out, ".lock"), ...make], { stdio: ["ignore", "pipe", "pipe"] });
  return out;
}

export interface RedoOpener {
  readonly open: OpenRedoProcess;
  /** Processes opened so far, oldest first. */
  readonly opened: RedoProcess[];
}

/** What a redo process of this checkout is started with. */
export async function redoProcessOptions(): Promise<RedoProcessOptions> {
  const library = path.join(buildPgext(), "walredo.so");
  const programs = await findPostgres({ major: 15, binDir: PG_BIN });
  const cacheDir = path.join(os.tmpdir(), "pageserver-test-cache");
  const template = await prepareRedoTemplate(programs, cacheDir);
  return { template, library, deadlineMs: 20_000, walMagic: WAL_MAGIC_15 };
}

/** How to open redo processes. `library` replaces walredo.so, to make starting fail. */
export async function redoOpener(
  options: { readonly deadlineMs?: number; readonly library?: () => string } = {},
): Promise<RedoOpener> {
  const usual = await redoProcessOptions();
  const opened: RedoProcess[] = [];
  const open: OpenRedoProcess = (handlers) => {
    const process = startRedoProcess(
      {
        ...usual,
        library: options.library?.() ?? usual.library,
        deadlineMs: options.deadlineMs ?? usual.deadlineMs,
      },
      handlers,
    );
    opened.push(process);
    return process;
  };
  return { open, opened };
}
