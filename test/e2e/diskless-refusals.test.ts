// What a compute without disks must not run with or on: each is one clear sentence with a remedy, at
// its start if it can be seen then, never a crash and never a wrong page.

import fs from "node:fs";
import path from "node:path";
import pg from "pg";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { ComputeInfo } from "../../src/protocol/api-work.ts";
import { freePort } from "../../src/io/compute.ts";
import { haltOn, removeServer, rowsOf, valueOf } from "../support/computes.ts";
import { foldedServer, serverOfVersion } from "../support/patched-postgres.ts";
import { postgresTempDir, runPg } from "../support/postgres.ts";
import { ServerUnderTest } from "../verify/server.ts";

const NOBODY = "0123456789abcdef0123456789abcdef";
const server = new ServerUnderTest();

async function boot(timeline: string): Promise<ComputeInfo> {
  const settings = { shared_buffers: "128kB", autovacuum: "off" };
  const job = await server.done(await server.client.startCompute({ timeline, settings }));
  return job.result!.compute!;
}

beforeAll(async () => {
  await server.start();
  await server.client.createTimeline({ name: "main" });
  const { uri } = await boot("main");
  await rowsOf(uri, "CREATE TABLE t (id int PRIMARY KEY, n int, pad text)");
  await rowsOf(uri, "INSERT INTO t SELECT g, 0, repeat('x', 100) FROM generate_series(1, 20000) g");
  await haltOn(server, "main");
});

afterAll(() => removeServer(server));

describe("at the start", () => {
  let compute: ComputeInfo;
  let conf: string;
  const programs = postgresTempDir("patched-postgres-");

  afterAll(() => fs.rmSync(programs, { recursive: true, force: true }));

  beforeAll(async () => {
    await server.client.createTimeline({ name: "start", ancestor_name: "main" });
    await server.client.createTimeline({ name: "stranger" });
    compute = await boot("start");
    await runPg("pg_ctl", ["stop", "-D", compute.dir, "-m", "fast", "-w", "-s"]);
    conf = fs.readFileSync(path.join(compute.dir, "postgresql.conf"), "utf8");
  });

  /** Starts its directory again with other settings, or another program; gives what the log says then. */
  async function refusal(
    settings: Readonly<Record<string, string>>,
    program?: string,
  ): Promise<string> {
    const lines = Object.entries(settings).map(([name, value]) => `${name} = '${value}'\n`);
    fs.writeFileSync(path.join(compute.dir, "postgresql.conf"), conf + lines.join(""));
    fs.rmSync(compute.log, { force: true });
    const args = ["start", "-D", compute.dir, "-l", compute.log, "-w", "-s"];
    if (program !== undefined) args.push("-p", program);
    await expect(runPg("pg_ctl", args)).rejects.toThrow();
    return fs.readFileSync(compute.log, "utf8");
  }

  function expectRefusal(log: string, wanted: RegExp): void {
    expect(log).toMatch(wanted);
    expect(log).toContain("FATAL:");
    expect(log).toContain("HINT:");
    expect(log).not.toContain("PANIC");
  }

  test.each([
    [
      "no page server",
      async () => ({ "pageserver.connection": `host=127.0.0.1 port=${await freePort()}` }),
      /does not serve timeline .*refused[^]*Is it running at/,
    ],
    [
      "a timeline that is not there",
      async () => ({ "pageserver.timeline": NOBODY }),
      /does not serve timeline 0123.*[Nn]ot found/,
    ],
    [
      "a tenant that is not there",
      async () => ({ "pageserver.tenant": NOBODY }),
      /of tenant 0123.*[Nn]ot found/,
    ],
    [
      "a timeline of another cluster",
      async () => ({
        "pageserver.timeline": (await server.client.timeline("stranger")).timeline_id,
      }),
      /the compute is of another cluster: its system identifier is \d+, the timeline's is \d+/,
    ],
    [
      "a conninfo that is none",
      async () => ({ "pageserver.connection": "host" }),
      /pageserver.connection cannot be read: missing "="/,
    ],
    [
      "a timeline that is no id",
      async () => ({ "pageserver.timeline": "main" }),
      /must be 32 hex digits each/,
    ],
    [
      "a position of nowhere",
      async () => ({ "pageserver.start_lsn": "yesterday" }),
      /start_lsn is not an LSN/,
    ],
    [
      "a server that logs too little",
      async () => ({ wal_level: "minimal", max_wal_senders: "0" }),
      /wal_level is minimal[^]*Set wal_level to replica/,
    ],
    [
      "hint bits that are not logged",
      async () => ({ wal_log_hints: "off" }),
      /wal_log_hints is off/,
    ],
    ["a second start", async () => ({}), /has been started before[^]*Start the compute anew/],
  ])("%s", async (_what, settings, wanted) => {
    expectRefusal(await refusal(await settings()), wanted);
  });

  test("a server of a version that the library was not built for", async () => {
    const built = (await runPg("pg_config", ["--version"])).match(/15\.(\d+)/)!;
    const program = serverOfVersion(programs, 150_000 + Number(built[1]), 150_099);
    const wanted = /its version is 15\.[^]*built for 15\.[^]*Build the library anew/;
    expectRefusal(await refusal({}, program), wanted);
  });

  // Some of them md.c refuses, some it does in silence, and of some it crashes so early.
  test.runIf(process.arch === "x64").each([
    ["smgrread", "mdread", "read"],
    ["smgrwriteback", "mdwriteback", "writeback"],
    ["smgrextend", "mdextend", "extend"],
    ["smgrexists", "mdexists", "exists"],
  ])("a server that was compiled to call %s as %s", async (from, to, slot) => {
    const log = await refusal({}, foldedServer(programs, from, to));
    expectRefusal(log, new RegExp(`storage manager's ${slot} cannot be replaced`));
  });
});

describe("a local store that is damaged", () => {
  test("pages that the page server has are read from there; for others it is said", async () => {
    await server.client.createTimeline({ name: "damaged", ancestor_name: "main" });
    const compute = await boot("damaged");
    const store = path.join(compute.dir, "pageserver.pages");
    const spoil = (): void => fs.writeFileSync(store, Buffer.alloc(fs.statSync(store).size, 0x55));
    const client = new pg.Client(compute.uri);
    await client.connect();
    try {
      expect((await client.query("SELECT sum(id)::text FROM t")).rows[0]).toEqual({
        sum: "200010000",
      });
      spoil();
      expect((await client.query("SELECT sum(id)::text FROM t")).rows[0]).toEqual({
        sum: "200010000",
      });
      expect(fs.readFileSync(compute.log, "utf8")).toContain("the page server has it too");
      await client.query("BEGIN");
      await client.query("UPDATE t SET n = 1");
      spoil();
      const failed: unknown = await client.query("SELECT sum(n) FROM t").catch((e: unknown) => e);
      expect(failed).toMatchObject({ code: "XX001" });
      expect(String(failed)).toContain("is damaged in file");
      await client.query("ROLLBACK");
    } finally {
      await client.end();
    }
    // Started anew it has everything.
    await haltOn(server, "damaged");
    const { uri } = await boot("damaged");
    expect(await valueOf(uri, "SELECT sum(id) + sum(n) FROM t")).toBe("200010000");
    await haltOn(server, "damaged");
  });
});
