// WAL to measure with: clusters at rest (what a page server imports), and copies of them that have
// worked and crashed (what PostgreSQL recovers, and where the WAL is). Nothing was written back in
// between, so PostgreSQL's recovery has all of the work to do.

import { execFileSync } from "node:child_process";
import fs from "node:fs";
import path from "node:path";
import { Lsn } from "../src/core/lsn.ts";
import { readControlFile } from "../src/protocol/control-file.ts";
import { walFileName } from "../src/protocol/data-dir-names.ts";
import { type TestPostgres, postgresTempDir, startPostgres } from "../test/support/postgres.ts";

/** A cluster at rest: what a page server imports. */
export interface Base {
  readonly dataDir: string;
  /** Its shutdown checkpoint: the first record of WAL that follows. */
  readonly startLsn: Lsn;
  /** A table of it whose pages are full. */
  readonly table: Table;
}

export interface Table {
  readonly spc: number;
  readonly db: number;
  readonly rel: number;
  readonly blocks: number;
}

/** A copy of a base that has worked and crashed. */
export interface Crashed {
  /** Its pg_wal has the WAL from the base's checkpoint on. */
  readonly dataDir: string;
  /** End of the last record, a segment switch. */
  readonly endLsn: Lsn;
}

const SPC_DEFAULT = 1663;
/** Rows of 2000 random bytes that fill a page to the last 24. */
const NOISE_ROWS_A_PAGE = 4;
/** Different rows of random bytes of the half-full table. */
const BODIES = 256;
/** Clients of pgbench. */
const CLIENTS = 8;

/** pgbench's own TPC-B-like transaction, its statements sent in one go: the same WAL in half the time. */
const SCRIPT = `
\\set aid random(1, 100000 * :scale)
\\set bid random(1, 1 * :scale)
\\set tid random(1, 10 * :scale)
\\set delta random(-5000, 5000)
\\startpipeline
BEGIN;
UPDATE pgbench_accounts SET abalance = abalance + :delta WHERE aid = :aid;
SELECT abalance FROM pgbench_accounts WHERE aid = :aid;
UPDATE pgbench_tellers SET tbalance = tbalance + :delta WHERE tid = :tid;
UPDATE pgbench_branches SET bbalance = bbalance + :delta WHERE bid = :bid;
INSERT INTO pgbench_history (tid, bid, aid, delta, mtime)
  VALUES (:tid, :bid, :aid, :delta, CURRENT_TIMESTAMP);
END;
\\endpipeline
`;

/** Settings of all clusters, also while they recover: memory for all of it, no checkpoint on its own. */
export const SETTINGS = {
  shared_buffers: "3GB",
  wal_compression: "off",
  autovacuum: "off",
  checkpoint_timeout: "1h",
  max_wal_size: "64GB",
  wal_keep_size: "64GB",
  bgwriter_lru_maxpages: "0",
  synchronous_commit: "off",
  fsync: "off",
};

/** Where clusters of one run lie. */
export class Corpora {
  private readonly home = postgresTempDir("bench-corpus-");
  private made = 0;

  /** pgbench's tables; 15 MB for each unit of `scale`. */
  pgbenchBase(scale: number): Promise<Base> {
    return this.base("pgbench_accounts", async (pg) => {
      await pg.pgbench(["-i", "-q", "-s", `${scale}`]);
      await pg.sql("VACUUM ANALYZE");
    });
  }

  /** A table of `pages` pages with one row each and much room behind it, all in one table. */
  roomyBase(pages: number): Promise<Base> {
    return this.base("roomy", async (pg) => {
      await pg.sql(
        "CREATE TABLE roomy (n int, filler text) WITH (fillfactor = 10); " +
          `INSERT INTO roomy SELECT 0, repeat('x', 400) FROM generate_series(1, ${pages})`,
      );
    });
  }

  /** A table of `pages` pages, each half filled by one row of random bytes: it has room for the next version of it. */
  halfFullBase(pages: number): Promise<Base> {
    return this.base("half_full", async (pg) => {
      // Few bodies for many rows: no page has one of them twice but as two versions.
      await pg.sql(
        "CREATE TABLE bodies AS SELECT i, (SELECT string_agg(uuid_send(gen_random_uuid()), '') " +
          `FROM generate_series(1, 244 + 0 * i)) AS body FROM generate_series(0, ${BODIES - 1}) i; ` +
          "CREATE TABLE half_full (n int, body bytea) WITH (fillfactor = 50); " +
          "ALTER TABLE half_full ALTER body SET STORAGE PLAIN; " +
          `INSERT INTO half_full SELECT 0, body FROM generate_series(1, ${pages}) s ` +
          `JOIN bodies ON i = s % ${BODIES}; VACUUM FREEZE half_full`,
      );
    });
  }

  /** A table of `pages` pages of random bytes. */
  noiseBase(pages: number): Promise<Base> {
    return this.base("noise", async (pg) => {
      await pg.sql(
        "CREATE TABLE noise (body bytea); ALTER TABLE noise ALTER body SET STORAGE PLAIN; " +
          "INSERT INTO noise SELECT (SELECT string_agg(uuid_send(gen_random_uuid()), '') " +
          "FROM generate_series(1, 125 + 0 * n)) " +
          `FROM generate_series(1, ${pages * NOISE_ROWS_A_PAGE}) n; VACUUM FREEZE noise`,
      );
    });
  }

  /** initdb, and a table of one row. */
  emptyBase(): Promise<Base> {
    return this.base("one", async (pg) => {
      await pg.sql("CREATE TABLE one AS SELECT 1 AS n");
    });
  }

