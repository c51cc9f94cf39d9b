// A base backup that stock PostgreSQL starts from: one timeline at one LSN as a tar archive. At L
// stands a shutdown checkpoint that we write (backup/start-checkpoint.ts); pg_control says the server
// was shut down there, so it starts without recovery and writes on right behind it. Nothing needs
// more memory than a batch of pages; the archive is made as fast as it is read.

import { assert } from "../core/assert.ts";
import type { BackupSource } from "../core/backup-source.ts";
import { BACKUP_BATCH_PAGES, BACKUP_CHUNK_BYTES } from "../core/limits.ts";
import { Lsn, LSN_INVALID, WAL_SEGMENT_BYTES } from "../core/lsn.ts";
import {
  FORK_INIT,
  FORK_MAIN,
  PAGE_BYTES,
  RELSEG_BLOCKS,
  type RelTag,
  SLRU_CLOG,
  SLRU_MEMBERS,
  SLRU_OFFSETS,
  SLRU_SEGMENT_BLOCKS,
  SPC_DEFAULT,
  SPC_GLOBAL,
  formatRel,
} from "../core/page.ts";
import { PG_HBA_CONF, postgresqlConf } from "./backup/config-files.ts";
import { type SlruTail, slruTails } from "./backup/slru-tails.ts";
import { startPoint } from "./backup/start-checkpoint.ts";
import { formatOrigins, withCrc } from "./backup/state-files.ts";
import { type TarMember, packTar } from "./backup/tar.ts";
import {
  type CheckPoint,
  type ControlFile,
  DB_STATE,
  buildControlFile,
  readCheckPoint,
  readControlFile,
} from "./control-file.ts";
import {
  databaseDir,
  relationPath,
  slruPath,
  twoPhasePath,
  walFileName,
} from "./data-dir-names.ts";
import { setPageChecksum } from "./page-header.ts";
import { parsePgVersion } from "./wal/format.ts";

export interface BackupOptions {
  /** Seconds since 1970: times of the members, of pg_control and of its checkpoint. */
  readonly timeS: number;
  /** A real checkpoint at or below the LSN: whoever starts replays WAL from its redo on. Else it starts at the LSN. */
  readonly recoverFrom?: RecoveryStart | undefined;
}

export interface RecoveryStart {
  /** Start of the checkpoint's record. */
  readonly location: Lsn;
  readonly checkpoint: CheckPoint;
}

/** Directories of an empty cluster (initdb.c), parents first. */
const DIRECTORIES: readonly string[] = [
  ..."global base pg_wal pg_wal/archive_status pg_commit_ts pg_dynshmem pg_notify".split(" "),
  ..."pg_serial pg_snapshots pg_subtrans pg_twophase pg_multixact".split(" "),
  ..."pg_multixact/members pg_multixact/offsets pg_replslot pg_tblspc pg_stat".split(" "),
  ..."pg_stat_tmp pg_xact pg_logical pg_logical/snapshots pg_logical/mappings".split(" "),
];

/** Everything: what is unpacked is a whole data directory. Chunks have memory of their own. */
export function fullBackupTar(
  source: BackupSource,
  options: BackupOptions,
): AsyncGenerator<Uint8Array, void, undefined> {
  return packTar(members(source, options, "all"), options.timeS, BACKUP_CHUNK_BYTES);
}

/** For a compute that reads pages from here: of relations only the init forks, as main forks too. */
export function baseBackupTar(
  source: BackupSource,
  options: BackupOptions,
): AsyncGenerator<Uint8Array, void, undefined> {
  return packTar(members(source, options, "init-forks"), options.timeS, BACKUP_CHUNK_BYTES);
}

type Content = "all" | "init-forks";
type Checksums = "set" | "none";

