// Point-in-time recovery of stock PostgreSQL: a base backup, and restore_command over an encrypted archive
// in object storage. Primary and page server are gone by then.

import { execFile } from "node:child_process";
import fs from "node:fs";
import path from "node:path";
import { promisify } from "node:util";
import { afterAll, beforeAll, expect, test } from "vitest";
import { Lsn } from "../../src/core/lsn.ts";
import { LocalStorage } from "../../src/io/objects/local.ts";
import { Secret } from "../../src/protocol/conninfo.ts";
import { type Ran, runCli } from "../cli/run-cli.ts";
import { flip, nameWith, namesOf } from "../support/damaged-storage.ts";
import {
  type TestPostgres,
  giveToPostgres,
  postgresTempDir,
  runPg,
  startPostgres,
} from "../support/postgres.ts";
import { type TestProgram, newDataDir, startTestProgram } from "../support/program.ts";
import { until } from "../support/replication.ts";

const KEY = `k1:${"0f".repeat(32)}`;
const WAIT_MS = 120_000;
const dataDir = newDataDir();
const home = postgresTempDir("restore-command-");
const [objects, base, full, work] = ["objects", "base", "full", "work"].map((name) =>
  path.join(home, name),
);
const place = `file://${objects}`;
const program = path.join(home, "pageserver");
const storage = new LocalStorage(objects!);
let primary: TestPostgres;
let server: TestProgram;
let timeline: string;
let rows: string;
let rotated: Ran;

/** The program as `pageserver`, with the key in its environment. */
function writeProgram(): void {
  const tsx = import.meta.resolve("tsx");
  const main = new URL("../../src/cli/main.ts", import.meta.url).href;
  const run = `const { run } = await import("${main}"); process.exitCode = await run(process.argv.slice(1));`;
  const node = `${process.execPath} --import ${tsx} --input-type=module --eval '${run}'`;
  const script = `#!/bin/sh\nexport PAGESERVER_BACKUP_KEY=${KEY}\nexec ${node} -- "$@"\n`;
  fs.writeFileSync(program, script, { mode: 0o755 });
}

async function untilUploaded(): Promise<void> {
  const end = Lsn.parse(await primary.sql("SELECT pg_current_wal_flush_lsn()"));
  const reached = async () => {
    const { positions } = await server.client.timeline("prod");
    return Lsn.parse(positions.uploaded) >= end;
  };
  await until("all is uploaded", reached, WAIT_MS);
}

const ROWS = "SELECT count(*), sum(n), md5(string_agg(t, ',' ORDER BY n)) FROM kept";

beforeAll(async () => {
  primary = await startPostgres();
  server = await startTestProgram(
    dataDir,
    { backup: place, backupIntervalMs: 100 },
    { backupKeys: new Secret(KEY) },
  );
  const { id } = await server.client.follow({ conninfo: primary.uri, name: "prod" });
  const job = await until(
    "prod is followed",
    async () => {
      const now = await server.client.job(id, 1_000);
      return now.state !== "running" && now;
    },
    WAIT_MS,
  );
  expect(job.error).toBeUndefined();
  const info = await server.client.timeline("prod");
  timeline = `${info.tenant_id}/${info.timeline_id}`;

  await primary.sql("SELECT pg_switch_wal()");
  await runPg("pg_basebackup", ["-d", primary.uri, "-D", base!, "-c", "fast", "-X", "none"]);
  await primary.sql(
    "CREATE TABLE kept AS SELECT n, md5(n::text) AS t FROM generate_series(1, 20000) n",
  );
  await primary.sql("SELECT pg_switch_wal()");
  await primary.sql("CHECKPOINT; SELECT pg_switch_wal()");
  await untilUploaded();
  writeProgram();
  const take = `${program} --api ${server.program.http} fullbackup prod`;
  const sh = (command: string) => promisify(execFile)("sh", ["-c", command]);
  await sh(`${take} --recovery -D ${full!}`);
  await expect(sh(`${take} -D ${full!}`)).rejects.toThrow(
    /is not empty .*: name another directory/,
  );
  expect((await sh(`${take} | tar -t`)).stdout).toMatch(/^PG_VERSION$/m);
  await primary.sql("INSERT INTO kept SELECT n, 'later' FROM generate_series(20001, 30000) n");
  rows = await primary.sql(ROWS);
  await primary.sql("SELECT pg_create_restore_point('here')");
  await primary.sql("DELETE FROM kept; SELECT pg_switch_wal(); CHECKPOINT");
  await untilUploaded();
  rotated = await runCli(["keys", "rotate", "--json"], { PAGESERVER_API: server.program.http });
  await server.program.stop();
  await primary.kill();
  fs.mkdirSync(work!);
}, 300_000);

