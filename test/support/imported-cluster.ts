// A stock PostgreSQL cluster with a bit of everything, shut down and imported into memory: what
// base backups are made from in tests.

import fs from "node:fs/promises";
import path from "node:path";

import type { BackupSource } from "../../src/core/backup-source.ts";
import { LSN_INVALID, type Lsn } from "../../src/core/lsn.ts";
import { readControl, walkDataDir } from "../../src/io/data-dir.ts";
import { type PostgresPrograms, findPostgres, initdb } from "../../src/io/postgres.ts";
import { readControlFile } from "../../src/protocol/control-file.ts";
import { DataDirImport, type ImportResult } from "../../src/protocol/import-data-dir.ts";
import { ImageSink, imageSource } from "./image-source.ts";
import { PG_BIN, postgresTempDir, startPostgres } from "./postgres.ts";

export interface ImportedCluster {
  readonly programs: PostgresPrograms;
  /** For whatever the test makes; removed by cleanup. */
  readonly home: string;
  /** The data directory that was imported; nothing runs in it. */
  readonly dataDir: string;
  readonly sink: ImageSink;
  readonly imported: ImportResult;
  /** The cluster at its last checkpoint, or at a later position with the same contents. */
  source(at?: { readonly lsn?: Lsn; readonly tli?: number }): BackupSource;
  cleanup(): Promise<void>;
}

/** initdb, `fill` with SQL on a running server, clean shutdown, import. */
export async function importedCluster(
  fill: (sql: (text: string, db?: string) => Promise<string>) => Promise<void>,
  checksums: "on" | "off" = "off",
): Promise<ImportedCluster> {
  const programs = await findPostgres({ major: 15, binDir: PG_BIN });
  const home = postgresTempDir("pgbackup-");
  const dataDir = path.join(home, "origin");
  await initdb(programs, dataDir, { checksums });
  const settings = { max_prepared_transactions: "5" };
  const server = await startPostgres({ dataDir, settings });
  try {
    await fill((text, db) => server.sql(text, db));
    await server.stop();
  } finally {
    await server.cleanup();
  }
  const sink = new ImageSink();
  const { redo } = readControlFile(await readControl(dataDir), 15).checkPointCopy;
  const job = new DataDirImport(sink, { baseLsn: redo, state: "exact" });
  for await (const entry of walkDataDir(dataDir)) await job.entry(entry);
  const imported = job.finish();
  return {
    programs,
    home,
    dataDir,
    sink,
    imported,
    source: ({ lsn = redo, tli = 1 } = {}) => imageSource(sink, { lsn, prevLsn: LSN_INVALID, tli }),
    cleanup: () => fs.rm(home, { recursive: true, force: true, maxRetries: 3 }),
  };
}
