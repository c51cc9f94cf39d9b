// What every redo process starts from: the control file of an empty cluster of the same
// PostgreSQL. Made by initdb once and kept in a cache directory, stamped with the version.

import fs from "node:fs/promises";
import os from "node:os";
import path from "node:path";

import { type PostgresPrograms, PostgresProblem, initdb } from "./postgres.ts";

/** PG_CONTROL_FILE_SIZE. */
const CONTROL_FILE_BYTES = 8192;

export interface RedoTemplate {
  readonly programs: PostgresPrograms;
  /** PG_VERSION. */
  readonly versionFile: Uint8Array;
  /** global/pg_control: no data checksums, so that redo does not verify them. */
  readonly controlFile: Uint8Array;
}

/**
 * Reads the template from `cacheDir`, or makes it there (about a second). Several programs may do
 * this at once. Throws PostgresProblem when initdb fails.
 */
export async function prepareRedoTemplate(
  programs: PostgresPrograms,
  cacheDir: string,
): Promise<RedoTemplate> {
  const file = path.join(cacheDir, `redo-template-${programs.version.replace(/[^\w.]/g, "_")}`);
  const versionFile = new TextEncoder().encode(`${programs.major}\n`);
  const cached = await readIfWhole(file);
  if (cached !== undefined) return { programs, versionFile, controlFile: cached };

  // Under the temp dir: whoever runs PostgreSQL can reach it, and perhaps not the cache.
  const home = await fs.mkdtemp(path.join(os.tmpdir(), "pageserver-initdb-"));
  try {
    await fs.chmod(home, 0o755);
    const cluster = path.join(home, "cluster");
    await initdb(programs, cluster, { checksums: "off" });
    const controlFile = await readIfWhole(path.join(cluster, "global", "pg_control"));
    if (controlFile === undefined) throw new PostgresProblem("initdb left no whole pg_control");
    await fs.mkdir(cacheDir, { recursive: true });
    const draft = `${file}.${process.pid}`;
    await fs.writeFile(draft, controlFile);
    await fs.rename(draft, file);
    return { programs, versionFile, controlFile };
  } finally {
    await fs.rm(home, { recursive: true, force: true });
  }
}

async function readIfWhole(file: string): Promise<Uint8Array | undefined> {
  try {
    const bytes = await fs.readFile(file);
    return bytes.length === CONTROL_FILE_BYTES ? bytes : undefined;
  } catch {
    return undefined;
  }
}
