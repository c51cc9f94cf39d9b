// postgresql.conf of a compute: a stock PostgreSQL whose directory is disposable, because the page
// server holds its history. Each setting says why it is not PostgreSQL's default.

import type { TenantId, TimelineId } from "../core/ids.ts";
import { Lsn } from "../core/lsn.ts";
import { computeConninfo } from "../protocol/compute-options.ts";
import { PostgresProblem } from "./postgres.ts";

export interface ComputeSettings {
  readonly port: number;
  /** Directory of the unix socket; undefined: TCP on loopback only. */
  readonly socketDir: string | undefined;
  /**
   * "synchronous": a commit returns when the page server has fsynced its WAL. "asynchronous": when
   * this machine has; what the page server has not taken in is lost with the directory. "none": it is a
   * standby, where nothing can be written.
   */
  readonly commits: "synchronous" | "asynchronous" | "none";
  /** application_name with which the page server's WAL receiver logs in. */
  readonly standbyName: string;
  /** Without disks: pages are read from the page server when they are needed. Undefined: all are here. */
  readonly diskless?: DisklessSettings;
  /** Further settings; they win. Names and values are checked for form only. */
  readonly extra?: Readonly<Record<string, string>>;
}

/** What the extension in pgext/compute needs to know. */
export interface DisklessSettings {
  /** Absolute path of compute.so, readable by the server's user. */
  readonly library: string;
  /** libpq's conninfo of the page service. */
  readonly pageService: string;
  readonly tenant: TenantId;
  readonly timeline: TimelineId;
  /** The LSN of the base backup. */
  readonly startLsn: Lsn;
  /** The timeline's generation that this compute is; of those that write. */
  readonly generation?: number;
  /** The moment it shows; of those that do not. */
  readonly at?: Lsn;
}

/** The text that is appended to the backup's postgresql.conf. Throws PostgresProblem for a malformed setting. */
export function computeConf(settings: ComputeSettings): string {
  const { port, socketDir, commits, standbyName, diskless, extra } = settings;
  if (!/^[A-Za-z0-9_-]{1,63}$/.test(standbyName)) {
    throw new PostgresProblem(`"${standbyName}" cannot be the name of a synchronous standby`);
  }
  const all: Readonly<Record<string, string>> = {
    listen_addresses: "127.0.0.1",
    port: `${port}`,
    unix_socket_directories: socketDir ?? "",
    ...(commits === "synchronous" ? synchronous(standbyName) : ASYNCHRONOUS),
    // Hint bits move a page's LSN like on any server whose WAL is used to rebuild pages, so that
    // pages rebuilt here and pages there can be compared.
    wal_log_hints: "on",
    // From the first record on everything must still be there when the WAL receiver connects;
    // then its slot keeps it.
    wal_keep_size: "512MB",
    wal_sender_timeout: "30s",
    // Recovery never starts from these checkpoints, so let there be few.
    checkpoint_timeout: "15min",
    max_wal_size: "2GB",
    // Segments are not synced, so filling them with zeros first wins nothing.
    wal_init_zero: "off",
    archive_mode: "off",
    // After a crash the directory is not repaired but thrown away: its WAL may be ahead of what
    // the page server has, and clients were told nothing of that part.
    restart_after_crash: "off",
    log_line_prefix: "%m [%p] ",
    // Bitmap scans and VACUUM ask for pages ahead, which is a round trip saved, not a disk's work.
    ...(diskless !== undefined && {
      effective_io_concurrency: "64",
      maintenance_io_concurrency: "64",
    }),
    ...extra,
    ...(commits === "none" && STANDBY),
    ...(diskless !== undefined && disklessSettings(diskless, extra?.["shared_preload_libraries"])),
    ...(diskless !== undefined && { "pageserver.wal_receiver": standbyName }),
  };
  return `\n# Appended at boot.\n${Object.entries(all).map(setting).join("\n")}\n`;
}

/**
 * Commits are acknowledged when the page server has them on disk. What is on *this* disk then
 * matters to nobody: after a crash of the machine the compute is booted anew. So no fsync, and no
 * full-page images against pages torn by such a crash; a base backup forces them by itself.
 */
const synchronous = (standbyName: string): Readonly<Record<string, string>> => ({
  synchronous_standby_names: `"${standbyName}"`,
  synchronous_commit: "on",
  fsync: "off",
  full_page_writes: "off",
});

/** Commits are acknowledged when they are on this disk, so the directory must outlive a crash of the machine. */
const ASYNCHRONOUS: Readonly<Record<string, string>> = {
  synchronous_standby_names: "",
  synchronous_commit: "on",
  fsync: "on",
  full_page_writes: "on",
};

/**
 * A standby that nobody sends WAL to stays where it is. Whoever promotes it would write what is nobody's
 * history: a command that dies of a signal ends the server before that (xlogarchive.c, failOnSignal).
 */
const STANDBY: Readonly<Record<string, string>> = {
  synchronous_standby_names: "",
  hot_standby: "on",
  primary_conninfo: "",
  restore_command: "",
  recovery_end_command: "kill -TERM $$",
};

/** Without these the server would find no pages, so nobody else's settings win over them. */
const disklessSettings = (
  diskless: DisklessSettings,
  libraries: string | undefined,
): Readonly<Record<string, string>> => ({
  shared_preload_libraries: diskless.library + (libraries ? `,${libraries}` : ""),
  "pageserver.connection": computeConninfo(diskless.pageService, diskless),
  "pageserver.tenant": diskless.tenant,
  "pageserver.timeline": diskless.timeline,
  "pageserver.start_lsn": Lsn.format(diskless.startLsn),
});

function setting([name, value]: readonly [string, string]): string {
  if (!/^[a-z_][a-z0-9_]*(\.[a-z_][a-z0-9_]*)?$/i.test(name)) {
    throw new PostgresProblem(`"${name}" is not the name of a PostgreSQL setting`);
  }
  // A file of lines: a line break in a value would begin another setting.
  for (const char of value) {
    if (char < " ") throw new PostgresProblem(`the value of ${name} has a control character`);
  }
  return `${name} = '${value.replaceAll("\\", "\\\\").replaceAll("'", "''")}'`;
}
