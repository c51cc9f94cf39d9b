// Round trips with stock PostgreSQL: a cluster is imported, backed up, booted as a compute, and
// must hold what the cluster held.

import fs from "node:fs/promises";
import path from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";

import { Lsn, WAL_SEGMENT_BYTES } from "../../src/core/lsn.ts";
import {
  type BootStep,
  type Compute,
  bootCompute,
  findCompute,
  freePort,
  startCompute,
  stopCompute,
} from "../../src/io/compute.ts";
import { readControl, readWal } from "../../src/io/data-dir.ts";
import { makeServerDir, runProgram } from "../../src/io/postgres.ts";
import { baseBackupTar, fullBackupTar } from "../../src/protocol/base-backup.ts";
import { checkpointEnd } from "../../src/protocol/backup/start-checkpoint.ts";
import { readTar } from "../../src/protocol/backup/tar.ts";
import { readControlFile } from "../../src/protocol/control-file.ts";
import { type ImportedCluster, importedCluster } from "../support/imported-cluster.ts";

const TIME_S = 1_750_000_000;
let cluster: ImportedCluster;
const computes: string[] = [];

const fill = `
  create table t (id int primary key, body text);
  insert into t select g, repeat(md5(g::text), 200) from generate_series(1, 2000) g;
  create unlogged table u (id int primary key, note text);
  insert into u select g, 'gone' from generate_series(1, 5000) g;
  create sequence s; select nextval('s') from generate_series(1, 40);
  select pg_replication_origin_create('up');
  select pg_replication_origin_advance('up', '0/ABCDEF0');
  vacuum analyze t;
  begin; insert into t values (-1, 'prepared'); prepare transaction 'p1';
  begin; insert into t values (-2, 'prepared too'); prepare transaction 'p2';
`;

beforeAll(async () => {
  cluster = await importedCluster(async (sql) => {
    await sql(fill);
    await sql("create database other");
    await sql("create table o as select g as id from generate_series(1, 100) g", "other");
    // Two transactions that hold a share lock on one row make a multixact.
    await sql("create table m (id int primary key); insert into m values (1)");
    const holder = sql("begin; select from m for key share; select pg_sleep(0.5); commit");
    await sql("begin; select from m for share; select pg_sleep(0.7); commit");
    await holder;
    await sql("alter database other set application_name = 'x'");
  });
});

afterAll(async () => {
  for (const dir of computes) {
    await stopCompute(dir, { programs: cluster.programs, mode: "immediate" });
  }
  await cluster?.cleanup();
});

async function boot(
  name: string,
  options: {
    readonly at?: { readonly lsn?: Lsn; readonly tli?: number };
    readonly commits?: "synchronous" | "asynchronous";
    readonly settings?: Record<string, string>;
    readonly onStep?: (step: BootStep) => void;
  } = {},
): Promise<Compute> {
  const dir = path.join(cluster.home, name);
  computes.push(dir);
  return bootCompute(
    cluster.programs,
    fullBackupTar(cluster.source(options.at), { timeS: TIME_S }),
    {
      dir,
      port: await freePort(),
      commits: options.commits ?? "asynchronous",
      standbyName: "pageserver",
      extra: { shared_buffers: "16MB", ...options.settings },
    },
    options.onStep,
  );
}

async function sql(compute: Compute, text: string, db = "postgres"): Promise<string> {
  const args = ["-AtqX", "-v", "ON_ERROR_STOP=1", "-h", compute.socketDir, "-p", `${compute.port}`];
  const out = await runProgram(cluster.programs, "psql", [
    ...args,
    "-U",
    "postgres",
    "-d",
    db,
    "-c",
    text,
  ]);
  return out.replace(/\n$/, "");
}

const stop = (compute: Compute): ReturnType<typeof stopCompute> =>
  stopCompute(compute.dir, { programs: cluster.programs });

