// Names of files in a data directory: what each path means, and the way back. Formats:
// common/relpath.c, storage/md.c, access/transam/slru.c and twophase.c of PostgreSQL 15.

import { type Lsn, WAL_SEGMENT_BYTES } from "../core/lsn.ts";
import {
  FORK_FSM,
  FORK_INIT,
  FORK_MAIN,
  FORK_VM,
  type RelTag,
  SLRU_CLOG,
  SLRU_MEMBERS,
  SLRU_OFFSETS,
  SPC_DEFAULT,
  SPC_GLOBAL,
} from "../core/page.ts";

export const FORK_SUFFIX: Readonly<Record<number, string>> = {
  [FORK_MAIN]: "",
  [FORK_FSM]: "_fsm",
  [FORK_VM]: "_vm",
  [FORK_INIT]: "_init",
};
const FORK_OF_SUFFIX = new Map(
  Object.entries(FORK_SUFFIX).map(([fork, suffix]) => [suffix, Number(fork)]),
);

export const SLRU_DIRS: Readonly<Record<number, string>> = {
  [SLRU_CLOG]: "pg_xact",
  [SLRU_MEMBERS]: "pg_multixact/members",
  [SLRU_OFFSETS]: "pg_multixact/offsets",
};
const SLRU_OF_DIR = new Map(Object.entries(SLRU_DIRS).map(([kind, dir]) => [dir, Number(kind)]));

const OID_MAX = 0xffff_ffff;

const hex = (value: number, digits: number): string =>
  value.toString(16).toUpperCase().padStart(digits, "0");

/** Directory of a database: "global" or "base/<oid>". */
export const databaseDir = (spc: number, db: number): string =>
  spc === SPC_GLOBAL ? "global" : `base/${db}`;

/** "base/5/1259_fsm.2": segment 0 has no number. */
export const relationPath = (rel: RelTag, segment: number): string =>
  `${databaseDir(rel.spc, rel.db)}/${rel.rel}${FORK_SUFFIX[rel.fork]}` +
  (segment === 0 ? "" : `.${segment}`);

/** "pg_xact/000A". */
export const slruPath = (slru: number, segment: number): string =>
  `${SLRU_DIRS[slru]}/${hex(segment, 4)}`;

/** "pg_twophase/0000029B". */
export const twoPhasePath = (xid: number): string => `pg_twophase/${hex(xid, 8)}`;

/** "0000000100000016000000B3": the WAL segment file that holds `lsn`. */
export function walFileName(tli: number, lsn: Lsn): string {
  const segment = Math.floor(lsn / WAL_SEGMENT_BYTES);
  const perName = 2 ** 32 / WAL_SEGMENT_BYTES;
  return hex(tli, 8) + hex(Math.floor(segment / perName), 8) + hex(segment % perName, 8);
}

/** What a file of a data directory is, as far as its history matters. */
export type DataDirFileKind =
  | { readonly kind: "relation"; readonly rel: RelTag; readonly segment: number }
  | { readonly kind: "relmap"; readonly spc: number; readonly db: number }
  | { readonly kind: "slru"; readonly slru: number; readonly segment: number }
  | { readonly kind: "two-phase"; readonly xid: number }
  | { readonly kind: "control" }
  | { readonly kind: "origins" }
  | { readonly kind: "version"; readonly db: number | undefined }
  /** Something of a user's own tablespace. */
  | { readonly kind: "tablespace" }
  /** Lists where the tablespaces of a backup lie; empty when there are none. */
  | { readonly kind: "tablespace-map" }
  /** Rebuilt, local to one server, or nothing of PostgreSQL's. */
  | { readonly kind: "ignored" };

const RELATION = /^([1-9][0-9]{0,9})(_fsm|_vm|_init)?(?:\.([1-9][0-9]{0,4}))?$/;
const IGNORED = { kind: "ignored" } as const;

/** The meaning of a path relative to the data directory. Never throws: what it does not know is "ignored". */
export function parseDataDirPath(path: string): DataDirFileKind {
  const slash = path.lastIndexOf("/");
  const dir = slash < 0 ? "" : path.slice(0, slash);
  const name = path.slice(slash + 1);
  const slru = SLRU_OF_DIR.get(dir);
  if (slru !== undefined) {
    return /^[0-9A-F]{4,6}$/.test(name)
      ? { kind: "slru", slru, segment: parseInt(name, 16) }
      : IGNORED;
  }
  if (dir === "pg_tblspc" || dir.startsWith("pg_tblspc/")) return { kind: "tablespace" };
  if (/^PG_\d+_\d+(\/|$)/.test(path)) return { kind: "tablespace" };
  if (path === "tablespace_map") return { kind: "tablespace-map" };
  if (path === "PG_VERSION") return { kind: "version", db: undefined };
  if (path === "global/pg_control") return { kind: "control" };
  if (path === "pg_logical/replorigin_checkpoint") return { kind: "origins" };
  if (dir === "pg_twophase") {
    return /^[0-9A-F]{8}$/.test(name) ? { kind: "two-phase", xid: parseInt(name, 16) } : IGNORED;
  }
  if (dir === "global") return inDatabase(SPC_GLOBAL, 0, name);
  const database = /^base\/([1-9][0-9]{0,9})$/.exec(dir);
  if (database === null || Number(database[1]) > OID_MAX) return IGNORED;
  return inDatabase(SPC_DEFAULT, Number(database[1]), name);
}

function inDatabase(spc: number, db: number, name: string): DataDirFileKind {
  if (name === "pg_filenode.map") return { kind: "relmap", spc, db };
  if (name === "PG_VERSION") return { kind: "version", db };
  const match = RELATION.exec(name);
  // Not a relation: temporary relations (t3_16384), pg_internal.init, pgsql_tmp and the like.
  if (match === null || Number(match[1]) > OID_MAX) return IGNORED;
  const fork = FORK_OF_SUFFIX.get(match[2] ?? "") ?? FORK_MAIN;
  return {
    kind: "relation",
    rel: { spc, db, rel: Number(match[1]), fork },
    segment: match[3] === undefined ? 0 : Number(match[3]),
  };
}