async function* members(
  source: BackupSource,
  options: BackupOptions,
  content: Content,
): AsyncGenerator<TarMember, void, undefined> {
  const version = parsePgVersion(source.pgVersion);
  const control = readControlFile(await source.control(), version);
  const start = startPoint({
    version,
    lsn: source.lsn,
    prevLsn: source.prevLsn,
    tli: source.tli,
    control,
    checkpoint: readCheckPoint(await source.checkpoint(), version),
    timeS: options.timeS,
  });
  const { recoverFrom } = options;
  const checksums = control.checksumVersion === 0 ? "none" : "set";
  const twoPhase = await source.twoPhase();
  const origins = (await source.origins()).filter((origin) => origin.lsn !== LSN_INVALID);
  const pgVersion = `${version}\n`;

  for (const path of DIRECTORIES) yield { path, kind: "directory", size: 0, body: [] };
  yield textFile("PG_VERSION", pgVersion);
  yield textFile("pg_hba.conf", PG_HBA_CONF);
  yield textFile("pg_ident.conf", "");
  yield textFile("postgresql.auto.conf", "");
  const counts = { twoPhase: twoPhase.length, origins: origins.length };
  yield textFile("postgresql.conf", postgresqlConf(control, counts));
  yield* slruFiles(source, slruTails(start.checkpoint));
  for (const { spc, db, relmap } of await source.databases()) {
    assert(spc === SPC_GLOBAL || spc === SPC_DEFAULT, `backup: database in tablespace ${spc}`);
    const dir = databaseDir(spc, db);
    if (spc === SPC_DEFAULT) {
      yield { path: dir, kind: "directory", size: 0, body: [] };
      yield textFile(`${dir}/PG_VERSION`, pgVersion);
    }
    yield file(`${dir}/pg_filenode.map`, relmap);
    yield* relationFiles(source, { spc, db }, content, checksums);
  }
  for (const { xid, body } of twoPhase) yield file(twoPhasePath(xid), withCrc(body));
  if (origins.length > 0) yield file("pg_logical/replorigin_checkpoint", formatOrigins(origins));
  // For computes with Neon's patches; stock PostgreSQL does not know these files.
  const prev = source.prevLsn === LSN_INVALID ? "none" : Lsn.format(source.prevLsn);
  yield textFile("neon.signal", `PREV LSN: ${prev}`);
  yield textFile("zenith.signal", `PREV LSN: ${prev}`);
  // PostgreSQL insists on a restore_command then, and reads WAL with it.
  if (recoverFrom !== undefined) yield textFile("recovery.signal", "");
  for (const segment of recoverFrom === undefined ? start.segments : []) {
    yield {
      path: `pg_wal/${walFileName(source.tli, segment.start)}`,
      kind: "file",
      size: WAL_SEGMENT_BYTES,
      body: segmentBody(segment.parts),
    };
  }
  // Last: an archive that was cut off cannot start.
  const controlBytes =
    recoverFrom === undefined ? start.control : recoveryControl(control, source, recoverFrom);
  yield file("global/pg_control", controlBytes);
}

/**
 * As a server's that crashed at `lsn`: its pages are as of then, its last checkpoint is this one. It is
 * consistent when WAL is replayed up to `lsn` (minRecoveryPoint).
 */
function recoveryControl(
  control: ControlFile,
  { lsn, tli, pgVersion }: BackupSource,
  { location, checkpoint }: RecoveryStart,
): Uint8Array {
  const version = parsePgVersion(pgVersion);
  const min = { minRecoveryPoint: lsn, minRecoveryPointTli: tli };
  const backup = { backupStartPoint: LSN_INVALID, backupEndPoint: LSN_INVALID };
  return buildControlFile(
    {
      ...{ ...control, ...min, ...backup, backupEndRequired: false },
      ...{ state: DB_STATE.IN_PRODUCTION, checkPoint: location, checkPointCopy: checkpoint },
    },
    version,
  );
}

const encoder = new TextEncoder();

const file = (path: string, bytes: Uint8Array): TarMember => ({
  path,
  kind: "file",
  size: bytes.length,
  body: [bytes],
});

const textFile = (path: string, text: string): TarMember => file(path, encoder.encode(text));

const ZEROS = new Uint8Array(BACKUP_CHUNK_BYTES);

function* zeros(length: number): Generator<Uint8Array, void, undefined> {
  for (let left = length; left > 0; left -= ZEROS.length) yield ZEROS.subarray(0, left);
}

/** A WAL segment that is zeros but for its parts. */
function* segmentBody(
  parts: ReadonlyMap<number, Uint8Array>,
): Generator<Uint8Array, void, undefined> {
  let at = 0;
  for (const [offset, bytes] of parts) {
    yield* zeros(offset - at);
    yield bytes;
    at = offset + bytes.length;
  }
  yield* zeros(WAL_SEGMENT_BYTES - at);
}

