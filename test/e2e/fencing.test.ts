// A compute whose place another one has taken ends, whether the page server can end it or not: nothing is
// acknowledged by it any more, and nobody reads what is not the timeline's history.

import { execFileSync } from "node:child_process";
import fs from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import pg from "pg";
import { afterAll, beforeAll, expect, test } from "vitest";
import { computeLog } from "../../src/io/compute.ts";
import type { ComputeInfo } from "../../src/protocol/api-work.ts";
import { bootOn, haltOn, removeServer, rowsOf, valueOf } from "../support/computes.ts";
import { until } from "../support/replication.ts";
import { ServerUnderTest } from "../verify/server.ts";

const ENDS_MS_MAX = 60_000;
const server = new ServerUnderTest();
const clients: pg.Client[] = [];
let lost: ComputeInfo | undefined;

async function connect({ uri }: ComputeInfo): Promise<pg.Client> {
  const client = new pg.Client(uri);
  client.on("error", () => undefined); // its server is ended by force
  clients.push(client);
  await client.connect();
  return client;
}

/** What it reads, again and again, until its server ends: always the same, or this throws. */
async function readUntilItEnds(client: pg.Client): Promise<readonly (readonly unknown[])[]> {
  let lines: readonly (readonly unknown[])[] | undefined;
  for (const end = Date.now() + ENDS_MS_MAX; Date.now() < end;) {
    const text = "SELECT line FROM journal";
    const got = await client.query<unknown[]>({ text, rowMode: "array" }).catch(() => undefined);
    if (got === undefined) return lines ?? [];
    lines ??= got.rows;
    expect(got.rows).toEqual(lines);
    await sleep(5);
  }
  throw new Error("its server does not end");
}

/** The child of a process whose title contains `title`. */
function childOf(parent: number, title: string): number {
  const children = execFileSync("ps", ["-o", "pid=,args=", "--ppid", `${parent}`], {
    encoding: "utf8",
  });
  const found = children.split("\n").find((line) => line.includes(title));
  if (found === undefined) throw new Error(`no "${title}" among ${children}`);
  return Number.parseInt(found, 10);
}

/** A process that has ended has no directory, even before its parent asks for it. */
const isAlive = (pid: number): boolean => fs.existsSync(`/proc/${pid}/cwd`);

beforeAll(async () => {
  await server.start();
  await server.client.createTimeline({ name: "main" });
  const { uri } = await bootOn(server, "main");
  await rowsOf(uri, "CREATE TABLE journal (line text)");
  for (const name of ["first", "second"]) {
    await rowsOf(uri, `CREATE TABLE ${name} AS SELECT generate_series(1, 5000) AS id`);
  }
  await haltOn(server, "main");
});

afterAll(async () => {
  if (lost !== undefined) process.kill(lost.pid!, "SIGQUIT");
  for (const client of clients) await client.end().catch(() => undefined);
  await removeServer(server);
});

test("one that the page server cannot find ends itself, and acknowledges nothing more", async () => {
  const old = await bootOn(server, "main");
  const [writer, reader, other] = [await connect(old), await connect(old), await connect(old)];
  await writer.query("INSERT INTO journal VALUES ('acknowledged')");
  for (const client of [reader, other]) await client.query("SELECT line FROM journal");

  // It runs on, where nobody looks for it, and does not look around itself for a while.
  const hidden = `${old.dir}.lost`;
  fs.renameSync(old.dir, hidden);
  lost = old;
  const guard = childOf(old.pid!, "pageserver guard");
  process.kill(guard, "SIGSTOP");
  const now = await bootOn(server, "main");
  expect(now.port).not.toBe(old.port);
  await rowsOf(now.uri, "INSERT INTO journal VALUES ('of the new one')");
  // It is remembered.
  await server.kill();
  await server.start();
  await expect(other.query("SELECT count(*) FROM first")).rejects.toMatchObject({
    severity: "FATAL",
    message: expect.stringContaining("another compute has taken this one's place") as string,
    hint: "This server ends. Connect to the one that has its place.",
  });

  // A commit that waits for the page server neither waits for ever, nor is seen by others.
  const tooLate = expect(writer.query("INSERT INTO journal VALUES ('late')")).rejects.toThrow();
  const reads = readUntilItEnds(reader);
  process.kill(guard, "SIGCONT");
  await tooLate;
  expect(await reads).toEqual([["acknowledged"]]);
  await until("it has ended", () => !isAlive(old.pid!));
  lost = undefined;
  await expect(connect(old)).rejects.toThrow();
  expect(fs.readFileSync(computeLog(hidden), "utf8")).toContain("this server ends at once");
  fs.rmSync(hidden, { recursive: true });

  await rowsOf(now.uri, "INSERT INTO journal VALUES ('after a restart')");
  expect(await rowsOf(now.uri, "SELECT line FROM journal")).toEqual([
    ["acknowledged"],
    ["of the new one"],
    ["after a restart"],
  ]);
});

test("one that runs is not replaced by accident, and ended when it is meant", async () => {
  const [old] = await server.client.computes();
  await rowsOf(old!.uri, "INSERT INTO journal VALUES ('the last')");
  const request = { timeline: "main" };
  await expect(server.client.startCompute(request)).rejects.toThrow(
    "stop it first, or take its place with --replace",
  );
  const job = await server.done(await server.client.startCompute({ ...request, replace: true }));
  expect(isAlive(old!.pid!)).toBe(false);
  const { uri } = job.result!.compute!;
  const last = "SELECT count(*) FROM journal WHERE line = 'the last'";
  expect(await valueOf(uri, last)).toBe("1");
  await haltOn(server, "main");
});
