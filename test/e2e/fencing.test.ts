// A compute whose place another one has taken: whether it can be ended or not, nothing is acknowledged
// by it any more and it reads nothing of what the other one writes.

import fs from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import pg from "pg";
import { afterAll, beforeAll, expect, test } from "vitest";
import type { ComputeInfo } from "../../src/protocol/api-work.ts";
import { bootOn, haltOn, removeServer, rowsOf, valueOf } from "../support/computes.ts";
import { ServerUnderTest } from "../verify/server.ts";

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

test("one that the page server cannot find is not believed any more", async () => {
  const old = await bootOn(server, "main");
  const [writer, reader] = [await connect(old), await connect(old)];
  await writer.query("INSERT INTO journal VALUES ('acknowledged')");
  await reader.query("SELECT line FROM journal");

  // It runs on, where nobody looks for it.
  fs.renameSync(old.dir, `${old.dir}.lost`);
  lost = old;
  const now = await bootOn(server, "main");
  expect(now.port).not.toBe(old.port);

  let acknowledged = false;
  const said = writer.query("INSERT INTO journal VALUES ('too late')").then(
    () => (acknowledged = true),
    () => undefined,
  );
  const replaced = "another compute has taken this one's place";
  await expect(reader.query("SELECT count(*) FROM first")).rejects.toThrow(replaced);

  await rowsOf(now.uri, "INSERT INTO journal VALUES ('of the new one')");
  // It is remembered.
  await server.kill();
  await server.start();
  await rowsOf(now.uri, "INSERT INTO journal VALUES ('after a restart')");
  await expect(reader.query("SELECT count(*) FROM second")).rejects.toThrow(replaced);
  await sleep(200);
  expect(acknowledged).toBe(false);

  expect(await rowsOf(now.uri, "SELECT line FROM journal")).toEqual([
    ["acknowledged"],
    ["of the new one"],
    ["after a restart"],
  ]);
  process.kill(old.pid!, "SIGQUIT");
  lost = undefined;
  await said;
  expect(acknowledged).toBe(false);
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
