// How long stock PostgreSQL takes to recover a crashed cluster: by its own log, from "redo starts" to
// "ready to accept connections". That is redo and the checkpoint at its end, which makes the result
// durable as sealing does here. What comes before (process start, fsync of the whole data
// directory) is not counted.

import { execFileSync } from "node:child_process";
import fs from "node:fs";
import path from "node:path";
import { postgresTempDir, startPostgres } from "../test/support/postgres.ts";
import { SETTINGS, copyTree } from "./corpus.ts";

/** Recovers a copy of `crashedDir`; gives the seconds. */
export async function measureRecovery(crashedDir: string): Promise<number> {
  const home = postgresTempDir("bench-recovery-");
  const dataDir = path.join(home, "data");
  try {
    copyTree(crashedDir, dataDir);
    // The copy's own writes must not be paid by the recovery's fsyncs.
    execFileSync("sync");
    const settings = { ...SETTINGS, fsync: "on", log_line_prefix: "%n " };
    const pg = await startPostgres({ dataDir, settings });
    const log = fs.readFileSync(pg.logFile, "utf8");
    await pg.cleanup();
    return at(log, "database system is ready to accept connections") - at(log, "redo starts at");
  } finally {
    fs.rmSync(home, { recursive: true, force: true, maxRetries: 3 });
  }
}

/** When PostgreSQL said so, seconds. */
function at(log: string, said: string): number {
  const line = log.split("\n").find((l) => l.includes(said));
  if (line === undefined) throw new Error(`PostgreSQL's log does not say "${said}":\n${log}`);
  return Number.parseFloat(line);
}
