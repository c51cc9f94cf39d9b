// A machine is lost with all that was on it, and another goes on from the backup, by the primary's slot:
// what was not uploaded is still there. Where the slot has gone past it, the gap is said aloud.

import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import type { Flags } from "../../src/config.ts";
import { Lsn } from "../../src/core/lsn.ts";
import type { Job } from "../../src/protocol/api-work.ts";
import type { TimelineInfo } from "../../src/protocol/api.ts";
import { type TestPostgres, startPostgres } from "../support/postgres.ts";
import { type TestProgram, newDataDir, startTestProgram } from "../support/program.ts";

const WAIT_MS_MAX = 60_000;

let primary: TestPostgres;
let place: string;
const dataDirs: string[] = [];
const running: TestProgram[] = [];

beforeEach(async () => {
  place = fs.mkdtempSync(path.join(os.tmpdir(), "pageserver-place-"));
  primary = await startPostgres({ settings: { min_wal_size: "32MB", max_wal_size: "32MB" } });
  await primary.sql("CREATE TABLE t AS SELECT 1 AS n");
});
afterEach(async () => {
  for (const one of running.splice(0)) await one.program.stop();
  await primary.cleanup();
  for (const dir of [place, ...dataDirs.splice(0)]) fs.rmSync(dir, { recursive: true });
});

async function machine(flags: Flags = {}): Promise<TestProgram> {
  const dataDir = newDataDir();
  dataDirs.push(dataDir);
  const backup = { backup: `file://${place}`, backupIntervalMs: 100 };
  const program = await startTestProgram(dataDir, { ...backup, ...flags });
  running.push(program);
  return program;
}

async function lose(lost: TestProgram): Promise<void> {
  running.splice(running.indexOf(lost), 1);
  await lost.program.stop();
  fs.rmSync(dataDirs.pop()!, { recursive: true });
}

async function done({ client }: TestProgram, { id }: Job): Promise<void> {
  let job = await client.job(id, 20_000);
  for (const end = Date.now() + WAIT_MS_MAX; job.state === "running" && Date.now() < end;) {
    job = await client.job(id, 20_000);
  }
  expect(job).toMatchObject({ state: "done" });
}

async function until(
  { client }: TestProgram,
  holds: (info: TimelineInfo) => boolean,
): Promise<TimelineInfo> {
  for (const end = Date.now() + WAIT_MS_MAX; ;) {
    const info = await client.timeline("prod");
    if (holds(info)) return info;
    if (Date.now() > end) throw new Error(`it does not come: ${JSON.stringify(info)}`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

const endOfWal = async (): Promise<Lsn> =>
  Lsn.parse(await primary.sql("SELECT pg_current_wal_flush_lsn()"));

/** Followed, and backed up as far as it is. */
async function followed(flags: Flags): Promise<{ server: TestProgram; tenant: string }> {
  const server = await machine(flags);
  await done(server, await server.client.follow({ conninfo: primary.uri, name: "prod" }));
  const end = await endOfWal();
  const info = await until(server, ({ positions }) => Lsn.parse(positions.uploaded) >= end);
  return { server, tenant: info.tenant_id };
}

/** Where the timeline's WAL objects go, nothing can be put; gives how to undo it. */
function blockUploads(tenant: string): () => void {
  const timelines = path.join(place, "tenants", tenant, "timelines");
  const [timeline] = fs.readdirSync(timelines);
  const wal = path.join(timelines, timeline!, "wal");
  fs.renameSync(wal, `${wal}-away`);
  fs.writeFileSync(wal, "");
  return () => {
    fs.rmSync(wal);
    fs.renameSync(`${wal}-away`, wal);
  };
}

/** Some segments of WAL, so much that a primary whose slots let it go has removed the first. */
async function writeSegments(server: TestProgram): Promise<Lsn> {
  for (let i = 0; i < 5; i++) {
    await primary.sql("INSERT INTO t SELECT n FROM t LIMIT 10; SELECT pg_switch_wal(); CHECKPOINT");
  }
  await primary.sql("INSERT INTO t VALUES (2)");
  const end = await endOfWal();
  await until(server, ({ positions }) => Lsn.parse(positions.durable) >= end);
  return end;
}

const attached = async (tenant: string): Promise<TestProgram> => {
  const server = await machine();
  await done(server, await server.client.attachTenant(tenant, false));
  return { ...server, client: server.client.of(tenant) };
};

describe("a followed primary", () => {
  test("keeps what is not uploaded, so that a new machine goes on; its shutdown waits, but not for ever", async () => {
    const { server, tenant } = await followed({});
    const unblock = blockUploads(tenant);
    const end = await writeSegments(server);
    const { positions } = await server.client.timeline("prod");
    expect(Lsn.parse(positions.uploaded)).toBeLessThan(end);
    const slot = await primary.sql("SELECT restart_lsn FROM pg_replication_slots");
    expect(Lsn.parse(slot)).toBeLessThanOrEqual(Lsn.parse(positions.uploaded));
    await lose(server);
    unblock();

    const next = await attached(tenant);
    const info = await until(next, ({ positions }) => Lsn.parse(positions.uploaded) >= end);
    expect(info.source).toMatchObject({ connection: "streaming" });

    blockUploads(tenant);
    await primary.sql("INSERT INTO t VALUES (3)");
    await primary.stop("fast");
  });

  test("whose slot has gone past what was uploaded: the gap is an error with a remedy", async () => {
    const { server, tenant } = await followed({ backupSourceKeeps: "durable" });
    const unblock = blockUploads(tenant);
    const end = await writeSegments(server);
    await primary.sql("CHECKPOINT");
    await lose(server);
    unblock();

    const next = await attached(tenant);
    const info = await until(next, ({ source }) => source.connection === "refused");
    expect(info.source.reason).toMatch(
      /there is a gap: the server has no more the WAL from 0\/\w+ on.* follow the server anew/,
    );
    expect(Lsn.parse(info.positions.visible)).toBeLessThan(end);
    const { alarms } = await next.client.status();
    expect(alarms.join("\n")).toMatch(/timeline "prod": its WAL source: .*there is a gap/);
    // What was uploaded is there to be read.
    const rel = await primary.sql("SELECT pg_relation_filepath('t')");
    expect((await next.client.page("prod", { rel, block: 0 })).versions).not.toEqual([]);
  });
});
