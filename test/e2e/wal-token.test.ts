// The password for a WAL source comes by the environment: it is stored nowhere, and is there again
// after a restart only if it is given again.

import { execFileSync } from "node:child_process";
import fs from "node:fs";
import { afterAll, beforeAll, expect, test } from "vitest";
import { Secret } from "../../src/protocol/conninfo.ts";
import type { TestPostgres } from "../support/postgres.ts";
import { type TestProgram, newDataDir, startTestProgram } from "../support/program.ts";
import { PASSWORD, startTlsPostgres, until } from "../support/replication.ts";

let primary: TestPostgres;
let dataDir: string;
let server: TestProgram | undefined;

beforeAll(async () => {
  primary = await startTlsPostgres();
  dataDir = newDataDir();
});
afterAll(async () => {
  await server?.program.stop();
  await primary.cleanup();
  fs.rmSync(dataDir, { recursive: true, force: true });
});

const restart = async (walToken: Secret | undefined): Promise<TestProgram> => {
  await server?.program.stop();
  return (server = await startTestProgram(dataDir, {}, { walToken }));
};
const source = async () => (await server!.client.timeline("prod")).source;

test("follow, restart with and without it; nobody else learns of it", async () => {
  const token = new Secret(PASSWORD);
  const conninfo = `host=127.0.0.1 port=${primary.port} user=rep sslmode=require`;
  const all: TestProgram[] = [await restart(token)];
  let job = await server!.client.follow({ conninfo, name: "prod" });
  while (job.state === "running") job = await server!.client.job(job.id, 10_000);
  expect(job.error).toBeUndefined();

  all.push(await restart(undefined));
  const refused = await until("a refusal", async () => {
    const { reason } = await source();
    return reason;
  });
  expect(refused).toContain("asks rep for a password");

  all.push(await restart(token));
  await until("streaming", async () => (await source()).connection === "streaming");
  expect(JSON.stringify(await server!.client.status())).not.toContain(PASSWORD);
  await server!.program.stop();
  server = undefined;

  for (const { lines } of all) expect(JSON.stringify(lines)).not.toContain(PASSWORD);
  // grep's 1: found nowhere.
  const grep = () => execFileSync("grep", ["-rlaF", PASSWORD, dataDir], { encoding: "utf8" });
  expect(grep).toThrow(expect.objectContaining({ status: 1 }));
});
