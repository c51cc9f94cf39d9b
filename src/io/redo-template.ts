// What every redo process starts from: the control file of an empty cluster of the same
// PostgreSQL, made by initdb once and kept in a cache directory, stamped with the version; and
// from it a data directory for each process, of which two can never share one.

import fs from "node:fs";
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
  const home = await fs.promises.mkdtemp(path.join(os.tmpdir(), "pageserver-initdb-"));
  try {
    await fs.promises.chmod(home, 0o755);
    const cluster = path.join(home, "cluster");
    await initdb(programs, cluster, { checksums: "off" });
    const controlFile = await readIfWhole(path.join(cluster, "global", "pg_control"));
    if (controlFile === undefined) throw new PostgresProblem("initdb left no whole pg_control");
    await fs.promises.mkdir(cacheDir, { recursive: true });
    const draft = `${file}.${process.pid}`;
    await fs.promises.writeFile(draft, controlFile);
    await fs.promises.rename(draft, file);
    return { programs, versionFile, controlFile };
  } finally {
    await fs.promises.rm(home, { recursive: true, force: true });
  }
}

async function readIfWhole(file: string): Promise<Uint8Array | undefined> {
  try {
    const bytes = await fs.promises.readFile(file);
    return bytes.length === CONTROL_FILE_BYTES ? bytes : undefined;
  } catch {
    return undefined;
  }
}

/** Data directories that exist, so that none outlives this program. */
const dataDirs = new Set<string>();
process.on("exit", () => {
  for (const dir of dataDirs) removeRedoDataDir(dir);
});

/**
 * A new data directory with what `postgres --single` insists on before it loads libraries, and
 * nothing more; and where its user can read the library: a copy in there, if not where it is.
 */
export function makeRedoDataDir(
  template: RedoTemplate,
  library: string,
): { readonly dir: string; readonly library: string } {
  if (!fs.existsSync(library)) {
    throw new PostgresProblem(`${library} does not exist; build it: make -C pgext`);
  }
  const dir = fs.mkdtempSync(path.join(os.tmpdir(), "pageserver-redo-"));
  dataDirs.add(dir);
  try {
    fillDataDir(dir, template);
    if (template.programs.account.uid === undefined || readableByAll(library)) {
      return { dir, library };
    }
    const copy = path.join(dir, "walredo.so");
    fs.copyFileSync(library, copy);
    fs.chmodSync(copy, 0o755);
    return { dir, library: copy };
  } catch (error) {
    removeRedoDataDir(dir);
    throw error;
  }
}

/** Removes a data directory, if it still exists. A running process does not need it any more. */
export function removeRedoDataDir(dir: string): void {
  if (dataDirs.delete(dir)) fs.rmSync(dir, { recursive: true, force: true, maxRetries: 3 });
}

function fillDataDir(dir: string, template: RedoTemplate): void {
  const { uid, gid } = template.programs.account;
  const own = (name: string): void => {
    if (uid !== undefined) fs.chownSync(path.join(dir, name), uid, gid);
  };
  for (const name of ["global", "pg_notify", "pg_dynshmem"]) {
    fs.mkdirSync(path.join(dir, name), 0o700);
    own(name);
  }
  const files: Readonly<Record<string, Uint8Array>> = {
    PG_VERSION: template.versionFile,
    "global/pg_control": template.controlFile,
    "postgresql.conf": new Uint8Array(),
    "postgresql.auto.conf": new Uint8Array(),
  };
  for (const [name, content] of Object.entries(files)) {
    fs.writeFileSync(path.join(dir, name), content, { mode: 0o600 });
    own(name);
  }
  own(".");
}

function readableByAll(file: string): boolean {
  if ((fs.statSync(file).mode & 0o004) === 0) return false;
  for (let dir = path.dirname(file); ; dir = path.dirname(dir)) {
    if ((fs.statSync(dir).mode & 0o001) === 0) return false;
    if (dir === path.dirname(dir)) return true;
  }
}