async function* slruFiles(
  source: BackupSource,
  tails: readonly SlruTail[],
): AsyncGenerator<TarMember, void, undefined> {
  for (const slru of [SLRU_CLOG, SLRU_MEMBERS, SLRU_OFFSETS]) {
    const tail = tails.find((t) => t.slru === slru);
    const tailSegment = tail === undefined ? -1 : Math.floor(tail.page / SLRU_SEGMENT_BLOCKS);
    const stored = new Set(await source.slruSegments(slru));
    const all = tailSegment < 0 ? stored : new Set([...stored, tailSegment]);
    for (const segment of [...all].sort((a, b) => a - b)) {
      const bytes = await slruBytes(source, slru, segment, tail, stored.has(segment));
      yield file(slruPath(slru, segment), bytes);
    }
  }
}

/** A segment's blocks, with zero pages behind them as far as `tail` asks for. */
async function slruBytes(
  source: BackupSource,
  slru: number,
  segment: number,
  tail: SlruTail | undefined,
  exists: boolean,
): Promise<Uint8Array> {
  const stored = exists ? await source.slruSegment(slru, segment) : new Uint8Array(0);
  assert(stored.length % PAGE_BYTES === 0, `backup: SLRU segment of ${stored.length} bytes`);
  const inSegment = tail !== undefined ? tail.page - segment * SLRU_SEGMENT_BLOCKS + 1 : 0;
  if (inSegment < 1 || inSegment > SLRU_SEGMENT_BLOCKS) return stored;
  if (stored.length >= inSegment * PAGE_BYTES) return stored;
  const longer = new Uint8Array(inSegment * PAGE_BYTES);
  longer.set(stored);
  return longer;
}

/** The files of a database's relations. */
async function* relationFiles(
  source: BackupSource,
  database: { readonly spc: number; readonly db: number },
  content: Content,
  checksums: Checksums,
): AsyncGenerator<TarMember, void, undefined> {
  const relations = await source.relations(database.spc, database.db);
  const unlogged = new Set(relations.filter((r) => r.fork === FORK_INIT).map((r) => r.rel));
  for (const { rel, fork, blocks } of relations) {
    const tag: RelTag = { ...database, rel, fork };
    if (fork === FORK_INIT) {
      // A start without recovery does not reset unlogged relations (reinit.c): do it here.
      yield* forkFiles(source, tag, { ...tag, fork: FORK_MAIN }, blocks, checksums);
    } else if (content === "init-forks" || unlogged.has(rel)) {
      continue;
    }
    yield* forkFiles(source, tag, tag, blocks, checksums);
  }
}

/** The segment files of one fork, named as `target`; an empty fork is an empty file. */
function* forkFiles(
  source: BackupSource,
  tag: RelTag,
  target: RelTag,
  blocks: number,
  checksums: Checksums,
): Generator<TarMember, void, undefined> {
  for (let from = 0; from === 0 || from < blocks; from += RELSEG_BLOCKS) {
    const count = Math.min(RELSEG_BLOCKS, blocks - from);
    yield {
      path: relationPath(target, from / RELSEG_BLOCKS),
      kind: "file",
      size: count * PAGE_BYTES,
      body: pageBatches(source, tag, from, count, checksums),
    };
  }
}

async function* pageBatches(
  source: BackupSource,
  tag: RelTag,
  from: number,
  count: number,
  checksums: Checksums,
): AsyncGenerator<Uint8Array, void, undefined> {
  const end = from + count;
  for (let block = from; block < end; block += BACKUP_BATCH_PAGES) {
    const batch = Math.min(BACKUP_BATCH_PAGES, end - block);
    const bytes = await source.pages(tag, block, batch);
    assert(
      bytes.length === batch * PAGE_BYTES,
      `backup: ${bytes.length} bytes for ${batch} pages of ${formatRel(tag)}`,
    );
    yield checksums === "set" ? withChecksums(bytes, block) : bytes;
  }
}

/** WAL redo leaves pd_checksum as it was; a server with checksums verifies what it reads. */
function withChecksums(pages: Uint8Array, firstBlock: number): Uint8Array {
  const copy = pages.slice();
  for (let at = 0; at < copy.length; at += PAGE_BYTES) {
    setPageChecksum(copy, at, firstBlock + at / PAGE_BYTES);
  }
  return copy;
}
