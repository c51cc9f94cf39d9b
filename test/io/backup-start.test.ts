// Stock PostgreSQL is started at every kind of position a backup can have, and from clusters with
// page checksums and from online backups.

import { createReadStream } from "node:fs";
import fs from "node:fs/promises";
import path from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";

import type { BackupSource } from "../../src/core/backup-source.ts";
import { KIND } from "../../src/core/key.ts";
import {
  Lsn,
  WAL_LONG_HEADER_BYTES,
  WAL_PAGE_BYTES,
  WAL_SEGMENT_BYTES,
  WAL_SHORT_HEADER_BYTES,
} from "../../src/core/lsn.ts";
import { PAGE_BYTES } from "../../src/core/page.ts";
import { readControl } from "../../src/io/data-dir.ts";
import { makeServerDir } from "../../src/io/postgres.ts";
import { writeDataDir } from "../../src/io/write-data-dir.ts";
import { fullBackupTar } from "../../src/protocol/base-backup.ts";
import { checkpointEnd } from "../../src/protocol/backup/start-checkpoint.ts";
import { type TarEntry, readTar } from "../../src/protocol/backup/tar.ts";
import { DB_STATE, readControlFile } from "../../src/protocol/control-file.ts";
import { DataDirImport } from "../../src/protocol/import-data-dir.ts";
import { isNewPage } from "../../src/protocol/page-header.ts";
import { ImageSink } from "../support/image-source.ts";
import { type ImportedCluster, importedCluster } from "../support/imported-cluster.ts";
import { runPg, startPostgres } from "../support/postgres.ts";

const TIME_S = 1_750_000_000;
let cluster: ImportedCluster;

beforeAll(async () => {
  cluster = await importedCluster(async (sql) => {
    await sql("create table t as select g as id from generate_series(1, 1000) g");
  }, "on");
});
afterAll(() => cluster?.cleanup());

/** Unpacks only what `pick` wants: the position of a backup is in three files of it. */
async function unpack(
  source: BackupSource,
  dir: string,
  pick: (entry: TarEntry) => boolean = () => true,
): Promise<void> {
  const picked = async function* (): AsyncGenerator<TarEntry> {
    for await (const entry of readTar(fullBackupTar(source, { timeS: TIME_S }))) {
      if (pick(entry)) yield entry;
    }
  };
  await writeDataDir(picked(), dir, cluster.programs.account);
}

/** Runs SQL in a server without clients, which is then shut down cleanly and keeps its WAL. */
function single(dir: string, sql: string): Promise<string> {
  const settings = ["-c", "fsync=off", "-c", "wal_keep_size=64MB"];
  return runPg("postgres", ["--single", "-D", dir, ...settings, "postgres"], `${sql}\n`);
}

// Ascending and far apart, because the directory is used again: its pages must not be from the future.
const segment = (n: number): number => 2 * (n + 1) * WAL_SEGMENT_BYTES;
const page = (n: number): number => segment(n) + 9 * WAL_PAGE_BYTES;
const distances = Array.from({ length: 16 }, (_, i) => 8 * i);
const POSITIONS = [
  ...distances.map((distance, i) => page(i) - distance),
  ...distances.map((distance, i) => segment(i + 16) - distance),
  page(32) - 4000,
  page(33) + WAL_SHORT_HEADER_BYTES,
  segment(34) + WAL_LONG_HEADER_BYTES,
];

test("PostgreSQL starts at any position: mid page, page and segment starts, and right before", async () => {
  const dir = path.join(cluster.home, "positions");
  await makeServerDir(cluster.programs.account, dir);
  await unpack(cluster.source(), dir);
  // In the one directory only pg_control and WAL are replaced: a whole backup for each would take minutes.
  const isStart = (entry: TarEntry): boolean =>
    entry.kind === "file" && /^pg_wal\/|^global\/pg_control$/.test(entry.path);
  for (const position of POSITIONS) {
    const at = Lsn.of(position);
    await fs.rm(path.join(dir, "global/pg_control"));
    await fs.rm(path.join(dir, "pg_wal"), { recursive: true });
    const start = path.join(dir, "new");
    await makeServerDir(cluster.programs.account, start);
    await unpack(onlyStart(cluster.source({ lsn: at })), start, isStart);
    await fs.rename(path.join(start, "pg_wal"), path.join(dir, "pg_wal"));
    await fs.rename(path.join(start, "global/pg_control"), path.join(dir, "global/pg_control"));
    await fs.rm(start, { recursive: true });

    const out = await single(
      dir,
      "select count(pg_logical_emit_message(false, '', repeat('x', 90))) from t",
    );
    expect(out, Lsn.format(at)).toContain('count = "1000"');
    const control = readControlFile(await readControl(dir), 15);
    expect(control.state).toBe(DB_STATE.SHUTDOWNED);
    expect(control.checkPoint).toBeGreaterThan(at);
    // The history has no gap: PostgreSQL's own reader goes from L to the end.
    const dump = await runPg("pg_waldump", [
      ...["-p", path.join(dir, "pg_wal"), "-s", Lsn.format(Lsn.normalize(at))],
      ...["-e", Lsn.format(checkpointEnd(control.checkPoint))],
    ]);
    const lines = dump.trimEnd().split("\n");
    expect(lines[0], Lsn.format(at)).toContain("CHECKPOINT_SHUTDOWN");
    expect(lines.at(-1), Lsn.format(at)).toContain("CHECKPOINT_SHUTDOWN");
    expect(lines.length).toBeGreaterThan(1000);
  }
}, 120_000);

