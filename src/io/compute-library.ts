// The library of a compute without disks where its server can read it: beside the sources, or a copy
// next to the compute's directory when its user cannot get there (a checkout under /root).

import fs from "node:fs/promises";
import path from "node:path";
import { canReach } from "./compute-dir.ts";
import { type Account, PostgresProblem } from "./postgres.ts";

/** An absolute path of `library` for the server that is about to start in `dir`. Throws PostgresProblem. */
export async function readableLibrary(
  library: string,
  dir: string,
  account: Account,
): Promise<string> {
  const found = await fs.stat(library).catch(() => undefined);
  if (found === undefined) {
    throw new PostgresProblem(`${library} does not exist; build it: make -C pgext`);
  }
  const reachable = (found.mode & 0o004) !== 0 && (await canReach(path.dirname(library), account));
  if (reachable) return library;
  const copy = path.join(path.dirname(dir), path.basename(library));
  // Replaced, not overwritten: a running server has the old one mapped.
  await fs.copyFile(library, `${copy}.new`);
  await fs.chmod(`${copy}.new`, 0o755);
  await fs.rename(`${copy}.new`, copy);
  return copy;
}
