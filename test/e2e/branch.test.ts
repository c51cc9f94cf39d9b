// Timelines from nothing, computes on them, branches at earlier moments, branches of branches; what
// backups give; all with stock PostgreSQL, all through the interfaces that users have.

import { spawn } from "node:child_process";
import fs from "node:fs";
import path from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { Lsn } from "../../src/core/lsn.ts";
import { bootCompute, freePort, stopCompute } from "../../src/io/compute.ts";
import { findPostgres } from "../../src/io/postgres.ts";
import { readTar } from "../../src/protocol/backup/tar.ts";
import type { ComputeInfo } from "../../src/protocol/api-work.ts";
import { bootOn, haltOn, removeServer, rowsOf, valueOf } from "../support/computes.ts";
import { PG_BIN, postgresTempDir, runPg } from "../support/postgres.ts";
import { PageClient } from "../support/page-client.ts";
import { ServerUnderTest } from "../verify/server.ts";

const FLUSHED = "SELECT pg_current_wal_flush_lsn()";
const NOTES = "SELECT note FROM notes ORDER BY id";
/** What is promised of a branch, ms. */
const BRANCH_MS_MAX = 10;
/** Far more than the distance of two sampled commit times. */
const A_WHILE_MS = 100;

const server = new ServerUnderTest();
let main: ComputeInfo;
/** Moments of main's history. */
const moment = { empty: "", one: "", two: "", twoTime: "", end: "" };

beforeAll(async () => {
  await server.start();
  await server.client.createTimeline({ name: "main" });
  main = await bootOn(server, "main");
  moment.empty = await valueOf(main.uri, FLUSHED);
  const note = (text: string) => rowsOf(main.uri, `INSERT INTO notes (note) VALUES ('${text}')`);
  await rowsOf(main.uri, "CREATE TABLE notes (id serial PRIMARY KEY, note text)");
  await note("one");
  moment.one = await valueOf(main.uri, FLUSHED);
  await note("two");
  moment.two = await valueOf(main.uri, FLUSHED);
  await sleep(A_WHILE_MS);
  moment.twoTime = new Date().toISOString();
  await sleep(A_WHILE_MS);
  await note("three");
  await rowsOf(main.uri, "UPDATE notes SET note = 'ruined' WHERE id < 3");
  await rowsOf(main.uri, "CREATE INDEX ON notes (note)");
  moment.end = await valueOf(main.uri, FLUSHED);
});

afterAll(() => removeServer(server));

const notes = async (uri: string): Promise<string> => (await rowsOf(uri, NOTES)).join(" ");
const branch = (name: string, from: string, at: object = {}) =>
  server.client.createTimeline({ name, ancestor_name: from, ...at });

describe("branches show what was, and go their own ways", () => {
  test("at an LSN and at a moment of time", async () => {
    await branch("at-one", "main", { ancestor_start_lsn: moment.one });
    await branch("at-time", "main", { ancestor_start_timestamp: moment.twoTime });
    const [one, time] = [await bootOn(server, "at-one"), await bootOn(server, "at-time")];
    expect(await notes(one.uri)).toBe("one");
    expect(await notes(time.uri)).toBe("one two");
    await rowsOf(one.uri, "INSERT INTO notes (id, note) VALUES (100, 'on the branch')");
    await rowsOf(main.uri, "INSERT INTO notes (id, note) VALUES (200, 'on main')");
    expect(await notes(one.uri)).toBe("one on the branch");
    expect(await notes(time.uri)).toBe("one two");
    expect(await notes(main.uri)).toBe("ruined ruined three on main");
    // The index that was built later is not there; PostgreSQL's own checks agree.
    const indexes = "SELECT count(*) FROM pg_index WHERE indrelid = 'notes'::regclass";
    expect(await valueOf(one.uri, indexes)).toBe("1");
    expect(await valueOf(main.uri, indexes)).toBe("2");
    await rowsOf(one.uri, "CREATE EXTENSION amcheck");
    await rowsOf(one.uri, "SELECT bt_index_check(oid, true) FROM pg_class WHERE relam = 403");
    await haltOn(server, "at-time");
  });

  test("a branch of a branch, above and below where that began", async () => {
    const one = (await server.client.computes()).find(({ timeline }) => timeline === "at-one")!;
    const before = await valueOf(one.uri, FLUSHED);
    await rowsOf(one.uri, "DELETE FROM notes");
    await server.reached(
      "at-one",
      ({ positions }) => Lsn.parse(positions.durable) >= Lsn.parse(before),
    );
    const above = await branch("above", "at-one", { ancestor_start_lsn: before });
    expect(above.ancestor_name).toBe("at-one");
    await branch("below", "at-one", { ancestor_start_lsn: moment.empty });
    const [grandchild, old] = [await bootOn(server, "above"), await bootOn(server, "below")];
    expect(await notes(grandchild.uri)).toBe("one on the branch");
    expect(await notes(one.uri)).toBe("");
    expect(await valueOf(old.uri, "SELECT to_regclass('notes') IS NULL")).toBe("true");
    for (const name of ["above", "below", "at-one"]) await haltOn(server, name);
  });

  test("a compute that was stopped boots again elsewhere with all it had", async () => {
    const again = await bootOn(server, "at-one");
    expect(again.port).not.toBe(0);
    expect(await notes(again.uri)).toBe("");
    await rowsOf(again.uri, "INSERT INTO notes (note) VALUES ('second life')");
    // A sequence may skip values over a restart, but never repeats one.
    const id = Number(await valueOf(again.uri, "SELECT max(id) FROM notes"));
    expect(id).toBeGreaterThan(1);
    await haltOn(server, "at-one");
    const third = await bootOn(server, "at-one");
    expect(await notes(third.uri)).toBe("second life");
    await haltOn(server, "at-one");
  });

  test("branching takes milliseconds", async () => {
    // The best of several: a machine that is busy with other things can delay any one of them.
    let bestMs = Infinity;
    for (let i = 0; i < 20 && bestMs >= BRANCH_MS_MAX; i++) {
      bestMs = Math.min(bestMs, (await branch(`quick-${i}`, "main")).server_ms);
    }
    expect(bestMs).toBeLessThan(BRANCH_MS_MAX);
  });

  test("moments that are not there are refused with their reason", async () => {
    const refused = (at: object) => branch("never", "main", at);
    await expect(refused({ ancestor_start_lsn: "7F/0" })).rejects.toThrow(/above the last durable/);
    await expect(refused({ ancestor_start_lsn: "0/100" })).rejects.toThrow(/older than what main/);
    await expect(refused({ ancestor_start_timestamp: "2001-01-01T00:00:00Z" })).rejects.toThrow(
      /older than what "main" keeps: its cutoff/,
    );
    await expect(branch("main", "main")).rejects.toThrow(/exists already/);
    await expect(branch("never", "nobody")).rejects.toThrow(/"nobody" does not exist/);
    await expect(server.client.timeline("never")).rejects.toThrow(/does not exist/);
  });
});