/** The same source without its relations, which the test has unpacked already. */
const onlyStart = (source: BackupSource): BackupSource => ({
  ...source,
  databases: async () => [],
});

describe("page checksums", () => {
  test("are right again in a backup, after WAL redo has left old ones", async () => {
    const dir = path.join(cluster.home, "checksums");
    await makeServerDir(cluster.programs.account, dir);
    await unpack(withStaleChecksums(cluster.source()), dir);
    const out = await runPg("pg_checksums", ["--check", "-D", dir]);
    expect(out).toMatch(/Bad checksums: +0\n/);
    expect(out).toMatch(/Data checksum version: 1/);
    expect(await single(dir, "select count(*) from t")).toContain('count = "1000"');
  });
});

/** Pages as redo makes them: right but for pd_checksum. */
const withStaleChecksums = (source: BackupSource): BackupSource => ({
  ...source,
  pages: async (rel, from, count) => {
    const pages = await source.pages(rel, from, count);
    for (let at = 0; at < pages.length; at += PAGE_BYTES) {
      if (!isNewPage(pages, at)) pages.fill(0xbe, at + 8, at + 10);
    }
    return pages;
  },
});

test("an SLRU page that start-up insists on is made if nothing has been stored for it", async () => {
  // The next transaction is in the middle of a page of pg_xact that no record has created yet.
  const source = cluster.source();
  const checkpoint = (await source.checkpoint()).slice();
  new DataView(checkpoint.buffer).setUint32(24, 32_768 * 35 + 5, true);
  const dir = path.join(cluster.home, "tails");
  await makeServerDir(cluster.programs.account, dir);
  await unpack({ ...source, checkpoint: async () => checkpoint }, dir);
  expect((await fs.stat(path.join(dir, "pg_xact/0001"))).size).toBe(4 * PAGE_BYTES);
  expect(await single(dir, "select txid_current()")).toContain(`= "${32_768 * 35 + 5}"`);
});

test("an online backup of a busy server is imported from its archive", async () => {
  const server = await startPostgres({ settings: { max_wal_senders: "4" } });
  try {
    await server.pgbench(["-i", "-q"]);
    await server.sql("create unlogged table u as select 1");
    const busy = server.pgbench(["-c", "2", "-T", "3", "-n"]);
    const tar = path.join(server.socketDir, "backup");
    await runPg("pg_basebackup", [
      ...["-h", server.socketDir, "-p", `${server.port}`, "-U", "postgres", "-D", tar],
      ...["-F", "t", "-X", "none", "-c", "fast", "--no-manifest"],
    ]);
    const archive = (): AsyncIterable<TarEntry> =>
      readTar(createReadStream(path.join(tar, "base.tar")));
    const label = await fileOf(archive(), "backup_label");
    const baseLsn = Lsn.parse(/START WAL LOCATION: (\S+)/.exec(label)?.[1] ?? "");
    const sink = new ImageSink();
    let pressed = 0;
    const job = new DataDirImport(sink, {
      baseLsn,
      state: "fuzzy",
      pressure: async () => void pressed++,
    });
    for await (const entry of archive()) await job.entry(entry);
    const result = job.finish();
    expect(result.control.state).toBe(DB_STATE.IN_PRODUCTION);
    expect(result.systemId.toString()).toBe(
      await server.sql("select system_identifier from pg_control_system()"),
    );
    expect(pressed).toBeGreaterThan(500);
    // The table that pgbench only reads from is whole.
    const [rel, db] = (
      await server.sql(
        "select pg_relation_filenode('pgbench_branches_pkey'), oid from pg_database where datname = 'postgres'",
      )
    ).split("|");
    const key = sink.list(KIND.REL_SIZE).find((r) => r.c === Number(rel) && r.b === Number(db));
    expect(key).toBeDefined();
    const unlogged = Number(await server.sql("select pg_relation_filenode('u')"));
    const forks = sink.list(KIND.REL_SIZE).filter((r) => r.c === unlogged);
    expect(forks.map((r) => r.d)).toEqual([3]);
    await busy;
  } finally {
    await server.cleanup();
  }
});

async function fileOf(entries: AsyncIterable<TarEntry>, name: string): Promise<string> {
  for await (const entry of entries) {
    if (entry.path !== name) continue;
    const parts: Uint8Array[] = [];
    for await (const chunk of entry.body) parts.push(chunk);
    return Buffer.concat(parts).toString();
  }
  throw new Error(`no ${name}`);
}