afterAll(async () => {
  await primary.cleanup();
  for (const dir of [dataDir, home]) fs.rmSync(dir, { recursive: true, force: true });
});

const restore = (file: string, env: Record<string, string> = {}, id = timeline) =>
  runCli(["restore-command", "--backup", place, id, file, path.join(work!, "wal")], {
    PAGESERVER_BACKUP_KEY: KEY,
    ...env,
  });

/** Of a whole segment in the archive. */
async function someSegment(): Promise<string> {
  const names = await namesOf(storage);
  const whole = names.map((name) => /\/wal\/[0-9a-f]{8}\/([0-9A-F]{24})$/.exec(name)?.[1]);
  return whole.filter((name) => name !== undefined).at(-1)!;
}

test("keys rotate says what master key wraps whose key", () => {
  expect(rotated).toMatchObject({ code: 0, err: "" });
  const done = { master: "k1", rotated: 0, unchanged: 1, not_encrypted: 0 };
  expect(JSON.parse(rotated.out)).toEqual(done);
});

test("the exit code says whether the file is not there, or cannot be had", async () => {
  const segment = await someSegment();
  const written = path.join(work!, "wal");
  expect(await restore(segment)).toMatchObject({ code: 0, err: "" });
  expect(fs.statSync(written).size).toBe(16 * 1024 * 1024);
  expect(fs.readFileSync(written).readUInt16LE(0)).toBe(0xd110);
  fs.rmSync(written);
  for (const file of ["00000002.history", "0000000100000000000000FF"]) {
    expect(await restore(file)).toMatchObject({
      code: 1,
      err: `pageserver: the archive has no ${file}\n`,
    });
  }
  const wrong = await restore(segment, { PAGESERVER_BACKUP_KEY: `k2:${"1f".repeat(32)}` });
  expect(wrong).toMatchObject({ code: 255 });
  expect(wrong.err).toContain('is encrypted with master key "k1", and those given are k2');
  expect(await restore(segment, {}, "prod")).toMatchObject({ code: 255 });
  expect((await restore(segment, {}, `${"0".repeat(32)}/${"0".repeat(32)}`)).err).toContain(
    "has no backup of timeline",
  );
  expect(await runCli(["restore-command", "--backpu", place])).toMatchObject({ code: 255 });
  const object = await nameWith(storage, segment);
  await flip(storage, object, 70_000);
  const corrupt = await restore(segment);
  expect(corrupt).toMatchObject({ code: 255 });
  expect(corrupt.err).toMatch(/is corrupt/);
  await flip(storage, object, 70_000);
  expect(fs.readdirSync(work!)).toEqual([]);
});

test.each(["pg_basebackup", "pageserver fullbackup"])(
  "stock PostgreSQL recovers to a point, with nothing but a backup by %s and the archive",
  async (by) => {
    const dir = by === "pg_basebackup" ? base! : full!;
    fs.writeFileSync(path.join(dir, "recovery.signal"), "");
    giveToPostgres(home);
    for (const one of [base!, full!]) fs.chmodSync(one, 0o700);
    fs.chmodSync(program, 0o755);
    const restored = await startPostgres({
      dataDir: dir,
      settings: {
        restore_command: `${program} restore-command --backup ${place} ${timeline} %f %p`,
        ...{ recovery_target_name: "here", recovery_target_action: "promote" },
      },
    });
    try {
      const promoted = () => restored.sql("SELECT NOT pg_is_in_recovery()").catch(() => "not yet");
      await until("it is promoted", async () => (await promoted()) === "t", WAIT_MS);
      expect(await restored.sql(ROWS)).toBe(rows);
      const log = fs.readFileSync(restored.logFile, "utf8");
      expect(log).toMatch(/restored log file "[0-9A-F]{24}" from archive/);
      expect(log).toContain('recovery stopping at restore point "here"');
      await restored.sql("INSERT INTO kept VALUES (0, 'goes on'); CREATE DATABASE more");
    } finally {
      await restored.cleanup();
    }
  },
);