describe("the page service, asked with PostgreSQL's own psql", () => {
  /** What psql prints, byte for byte. */
  async function psql(command: string): Promise<Buffer> {
    const args = ["-h", "127.0.0.1", "-p", String(server.port), "-AtqX", "-c", command];
    const child = spawn(path.join(PG_BIN, "psql"), args, { stdio: ["ignore", "pipe", "pipe"] });
    const out: Buffer[] = [];
    let err = "";
    child.stdout.on("data", (chunk: Buffer) => out.push(chunk));
    child.stderr.on("data", (chunk: Buffer) => (err += chunk.toString()));
    const code = await new Promise((resolve) => child.on("close", resolve));
    if (code !== 0) throw new Error(err);
    return Buffer.concat(out);
  }

  test("a full backup at an LSN is a directory that PostgreSQL starts on", async () => {
    const info = await server.client.timeline("main");
    const ids = `${info.tenant_id} ${info.timeline_id}`;
    const tar = await psql(`fullbackup ${ids} ${moment.two}`);
    const home = postgresTempDir("fullbackup-");
    const programs = await findPostgres({ major: 15, binDir: PG_BIN });
    const dir = path.join(home, "data");
    try {
      const compute = await bootCompute(programs, pieces(tar), {
        dir,
        port: await freePort(),
        commits: "asynchronous",
        standbyName: "nobody",
      });
      expect(await notes(compute.uri)).toBe("one two");
      await rowsOf(compute.uri, "INSERT INTO notes (note) VALUES ('writable')");
      await runPg("pg_amcheck", [
        "-h",
        "127.0.0.1",
        "-p",
        `${compute.port}`,
        "--install-missing",
        "postgres",
      ]);
      expect((await stopCompute(dir, { programs })).how).toBe("fast");
      expect(await runPg("pg_controldata", [dir])).toMatch(/cluster state: +shut down\n/);
    } finally {
      await stopCompute(dir, { programs, mode: "immediate" });
      fs.rmSync(home, { recursive: true, force: true });
    }
  });

  test("a base backup has everything but relations", async () => {
    const info = await server.client.timeline("main");
    const tar = await psql(`basebackup ${info.tenant_id} ${info.timeline_id} ${moment.two}`);
    const names: string[] = [];
    for await (const { path } of readTar(pieces(tar))) names.push(path);
    expect(names).toContain("global/pg_control");
    expect(names).toContain("pg_xact/0000");
    expect(names).toContain("base/5/pg_filenode.map");
    expect(names.filter((name) => /^base\/\d+\/\d+$/.test(name))).toEqual([]);
  });

  test("a lease says until when; what is wrong is said in a sentence", async () => {
    const info = await server.client.timeline("main");
    const ids = `${info.tenant_id} ${info.timeline_id}`;
    const until = Number((await psql(`lease lsn ${ids} ${moment.one}`)).toString());
    expect(until).toBeGreaterThan(Date.now());
    await expect(psql(`fullbackup ${ids} 0/1`)).rejects.toThrow(/0\/1/);
    const nobody = "0".repeat(32);
    await expect(psql(`fullbackup ${info.tenant_id} ${nobody}`)).rejects.toThrow(/not found/);
    await expect(psql("SELECT 1")).rejects.toThrow(/ERROR/);
    const client = await PageClient.connect({ port: server.port });
    const stream = await client.pagestream(info.tenant_id, nobody);
    await expect(stream.dbSize(5)).rejects.toThrow(/Not found: timeline 0+ of tenant/);
    await client.close();
  });
});

async function* pieces(bytes: Buffer): AsyncGenerator<Uint8Array> {
  for (let at = 0; at < bytes.length; at += 65_536) yield bytes.subarray(at, at + 65_536);
}
