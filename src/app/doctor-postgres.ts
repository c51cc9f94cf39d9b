// What `doctor` finds out by running PostgreSQL's programs: whether WAL redo really starts with our
// library in it, and whether the user that runs PostgreSQL gets to the data.

import { execFile } from "node:child_process";
import fs from "node:fs/promises";
import os from "node:os";
import path from "node:path";
import type { PostgresPrograms } from "../io/postgres.ts";
import { parsePgVersion, walFormat } from "../protocol/wal/format.ts";
import { startRedoProcess } from "../io/redo-process.ts";
import { prepareRedoTemplate } from "../io/redo-template.ts";

/** A process that has not said that it is ready by then does not start, ms. */
const READY_MS_MAX = 20_000;

/** Starts one redo process and ends it; ms until it was ready. Throws the reason when it does not start. */
export async function tryRedo(programs: PostgresPrograms, library: string): Promise<number> {
  const walMagic = walFormat(parsePgVersion(programs.major)).magic;
  const cache = await fs.mkdtemp(path.join(os.tmpdir(), "pageserver-doctor-"));
  try {
    const template = await prepareRedoTemplate(programs, cache);
    return await untilReady({ template, library, walMagic, deadlineMs: READY_MS_MAX });
  } finally {
    await fs.rm(cache, { recursive: true, force: true });
  }
}

function untilReady(options: Parameters<typeof startRedoProcess>[0]): Promise<number> {
  const begun = performance.now();
  return new Promise((resolve, reject) => {
    const lines: string[] = [];
    const redo = startRedoProcess(options, {
      onReady: () => {
        redo.close();
        resolve(performance.now() - begun);
      },
      onPages: () => undefined,
      onExit: (reason) => reject(new Error([reason, ...lines.slice(-1)].join("; "))),
      onLine: (line) => lines.push(line),
    });
    setTimeout(() => {
      redo.close();
      reject(new Error(`it is not ready after ${READY_MS_MAX / 1000} s`));
    }, READY_MS_MAX).unref();
  });
}

/** Whether the user that runs PostgreSQL may enter a directory, and all above it. */
export function mayEnter({ account }: PostgresPrograms, dir: string): Promise<boolean> {
  return new Promise((resolve) => {
    execFile("test", ["-x", dir], { ...account, cwd: "/" }, (error) => resolve(error === null));
  });
}

/** What systemd knows of the clock; undefined: it is not there to be asked. */
export function clockIsSynchronized(): Promise<boolean | undefined> {
  const show = ["show", "--property=NTPSynchronized", "--value"];
  return new Promise((resolve) => {
    execFile("timedatectl", show, { timeout: 5_000 }, (error, stdout) => {
      const said = stdout.trim();
      resolve(error !== null || (said !== "yes" && said !== "no") ? undefined : said === "yes");
    });
  });
}
