import { createHash } from "node:crypto";
import fs from "node:fs";
import path from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { Lsn } from "../../src/core/lsn.ts";
import type { StreamEnd } from "../../src/core/wal-receiver-failure.ts";
import { type ReplicationConnection, connectReplication } from "../../src/io/replication-client.ts";
import { UnsupportedDatabase } from "../../src/io/replication/base-backup.ts";
import { ConnectionLost } from "../../src/io/replication/wire.ts";
import { type Conninfo, parseConninfo } from "../../src/protocol/conninfo.ts";
import { ServerError } from "../../src/protocol/replication.ts";
import { type TestPostgres, postgresTempDir, runPg } from "../support/postgres.ts";
import { PASSWORD, plain, startTlsPostgres, until, walBytes } from "../support/replication.ts";

let pg: TestPostgres;
const open: ReplicationConnection[] = [];

async function connect(conninfo: Conninfo): Promise<ReplicationConnection> {
  const link = await connectReplication(conninfo, {
    applicationName: "io-test",
    timeoutMs: 10_000,
  });
  open.push(link);
  return link;
}

beforeAll(async () => {
  pg = await startTlsPostgres({ wal_keep_size: "1GB", restore_command: "/bin/false" });
  await pg.pgbench(["-i", "-q", "-s", "4"]);
});
afterAll(async () => {
  for (const link of open) link.close();
  await pg?.cleanup();
});

describe("connecting", () => {
  const rep = (rest: string): Conninfo =>
    parseConninfo(`user=rep port=${pg.port} application_name=how ${rest}`);
  const usesTls = (): Promise<string> =>
    pg.sql(
      "SELECT ssl FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE application_name = 'how'",
    );

  test("TLS checked to the host name, SCRAM password", async () => {
    const ca = path.join(pg.dataDir, "ca.crt");
    const link = await connect(
      rep(`host=127.0.0.1 password='${PASSWORD}' sslmode=verify-full sslrootcert=${ca}`),
    );
    expect(link.serverVersion).toMatch(/^15\./);
    expect(await usesTls()).toBe("t");
    const identity = await link.identify();
    expect(identity.tli).toBe(1);
    expect(identity.systemId).toBe(
      await pg.sql("SELECT system_identifier FROM pg_control_system()"),
    );
    expect(identity.xlogpos).toBeGreaterThan(Lsn.parse("0/1000000"));
    expect(await link.show("wal_segment_size")).toBe("16MB");
    link.close();
    await until("the server to see the end", async () => (await usesTls()) === "");
  });

  test("sslmode=prefer uses TLS where there is some, and does without where a role may not", async () => {
    const link = await connect(rep(`host=127.0.0.1 password='${PASSWORD}'`));
    expect(await usesTls()).toBe("t");
    link.close();
    const cluster = parseConninfo(`host=${pg.socketDir} port=${pg.port} user=postgres`);
    expect((await connect(cluster)).serverVersion).toMatch(/^15\./);
  });

  test("a certificate of another authority, or for another name, is refused", async () => {
    const ca = path.join(pg.dataDir, "ca.crt");
    const other = path.join(pg.dataDir, "server.crt");
    const pw = `password='${PASSWORD}'`;
    await expect(
      connect(rep(`host=127.0.0.1 ${pw} sslmode=verify-ca sslrootcert=${other}`)),
    ).rejects.toThrow(/certificate/);
    await expect(
      connect(rep(`host=localhost ${pw} sslmode=verify-full sslrootcert=${ca}`)),
    ).rejects.toThrow(/altnames|does not match/);
    const link = await connect(rep(`host=localhost ${pw} sslmode=verify-ca sslrootcert=${ca}`));
    link.close();
    await expect(
      connect(rep(`host=127.0.0.1 ${pw} sslmode=verify-ca sslrootcert=/nowhere.crt`)),
    ).rejects.toThrow(/sslrootcert "\/nowhere.crt" cannot be read/);
  });

  test("wrong, missing or forbidden logins say so, and never the password", async () => {
    const wrong = connect(rep("host=127.0.0.1 password=wrongpass sslmode=require"));
    await expect(wrong).rejects.toMatchObject({ name: "ServerError", code: "28P01" });
    await expect(wrong).rejects.not.toThrow(/wrongpass/);
    await expect(connect(rep("host=127.0.0.1 sslmode=require"))).rejects.toThrow(
      /asks rep for a password and the conninfo has none/,
    );
    await expect(
      connect(rep(`host=127.0.0.1 password='${PASSWORD}' sslmode=disable`)),
    ).rejects.toMatchObject({ code: "28000" });
    await expect(
      connect(parseConninfo("host=localhost port=1 user=u sslmode=disable")),
    ).rejects.toThrow(/cannot connect to localhost:1: .*ECONNREFUSED/);
  });
});