  private async base(table: string, fill: (pg: TestPostgres) => Promise<void>): Promise<Base> {
    const dataDir = this.name();
    const pg = await startPostgres({ settings: SETTINGS });
    try {
      await fill(pg);
      const facts = await pg.sql(
        `SELECT d.oid, pg_relation_filenode('${table}'), pg_relation_size('${table}') / 8192
           FROM pg_database d WHERE datname = current_database()`,
      );
      const [db, rel, blocks] = facts.split("|").map(Number);
      await pg.stop("fast");
      copyTree(pg.dataDir, dataDir);
      const control = readControlFile(fs.readFileSync(`${dataDir}/global/pg_control`), 15);
      return {
        dataDir,
        startLsn: control.checkPointCopy.redo,
        table: { spc: SPC_DEFAULT, db: db!, rel: rel!, blocks: blocks! },
      };
    } finally {
      await pg.cleanup();
    }
  }

  /** Runs `transactions` of pgbench for each of its eight clients on a copy of `base`, then a crash. */
  pgbench(
    base: Base,
    work: { readonly scale: number; readonly transactions: number },
    fullPageWrites: "on" | "off",
  ): Promise<Crashed> {
    return this.crashed(base, { full_page_writes: fullPageWrites }, async (pg) => {
      const script = path.join(pg.socketDir, "tpcb.sql");
      fs.writeFileSync(script, SCRIPT, { mode: 0o644 });
      const amount = ["-c", `${CLIENTS}`, "-j", "2", "-t", `${work.transactions}`];
      const load = ["-f", script, "-D", `scale=${work.scale}`];
      await pg.pgbench(["-n", "-M", "prepared", ...amount, ...load]);
    });
  }

  /** Updates every row of the roomy table so often, without images: as many records for every page. */
  updates(base: Base, times: number): Promise<Crashed> {
    return this.crashed(base, { full_page_writes: "off" }, async (pg) => {
      // In one transaction, or pages would be pruned between the updates.
      const update = "UPDATE roomy SET n = n + 1;\n";
      await pg.sql(`BEGIN;\n${update.repeat(times)}COMMIT`);
    });
  }

  /** Writes the whole half-full table so often, an image of every page each time. */
  overwrites(base: Base, times: number): Promise<Crashed> {
    return this.crashed(base, { full_page_writes: "on" }, async (pg) => {
      for (let i = 0; i < times; i++) {
        await pg.sql("CHECKPOINT");
        await pg.sql("UPDATE half_full SET n = n + 1");
        await pg.sql("VACUUM half_full");
      }
    });
  }

  private async crashed(
    base: Base,
    settings: Readonly<Record<string, string>>,
    work: (pg: TestPostgres) => Promise<void>,
  ): Promise<Crashed> {
    const dataDir = this.name();
    copyTree(base.dataDir, dataDir);
    const pg = await startPostgres({ dataDir, settings: { ...SETTINGS, ...settings } });
    try {
      await work(pg);
      // The switch flushes everything before it: what the crash leaves is known to the byte.
      const endLsn = Lsn.parse(await pg.sql("SELECT pg_switch_wal()"));
      await pg.kill();
      fs.rmSync(`${dataDir}/postmaster.pid`, { force: true });
      return { dataDir, endLsn };
    } finally {
      await pg.cleanup();
    }
  }

  /** A table of `pages` pages that take little time to make. */
  wideBase(pages: number): Promise<Base> {
    return this.base("wide", async (pg) => {
      await pg.sql(
        "CREATE TABLE wide (n int, body text); ALTER TABLE wide ALTER body SET STORAGE PLAIN; " +
          `INSERT INTO wide SELECT n, repeat('x', 7900) FROM generate_series(1, ${pages}) n; ` +
          "VACUUM FREEZE wide",
      );
    });
  }

  /**
   * A table of `pages` pages with one row each, of bytes that do not compress: what is stored of it is as large
   * as it is. The same bodies come again after 16 MB, which is farther than a compressor of layers looks.
   */
  denseBase(pages: number): Promise<Base> {
    const body =
      "(SELECT string_agg(uuid_send(gen_random_uuid()), '') FROM generate_series(1, 505 + 0 * p))";
    return this.base("dense", async (pg) => {
      await pg.sql(
        `CREATE TABLE pool AS SELECT p, ${body} AS body FROM generate_series(1, 2000) p; ` +
          "CREATE TABLE dense (n int, body bytea); ALTER TABLE dense ALTER body SET STORAGE PLAIN; " +
          "INSERT INTO dense SELECT n, body FROM generate_series(1, " +
          `${Math.ceil(pages / 2000)}) n, LATERAL (SELECT body FROM pool ORDER BY p) o; VACUUM FREEZE dense`,
      );
    });
  }

  /** A copy of a cluster at rest. */
  copy(dataDir: string): string {
    const copy = this.name();
    copyTree(dataDir, copy);
    return copy;
  }

  /** A path that nothing is at. */
  name(): string {
    return path.join(this.home, `cluster-${++this.made}`);
  }

  remove(dataDir: string): void {
    fs.rmSync(dataDir, { recursive: true, force: true, maxRetries: 3 });
  }

  cleanup(): void {
    this.remove(this.home);
  }
}

/** Copies a directory with owners and modes; the copy must not exist. */
export function copyTree(from: string, to: string): void {
  execFileSync("cp", ["-a", "--reflink=auto", from, to]);
}

/** Path of the segment file that holds `lsn`, in a data directory of timeline 1. */
export const segmentPath = (dataDir: string, lsn: Lsn): string =>
  path.join(dataDir, "pg_wal", walFileName(1, lsn));
