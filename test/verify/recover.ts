// PostgreSQL's own idea of a past moment: a base backup that is recovered to an LSN by the WAL behind it.

import { type SpawnSyncReturns, execFile, spawnSync } from "node:child_process";
import fs from "node:fs";
import path from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { Lsn } from "../../src/core/lsn.ts";
import { PG_BIN, giveToPostgres, postgresIdentity, runPg } from "../support/postgres.ts";

export function run(
  program: string,
  args: readonly string[],
  input = "",
): SpawnSyncReturns<string> {
  return spawnSync(path.join(PG_BIN, program), args, {
    ...postgresIdentity(),
    cwd: "/",
    input,
    encoding: "utf8",
    maxBuffer: 1 << 30,
  });
}

/** Its output; throws when it fails. */
export function must(program: string, args: readonly string[], input = ""): string {
  const done = run(program, args, input);
  if (done.status !== 0) throw new Error(`${program} ${args.join(" ")}: ${done.stderr}`);
  return done.stdout;
}

/** What a program prints, whatever its status. */
export function outputOf(program: string, args: readonly string[]): Promise<string> {
  const options = { ...postgresIdentity(), cwd: "/", maxBuffer: 1 << 30 };
  return new Promise((resolve) => {
    execFile(path.join(PG_BIN, program), args, options, (_error, stdout) => resolve(stdout));
  });
}

/** psql and its like: where to connect. */
export const at = (port: number): string[] => [
  "-h",
  "127.0.0.1",
  "-p",
  String(port),
  "-U",
  "postgres",
];

/**
 * The base backup, recovered to just before the record at `lsn`, promoted and cleanly stopped. `own`:
 * settings that win.
 */
export async function recover(
  base: string,
  archive: string,
  lsn: Lsn,
  home: string,
  own: Readonly<Record<string, string>> = {},
): Promise<string> {
  const dir = path.join(home, "recovered");
  await fs.promises.rm(dir, { recursive: true, force: true });
  await fs.promises.cp(base, dir, { recursive: true });
  const settings = {
    restore_command: `cp ${archive}/%f %p`,
    recovery_target_lsn: Lsn.format(lsn),
    recovery_target_inclusive: "off",
    recovery_target_action: "promote",
    hot_standby: "off",
    listen_addresses: "127.0.0.1",
    autovacuum: "off",
    unix_socket_directories: home,
    fsync: "off",
    archive_mode: "off",
    ...own,
  };
  const lines = Object.entries(settings).map(([name, value]) => `${name} = '${value}'`);
  fs.appendFileSync(path.join(dir, "postgresql.conf"), `\n${lines.join("\n")}\n`);
  fs.writeFileSync(path.join(dir, "recovery.signal"), "");
  giveToPostgres(dir);
  const log = path.join(home, "recovered.log");
  await runPg("pg_ctl", ["start", "-D", dir, "-l", log, "-w", "-s"]);
  // pg_ctl is content with a server that recovers; this one must have been promoted. Connecting would
  // read catalogs and prune their pages, so its state is read from the eighth line of postmaster.pid.
  const pidFile = path.join(dir, "postmaster.pid");
  const ready = (): boolean => fs.readFileSync(pidFile, "utf8").split("\n")[7]?.trim() === "ready";
  for (let tries = 0; !ready(); tries++) {
    if (tries > 600) throw new Error(`not recovered: ${fs.readFileSync(log, "utf8").slice(-2000)}`);
    await sleep(100);
  }
  await runPg("pg_ctl", ["stop", "-D", dir, "-m", "fast", "-w", "-s"]);
  return dir;
}