describe("slots", () => {
  test("made once, kept, dropped; a logical one is refused", async () => {
    const link = await connect(plain(pg));
    const first = await link.ensureSlot("io_slot");
    expect(first.created).toBe(true);
    expect(first.restartLsn).toBeGreaterThan(0);
    expect(await link.ensureSlot("io_slot")).toEqual({ ...first, created: false });
    await pg.sql("SELECT pg_create_physical_replication_slot('io_late')");
    expect(await link.ensureSlot("io_late")).toEqual({ created: false, restartLsn: undefined });
    for (const name of ["io_slot", "io_late", "io_never"]) await link.dropSlot(name);
    expect(await pg.sql("SELECT count(*) FROM pg_replication_slots")).toBe("0");
    await expect(link.ensureSlot("Bad Name")).rejects.toThrow(/cannot name a replication slot/);
    link.close();
    await expect(link.identify()).rejects.toThrow(ConnectionLost);
  });
});

describe("base backup", () => {
  interface Taken {
    readonly size: number;
    readonly md5: string;
  }

  async function takeAll(
    link: ReplicationConnection,
    onProgress = (_done: number, _total: number): void => {},
  ): Promise<{ files: Map<string, Taken>; dirs: Set<string>; startLsn: Lsn; endLsn: Lsn }> {
    const backup = await link.baseBackup({ label: "it's a test", checkpoint: "fast" });
    const files = new Map<string, Taken>();
    const dirs = new Set<string>();
    for await (const file of backup.files((p) => onProgress(p.doneBytes, p.totalBytes))) {
      if (file.kind === "directory") dirs.add(file.path);
      if (file.kind !== "file") continue;
      const md5 = createHash("md5");
      let size = 0;
      for await (const chunk of file.body) {
        md5.update(chunk);
        size += chunk.length;
      }
      expect(size).toBe(file.size);
      files.set(file.path, { size, md5: md5.digest("hex") });
    }
    const { endLsn, tli } = await backup.end();
    expect(tli).toBe(backup.tli);
    return { files, dirs, startLsn: backup.startLsn, endLsn };
  }

  test("is what pg_basebackup gets, and what the data directory holds", async () => {
    const link = await connect(plain(pg));
    const progress: [number, number][] = [];
    await pg.sql("CHECKPOINT");
    const taken = await takeAll(link, (done, total) => progress.push([done, total]));
    expect(taken.endLsn).toBeGreaterThan(taken.startLsn);

    const out = postgresTempDir();
    const where = ["-h", pg.socketDir, "-p", `${pg.port}`, "-U", "postgres"];
    const how = ["-D", out, "-Ft", "-X", "none", "-c", "fast", "--no-manifest"];
    await runPg("pg_basebackup", [...where, ...how]);
    const { execFileSync } = await import("node:child_process");
    const listing = execFileSync("tar", ["-tvf", path.join(out, "base.tar")], { encoding: "utf8" });
    const theirs = new Map<string, number>();
    for (const line of listing.trim().split("\n")) {
      const [mode, , size, , , name] = line.split(/\s+/);
      if (mode!.startsWith("-")) theirs.set(name!, Number(size));
    }
    fs.rmSync(out, { recursive: true });
    const volatile =
      /^(backup_label|tablespace_map|pg_stat|global\/pg_internal|.*pg_internal\.init)/;
    const kept = (names: Iterable<string>): string[] =>
      [...names].filter((name) => !volatile.test(name)).sort();
    expect(kept(taken.files.keys())).toEqual(kept(theirs.keys()));
    for (const name of kept(theirs.keys())) {
      expect([name, taken.files.get(name)?.size]).toEqual([name, theirs.get(name)]);
    }

    const relation = await pg.sql("SELECT pg_relation_filepath('pgbench_accounts')");
    const onDisk = fs.readFileSync(path.join(pg.dataDir, relation));
    expect(taken.files.get(relation)).toEqual({
      size: onDisk.length,
      md5: createHash("md5").update(onDisk).digest("hex"),
    });
    expect(taken.dirs.has("pg_wal")).toBe(true);
    expect([...taken.files.keys()].filter((name) => name.startsWith("pg_wal/"))).toEqual([]);
    const [done, total] = progress.at(-1)!;
    expect(done).toBeGreaterThan(50_000_000);
    expect(total).toBeGreaterThanOrEqual(done);

    // The connection is good for the next command.
    expect((await link.identify()).tli).toBe(1);
  });

  test("a consumer that does not take holds the server back", async () => {
    const link = await connect(plain(pg));
    const backup = await link.baseBackup({ label: "slow", checkpoint: "fast" });
    const streamed = async (): Promise<number> =>
      Number(await pg.sql("SELECT backup_streamed FROM pg_stat_progress_basebackup"));
    let held = 0;
    for await (const file of backup.files(() => {})) {
      if (held === 0 && file.kind === "file") {
        let before = -1;
        while (held !== before) {
          before = held;
          await new Promise((resolve) => setTimeout(resolve, 300));
          held = await streamed();
        }
        expect(held).toBeLessThan(backup.totalBytes / 2);
      }
    }
    expect((await backup.end()).endLsn).toBeGreaterThan(backup.startLsn);
  });

  test("giving up half-way, or losing the server half-way, ends with the reason", async () => {
    const abandoned = await connect(plain(pg));
    const half = await abandoned.baseBackup({ label: "half", checkpoint: "fast" });
    for await (const file of half.files(() => {})) if (file.kind === "file") break;
    abandoned.close();

    const link = await connect(plain(pg));
    const backup = await link.baseBackup({ label: "cut", checkpoint: "fast", maxRateKiB: 1024 });
    const drain = async (): Promise<void> => {
      for await (const file of backup.files(() => {})) {
        for await (const chunk of file.body) expect(chunk.length).toBeGreaterThan(0);
      }
    };
    const drained = expect(drain()).rejects.toThrow(/terminating connection/);
    await pg.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_progress_basebackup");
    await drained;
  });

  test("tablespaces of users are refused by name", async () => {
    const dir = postgresTempDir();
    await pg.sql(`CREATE TABLESPACE ts LOCATION '${dir}'`);
    const link = await connect(plain(pg));
    const refused = link.baseBackup({ label: "ts", checkpoint: "fast" });
    await expect(refused).rejects.toThrow(UnsupportedDatabase);
    await expect(refused).rejects.toThrow(dir);
    link.close();
    await until(
      "the backup to end",
      async () => (await pg.sql("SELECT count(*) FROM pg_stat_progress_basebackup")) === "0",
    );
    await pg.sql("DROP TABLESPACE ts");
    fs.rmSync(dir, { recursive: true });
  });
});

