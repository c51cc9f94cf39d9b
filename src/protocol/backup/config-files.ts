// The configuration that a base backup carries: enough that `pg_ctl start` works on what was
// unpacked, and no more. Whoever boots a compute appends settings of his own.

import type { ControlFile } from "../control-file.ts";

/** Everybody on this machine, nobody else. Who may connect to the machine is not this file's matter. */
export const PG_HBA_CONF = `# Written by the page server's base backup.
local   all             all                                     trust
host    all             all             127.0.0.1/32            trust
host    all             all             ::1/128                 trust
local   replication     all                                     trust
host    replication     all             127.0.0.1/32            trust
host    replication     all             ::1/128                 trust
`;

const WAL_LEVELS = ["minimal", "replica", "logical"] as const;

/**
 * postgresql.conf: limits not below those that the server had whose history this is (prepared
 * transactions and replication origins must find room at start-up), else PostgreSQL's defaults.
 */
export function postgresqlConf(
  control: ControlFile,
  counts: { readonly twoPhase: number; readonly origins: number },
): string {
  const level = WAL_LEVELS[control.walLevel] ?? "replica";
  const settings: Readonly<Record<string, string | number>> = {
    max_connections: control.maxConnections,
    max_worker_processes: control.maxWorkerProcesses,
    max_wal_senders: Math.max(control.maxWalSenders, 10),
    max_replication_slots: Math.max(counts.origins + 4, 10),
    max_prepared_transactions: Math.max(control.maxPreparedXacts, counts.twoPhase),
    max_locks_per_transaction: control.maxLocksPerXact,
    track_commit_timestamp: control.trackCommitTimestamp ? "on" : "off",
    // Without WAL for everything there is nothing to follow.
    wal_level: level === "minimal" ? "replica" : level,
  };
  const lines = Object.entries(settings).map(([name, value]) => `${name} = ${value}`);
  return `# Written by the page server's base backup.\n${lines.join("\n")}\n`;
}
