// PostgreSQL's cumulative statistics from one compute of a timeline to the next. A server writes them
// to a file when it stops cleanly, and no WAL holds them; without them autovacuum would begin at zero.
// They are of one moment: a compute that starts anywhere else starts without, as after a crash.

import fs from "node:fs/promises";
import path from "node:path";
import { Lsn } from "../core/lsn.ts";

const PREFIX = "statistics-";

/** Both sides of a page's header are the same moment. */
const fileName = (at: Lsn): string =>
  `${PREFIX}${Lsn.normalize(at).toString(16).padStart(16, "0")}`;

/** Keeps what a compute that stopped at `at` has left; undefined: it has left none. */
export async function keepStatistics(
  timelineDir: string,
  statistics: Uint8Array | undefined,
  at: Lsn,
): Promise<void> {
  await dropStatistics(timelineDir);
  if (statistics === undefined) return;
  await fs.writeFile(path.join(timelineDir, fileName(at)), statistics, { mode: 0o600 });
}

/** What was kept of the server that stopped at `at`. */
export async function statisticsAt(timelineDir: string, at: Lsn): Promise<Uint8Array | undefined> {
  return fs.readFile(path.join(timelineDir, fileName(at))).catch(() => undefined);
}

async function dropStatistics(timelineDir: string): Promise<void> {
  const names = await fs.readdir(timelineDir);
  for (const name of names.filter((known) => known.startsWith(PREFIX))) {
    await fs.rm(path.join(timelineDir, name), { force: true });
  }
}