describe("streaming", () => {
  /** Streams from `lsn` and keeps all bytes. */
  async function stream(lsn: Lsn, slot?: string) {
    const link = await connect(plain(pg));
    const chunks: Uint8Array[] = [];
    const seen = { at: lsn as number, bytes: 0, ends: [] as StreamEnd[] };
    const wal = link.startReplication(
      { slot, lsn, tli: 1 },
      {
        onStart: () => {},
        onData: (at, bytes) => {
          expect(at).toBe(seen.at);
          seen.at += bytes.length;
          seen.bytes += bytes.length;
          chunks.push(bytes);
        },
        onKeepalive: () => {},
        onEnd: (end) => seen.ends.push(end),
      },
    );
    return { link, wal, seen, bytes: () => Buffer.concat(chunks) };
  }

  test("from a slot while pgbench runs: byte for byte the server's WAL", async () => {
    const setup = await connect(plain(pg));
    await setup.ensureSlot("io_stream");
    const lsn = Lsn.parse(
      await pg
        .sql("SELECT pg_switch_wal()::text")
        .then(() => pg.sql("SELECT pg_current_wal_lsn()")),
    );
    const s = await stream(Lsn.of(lsn - (lsn % 8)), "io_stream");
    await pg.pgbench(["-n", "-c", "4", "-t", "500"]);
    await pg.sql("CREATE TABLE big AS SELECT g, repeat('x', 500) FROM generate_series(1, 40000) g");
    const end = Lsn.parse(await pg.sql("SELECT pg_current_wal_flush_lsn()"));
    await until("all WAL", () => s.seen.at >= end);
    expect(s.seen.bytes).toBeGreaterThan(20_000_000);
    const expected = walBytes(pg, lsn, s.seen.at);
    expect(Buffer.compare(s.bytes(), expected)).toBe(0);

    const [write, flush, apply] = [end, Lsn.of(end - 8), Lsn.of(end - 16)];
    s.wal.sendStatus({ write, flush, apply, replyRequested: false }, Date.now());
    const shown = await until("the report to be seen", async () => {
      const row = await pg.sql(
        "SELECT write_lsn, flush_lsn, replay_lsn FROM pg_stat_replication WHERE flush_lsn IS NOT NULL",
      );
      return row === "" ? undefined : row;
    });
    expect(shown).toBe([write, flush, apply].map(Lsn.format).join("|"));
    expect(await pg.sql("SELECT restart_lsn FROM pg_replication_slots")).toBe(Lsn.format(flush));
    s.link.close();
    await until(
      "the slot to be free",
      async () => (await pg.sql("SELECT active FROM pg_replication_slots")) === "f",
    );
    await setup.dropSlot("io_stream");
    expect(s.seen.ends).toEqual([]);
  });

  test("paused, it reads no more; resumed, nothing is missing", async () => {
    const lsn = Lsn.parse(await pg.sql("SELECT pg_current_wal_flush_lsn()"));
    const s = await stream(lsn);
    s.wal.pause();
    await pg.sql(
      "CREATE TABLE big2 AS SELECT g, repeat('x', 500) FROM generate_series(1, 60000) g",
    );
    await new Promise((resolve) => setTimeout(resolve, 200));
    expect(s.seen.bytes).toBeLessThan(1_000_000);
    const end = Lsn.parse(await pg.sql("SELECT pg_current_wal_flush_lsn()"));
    s.wal.resume();
    await until("all WAL", () => s.seen.at >= end);
    expect(Buffer.compare(s.bytes(), walBytes(pg, lsn, s.seen.at))).toBe(0);
    s.link.close();
  });

  test("each end says why", async () => {
    const flushed = Lsn.parse(await pg.sql("SELECT pg_current_wal_flush_lsn()"));
    const ended = async (s: Awaited<ReturnType<typeof stream>>): Promise<StreamEnd> => {
      const end = await until("the end", () => s.seen.ends[0]);
      await new Promise((resolve) => setTimeout(resolve, 50));
      expect(s.seen.ends).toHaveLength(1);
      return end;
    };
    expect(await ended(await stream(Lsn.of(flushed + 1e9)))).toMatchObject({
      kind: "server-error",
      message: expect.stringContaining("ahead of the WAL flush position"),
    });
    expect(await ended(await stream(flushed, "no_such_slot"))).toMatchObject({
      kind: "server-error",
      code: "42704",
    });
    const killed = await stream(flushed);
    await until(
      "it to stream",
      async () =>
        (await pg.sql("SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming'")) ===
        "1",
    );
    await pg.sql(
      "SELECT pg_terminate_backend(pid) FROM pg_stat_replication WHERE state = 'streaming'",
    );
    expect(await ended(killed)).toMatchObject({ kind: "server-error", code: "57P01" });
  });

  test("a server that shuts down, and one that went over to another timeline", async () => {
    const lsn = Lsn.parse(await pg.sql("SELECT pg_current_wal_flush_lsn()"));
    const s = await stream(lsn);
    await until(
      "it to stream",
      async () =>
        (await pg.sql("SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming'")) ===
        "1",
    );
    const stopped = pg.stop("fast");
    const report = setInterval(() => {
      const at = Lsn.of(s.seen.at);
      s.wal.sendStatus({ write: at, flush: at, apply: at, replyRequested: false }, Date.now());
    }, 20);
    await stopped;
    clearInterval(report);
    expect(await until("the end", () => s.seen.ends[0])).toMatchObject({ kind: "finished" });

    // An end of recovery begins timeline 2, as a promotion does.
    fs.writeFileSync(path.join(pg.dataDir, "recovery.signal"), "");
    await pg.start();
    await until(
      "the end of recovery",
      async () => (await pg.sql("SELECT pg_is_in_recovery()")) === "f",
    );
    const old = await stream(lsn);
    const end = await until("the switch", () => old.seen.ends[0]);
    expect(end).toEqual({ kind: "timeline-switch", nextTli: 2, at: expect.any(Number) });
    expect(old.seen.at).toBe((end as { at: number }).at);
    const fresh = await stream(Lsn.of(old.seen.at)); // nothing left on timeline 1
    expect(await until("the switch", () => fresh.seen.ends[0])).toEqual(end);
  });
});

test("an error of the server is a ServerError with its SQLSTATE, and the connection goes on", async () => {
  const link = await connect(plain(pg));
  await expect(link.show("no_such_setting")).rejects.toThrow(ServerError);
  await expect(link.show("no_such_setting")).rejects.toMatchObject({ code: "42704" });
  expect((await link.identify()).tli).toBeGreaterThan(0);
});
