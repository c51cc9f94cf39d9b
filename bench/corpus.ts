// WAL to measure with: a cluster at rest (what a page server imports), the WAL that pgbench then
// wrote, and the same cluster as a crash left it (what PostgreSQL recovers). Nothing was written
// back in between, so PostgreSQL's recovery has all of the work to do.

import fs from "node:fs";
import path from "node:path";
import { startPostgres } from "../test/support/postgres.ts";

export interface Corpus {
  /** Cleanly stopped cluster from before the WAL; its checkpoint is where the WAL begins. */
  readonly baseDir: string;
  /** The crashed cluster; its pg_wal has the WAL. */
  readonly crashedDir: string;
  /** End of the WAL as the primary knew it just before the crash, "X/Y". */
  readonly endLsn: string;
  readonly cleanup: () => Promise<void>;
}

export interface CorpusOptions {
  /** pgbench scale: 15 MB each. */
  readonly scale: number;
  readonly seconds: number;
  readonly fullPageWrites: boolean;
}

/** Makes a corpus; takes `seconds` and a few more. */
export async function makeCorpus(options: CorpusOptions): Promise<Corpus> {
  const pg = await startPostgres({
    settings: {
      shared_buffers: "2GB",
      full_page_writes: options.fullPageWrites ? "on" : "off",
      wal_compression: "off",
      synchronous_commit: "off",
      fsync: "off",
      autovacuum: "off",
      checkpoint_timeout: "1h",
      max_wal_size: "64GB",
      bgwriter_lru_maxpages: "0",
      wal_keep_size: "64GB",
    },
  });
  await pg.pgbench(["-i", "-q", "-s", String(options.scale)]);
  await pg.sql("VACUUM ANALYZE");
  await pg.stop("fast");
  const baseDir = `${pg.dataDir}.base`;
  fs.cpSync(pg.dataDir, baseDir, { recursive: true, preserveTimestamps: true });
  await pg.start();
  await pg.pgbench(["-n", "-M", "prepared", "-c", "8", "-j", "2", "-T", String(options.seconds)]);
  // Everything up to here reaches the WAL files before the crash.
  const endLsn = await pg.sql("CREATE TABLE corpus_end(); SELECT pg_current_wal_flush_lsn()");
  await pg.kill();
  return {
    baseDir,
    crashedDir: pg.dataDir,
    endLsn: endLsn.trim().split("\n").at(-1)!,
    cleanup: async () => {
      await pg.cleanup();
      fs.rmSync(baseDir, { recursive: true, force: true });
    },
  };
}

/** WAL segment files of a corpus from the one that holds `startLsn`, in order. */
export function walSegments(corpus: Corpus): readonly string[] {
  const dir = path.join(corpus.crashedDir, "pg_wal");
  return fs
    .readdirSync(dir)
    .filter((name) => /^[0-9A-F]{24}$/.test(name))
    .sort()
    .map((name) => path.join(dir, name));
}
