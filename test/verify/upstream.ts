// What a PostgreSQL that sends us its WAL knows of us: how much we said is flushed, and where we
// asked it to go on after a restart. Both are its own words, not ours.

import fs from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import pg from "pg";
import { Lsn } from "../../src/core/lsn.ts";

const RESUME_MS_MAX = 60_000;
const POLL_MS = 25;

export class Upstream {
  private readonly sql: pg.Client;
  private readonly logFile: string;
  private logBytes = 0;

  private constructor(sql: pg.Client, logFile: string) {
    this.sql = sql;
    this.logFile = logFile;
  }

  /** Connects to a server and makes it log replication commands. */
  static async connect(uri: string, logFile: string): Promise<Upstream> {
    const sql = new pg.Client(uri);
    await sql.connect();
    await sql.query("ALTER SYSTEM SET log_replication_commands = on");
    await sql.query("SELECT pg_reload_conf()");
    return new Upstream(sql, logFile);
  }

  /**
   * What was last reported as flushed. A physical slot's restart_lsn is exactly that, and it stays
   * when the connection is gone.
   */
  async flushed(): Promise<Lsn> {
    const found = await this.sql.query<{ lsn: string }>(
      `SELECT greatest(max(s.restart_lsn), max(r.flush_lsn))::text AS lsn
         FROM pg_replication_slots s LEFT JOIN pg_stat_replication r ON r.pid = s.active_pid
        WHERE s.slot_type = 'physical'`,
    );
    return Lsn.parse(found.rows[0]!.lsn);
  }

  /** Cuts the connections on which WAL is sent; gives how many there were. */
  async terminateSenders(): Promise<number> {
    const cut = await this.sql.query(
      "SELECT pg_terminate_backend(pid) FROM pg_stat_replication WHERE state = 'streaming'",
    );
    return cut.rowCount ?? 0;
  }

  /** From here on resumedAt() looks for the next START_REPLICATION. */
  mark(): void {
    this.logBytes = fs.statSync(this.logFile).size;
  }

  /** Where streaming was first asked to begin since mark(). Waits for it. */
  async resumedAt(): Promise<Lsn> {
    for (const end = Date.now() + RESUME_MS_MAX; Date.now() < end; await sleep(POLL_MS)) {
      const log = fs.readFileSync(this.logFile).subarray(this.logBytes).toString("utf8");
      const found = /received replication command: START_REPLICATION .*?PHYSICAL (\S+)/.exec(log);
      if (found !== null) return Lsn.parse(found[1]!);
    }
    throw new Error(`nobody asked for WAL again within ${RESUME_MS_MAX / 1000} s`);
  }

  async end(): Promise<void> {
    await this.sql.end();
  }

  abandon(): void {
    void this.sql.end().catch(() => undefined);
  }
}