describe("a compute from a full backup", () => {
  test("holds what the cluster held, and can be written to", async () => {
    expect(cluster.imported.control.checkPointCopy.nextMulti).toBeGreaterThan(1);
    const steps: BootStep[] = [];
    const compute = await boot("whole", { onStep: (step) => steps.push(step) });
    expect(await findCompute(compute.dir)).toEqual(compute);
    const names = steps.map((step) => step.step);
    expect(names.filter((name, i) => name !== names[i - 1])).toEqual([
      "receive",
      "configure",
      "start",
      "ready",
    ]);
    expect(await sql(compute, "select count(*), sum(length(body)) from t")).toBe("2000|12800000");
    expect(await sql(compute, "select count(*) from u")).toBe("0");
    await sql(compute, "insert into u values (1, 'new')");
    expect(await sql(compute, "select nextval('s') > 40")).toBe("t");
    expect(await sql(compute, "select count(*) from o", "other")).toBe("100");
    expect(await sql(compute, "select id from m for update")).toBe("1");
    expect(await sql(compute, "select remote_lsn from pg_replication_origin_status")).toBe(
      "0/ABCDEF0",
    );
    expect(await sql(compute, "select gid from pg_prepared_xacts order by 1")).toBe("p1\np2");
    await sql(compute, "commit prepared 'p1'");
    await sql(compute, "rollback prepared 'p2'");
    expect(await sql(compute, "select count(*) from t where id < 0")).toBe("1");
    await sql(compute, "create table w as select g from generate_series(1, 10000) g");
    const log = await fs.readFile(compute.logFile, "utf8");
    expect(log).toContain("database system was shut down");
    expect(log).not.toMatch(/recovery|PANIC|FATAL|ERROR/);
    await sql(compute, "create extension amcheck");
    const where = ["-h", compute.socketDir, "-p", `${compute.port}`, "-U", "postgres"];
    await runProgram(cluster.programs, "pg_amcheck", [...where, "--heapallindexed", "postgres"]);

    const stopped = await stop(compute);
    expect(stopped.how).toBe("fast");
    const control = readControlFile(await readControl(compute.dir), 15);
    expect(stopped.endLsn).toBe(checkpointEnd(control.checkPoint));
    expect(await findCompute(compute.dir)).toBeUndefined();
    const again = await startCompute(cluster.programs, compute.dir);
    expect(await sql(again, "select count(*) from w")).toBe("10000");
    await stop(again);
  });

  test("continues the history: checkpoint record, then what it writes", async () => {
    const lsn = Lsn.parse("0/5004000");
    const compute = await boot("history", { at: { lsn, tli: 7 } });
    await sql(compute, "create table h (a int)");
    await stop(compute);
    const wal = path.join(compute.dir, "pg_wal");
    expect((await fs.readdir(wal)).includes("000000070000000000000005")).toBe(true);
    const dump = await runProgram(cluster.programs, "pg_waldump", [
      ...["-p", wal, "-t", "7", "-s", "0/5004018", "-n", "3"],
    ]);
    const lines = dump.split("\n");
    expect(lines[0]).toMatch(/lsn: 0\/05004018, prev 0\/00000000, .*CHECKPOINT_SHUTDOWN/);
    expect(lines[1]).toMatch(/lsn: 0\/05004090, prev 0\/05004018/);
  });

  test("with synchronous commits: reads at once, writes wait for the page server", async () => {
    const compute = await boot("sync", { commits: "synchronous" });
    expect(await sql(compute, "select count(*) from t")).toBe("2000");
    expect(await sql(compute, "show fsync")).toBe("off");
    const write = sql(compute, "insert into t values (-9, 'waits')").then(
      () => "committed",
      (error: Error) => error.message,
    );
    const sync = "select wait_event from pg_stat_activity where query like 'insert%'";
    await expect.poll(() => sql(compute, sync), { timeout: 10_000 }).toBe("SyncRep");
    expect((await stop(compute)).how).toBe("fast");
    expect(await write).toContain("might not have been replicated");
  });

  test("a fast stop ends when the receiver has everything, the shutdown checkpoint included", async () => {
    const compute = await boot("drained", { commits: "synchronous" });
    const received = path.join(cluster.home, "received");
    await makeServerDir(cluster.programs.account, received);
    const where = `host=${compute.socketDir} port=${compute.port} user=postgres`;
    const receiver = runProgram(cluster.programs, "pg_receivewal", [
      ...["-d", `${where} application_name=pageserver`, "-D", received],
      ...["--synchronous", "--no-loop"],
    ]).catch((error: Error) => error.message); // its server goes away
    await sql(compute, "insert into t values (-9, 'is replicated')");
    const { how, endLsn } = await stop(compute);
    expect(how).toBe("fast");
    await receiver;
    const start = readControlFile(await readControl(compute.dir), 15).checkPoint;
    const [partial] = (await fs.readdir(received)).filter((name) => name.endsWith(".partial"));
    const bytes = await fs.readFile(path.join(received, partial ?? "none"));
    const ours = await readWal(compute.dir, 1, start, endLsn ?? start);
    const offset = start % WAL_SEGMENT_BYTES;
    expect(ours.length).toBeGreaterThanOrEqual(120);
    expect(bytes.subarray(offset, offset + ours.length).equals(ours)).toBe(true);
  });

  test("is found and stopped by its directory alone, or killed", async () => {
    const compute = await boot("stuck");
    process.kill(compute.pid, "SIGSTOP");
    const { programs } = cluster;
    expect(await stopCompute(compute.dir, { programs, deadlineMs: 200 })).toMatchObject({
      how: "killed",
    });
    expect(await findCompute(compute.dir)).toBeUndefined();
    expect(await stopCompute(compute.dir, { programs })).toMatchObject({ how: "not-running" });
  });

  test("a server that does not start is explained by its log", async () => {
    const failed = boot("broken", { settings: { shared_preload_libraries: "no_such_thing" } });
    await expect(failed).rejects.toThrow(/compute\.log ends with:[^]*no_such_thing/);
    expect(await findCompute(path.join(cluster.home, "broken"))).toBeUndefined();
  });

  test("a directory that is in use is refused", async () => {
    await expect(boot("origin")).rejects.toThrow("is not empty");
  });

  test("a backup that is cut off does not start", async () => {
    const dir = path.join(cluster.home, "cut");
    const cut = async function* (): AsyncGenerator<Uint8Array> {
      let left = 8_000_000;
      for await (const chunk of fullBackupTar(cluster.source(), { timeS: TIME_S })) {
        if ((left -= chunk.length) < 0) return;
        yield chunk;
      }
    };
    const booted = bootCompute(cluster.programs, cut(), {
      dir,
      port: await freePort(),
      commits: "asynchronous",
      standbyName: "pageserver",
    });
    await expect(booted).rejects.toThrow("cut off");
    await expect(fs.access(path.join(dir, "global/pg_control"))).rejects.toThrow();
  });
});

test("a base backup has of relations only init forks, as main forks too", async () => {
  const seen: string[] = [];
  for await (const entry of readTar(baseBackupTar(cluster.source(), { timeS: TIME_S }))) {
    if (entry.kind === "file") seen.push(entry.path);
  }
  const relations = seen.filter((name) => /^(base\/\d+|global)\/\d+/.test(name));
  expect(relations.length).toBeGreaterThan(0);
  for (const name of relations.filter((n) => n.endsWith("_init"))) {
    expect(relations).toContain(name.replace("_init", ""));
  }
  expect(relations.filter((n) => !n.endsWith("_init")).length * 2).toBe(relations.length);
  expect(seen).toContain("base/1/PG_VERSION");
  expect(seen.at(-1)).toBe("global/pg_control");
});

test("the WAL behind an import's base is the shutdown checkpoint", async () => {
  const { baseLsn, control } = cluster.imported;
  const wal = await readWal(cluster.dataDir, 1, baseLsn, checkpointEnd(baseLsn));
  expect(new DataView(wal.buffer).getUint32(0, true)).toBe(114);
  expect(control.checkPoint).toBe(baseLsn);
});
