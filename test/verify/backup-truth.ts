// PostgreSQL's own account of a timeline whose pages are compared: a base backup, and WAL from there on, from
// which it recovers to any moment that was called uploaded.

import fs from "node:fs";
import path from "node:path";
import type { Lsn } from "../../src/core/lsn.ts";
import { type TestPostgres, giveToPostgres, runPg } from "../support/postgres.ts";
import { recordBoundary } from "./record-boundary.ts";
import { at, recover } from "./recover.ts";

export interface Truth {
  readonly base: string;
  readonly archive: string;
  /** Where the base backup is consistent. */
  readonly from: Lsn;
}

/** What is compared: a timeline of this name at this LSN. */
export interface Look {
  readonly name: string;
  readonly truth: Truth;
  readonly lsn: Lsn;
}

/** Recovered clusters run beside the live ones: on no port. */
const QUIET = { listen_addresses: "", synchronous_standby_names: "", shared_buffers: "32MB" };

export async function baseBackup(home: string, name: string, port: number): Promise<string> {
  const dir = path.join(home, name);
  fs.rmSync(dir, { recursive: true, force: true });
  await runPg("pg_basebackup", [...at(port), "-D", dir, "-X", "none", "-c", "fast"]);
  return dir;
}

/** The segments that are not archived yet go beside those that are. */
export async function gatherWal(primary: TestPostgres, archive: string): Promise<void> {
  const from = path.join(primary.dataDir, "pg_wal");
  // Behind whatever was uploaded: recovery stops at a record.
  await primary.sql("SELECT pg_switch_wal()");
  const names = fs.readdirSync(from).filter((name) => /^[0-9A-F]{24}$/.test(name));
  const archived = new Set(fs.readdirSync(path.join(from, "archive_status")));
  for (const name of names.filter((one) => !archived.has(`${one}.done`))) {
    fs.copyFileSync(path.join(from, name), path.join(archive, name));
  }
  giveToPostgres(archive);
}

/** A stopped cluster as of `lsn`, in a directory beside the base backup. */
export async function recoveredTo({ base, archive }: Truth, lsn: Lsn): Promise<string> {
  const boundary = await recordBoundary(archive, lsn);
  const home = `${base}-look`;
  fs.mkdirSync(home, { recursive: true });
  giveToPostgres(home);
  return recover(base, archive, boundary, home, QUIET);
}
