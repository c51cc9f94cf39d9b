// The whole program in one process, with one timeline from initdb: what the management API answers
// and refuses, what nonsense on the page service's port does, who may use a data directory.

import { execFileSync } from "node:child_process";
import fs from "node:fs";
import net from "node:net";
import path from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { Lsn } from "../../src/core/lsn.ts";
import type { Flags } from "../../src/config.ts";
import type { TimelineInfo } from "../../src/protocol/api.ts";
import { type TestProgram, newDataDir, startTestProgram } from "../support/program.ts";
import { until } from "../support/replication.ts";

const NOBODY = "0".repeat(32);
/** pg_class of template1: every cluster has it. */
const PG_CLASS = { spc: 1663, db: 1, rel: 1259, fork: 0 };

const dataDir = newDataDir();
let server: TestProgram;
let main: TimelineInfo;

beforeAll(async () => {
  server = await startTestProgram(dataDir);
  main = await server.client.createTimeline({ name: "main" });
  await until("it is loaded", async () => {
    main = await server.client.timeline("main");
    return main.state === "Active";
  });
});
afterAll(async () => {
  await server.program.stop();
  expect(server.fatal).toEqual([]);
  fs.rmSync(dataDir, { recursive: true, force: true });
});

/** A page of main over a link of its own: everything works. */
async function expectServes(): Promise<void> {
  const link = await server.connect();
  const stream = await link.pagestream(main.tenant_id, main.timeline_id);
  const page = await stream.getPage(PG_CLASS, 0);
  expect(page.length).toBe(8192);
  expect(page.some((byte) => byte !== 0)).toBe(true);
  await link.close();
}

describe("management", () => {
  test("answers what there is", async () => {
    const status = await server.client.status();
    expect(status).toMatchObject({ state: "running", data_dir: dataDir });
    expect(status.tree.map(({ path }) => path)).toEqual(
      expect.arrayContaining([
        "pageserver/redo-pool",
        "pageserver/tenants",
        "pageserver/scheduler",
      ]),
    );
    expect(await server.client.tenants()).toMatchObject([{ id: main.tenant_id, is_default: true }]);
    expect(await server.client.check()).toMatchObject({ problems: [] });
    await expectServes();
  });

  test.each([
    ["a timeline", () => server.client.timeline("nothing"), /timeline "nothing" does not exist/],
    [
      "an id",
      () => server.client.timeline(NOBODY),
      new RegExp(`timeline ${NOBODY} does not exist`),
    ],
    [
      "an ancestor",
      () => server.client.createTimeline({ name: "x", ancestor_name: "nothing" }),
      /"nothing" does not exist/,
    ],
    ["a compute", () => server.client.stopCompute("main"), /a compute on "main" does not exist/],
    ["a job", () => server.client.job("nothing"), /job nothing does not exist/],
  ])("what is not there is named: %s", async (_what, ask, expected) => {
    await expect(ask()).rejects.toThrow(expected);
  });

  test("a name twice, an id twice", async () => {
    await expect(server.client.createTimeline({ name: "main" })).rejects.toThrow(
      'a timeline named "main" exists already',
    );
    const branch = { name: "twin", ancestor_name: "main" };
    const made = await server.client.createTimeline(branch);
    const again = { ...branch, new_timeline_id: made.timeline_id };
    expect((await server.client.createTimeline(again)).timeline_id).toBe(made.timeline_id);
    await expect(
      server.client.createTimeline({ name: "other", new_timeline_id: made.timeline_id }),
    ).rejects.toThrow(/exists and is a branch/);
    await expect(server.client.createTimeline(branch)).rejects.toThrow(/"twin" exists already/);
  });

  test("LSNs out of range: above, below, at nothing", async () => {
    const at = (lsn: string): Promise<unknown> =>
      server.client.createTimeline({
        name: "never",
        ancestor_name: "main",
        ancestor_start_lsn: lsn,
      });
    await expect(at("FF/0")).rejects.toThrow(/FF\/0 is above the last durable record of main/);
    await expect(at("0/8")).rejects.toThrow(/0\/8 is older than what main keeps/);
    await expect(at("nonsense")).rejects.toThrow(/ancestor_start_lsn: must match/);
    const page = { rel: "1663/1/1259", block: 0 };
    await expect(server.client.page("main", page, "FF/0")).rejects.toThrow(/above the last record/);
    await expect(server.client.lease("main", "0/8")).rejects.toThrow(
      /older than what "main" keeps: its cutoff is/,
    );
    expect((await server.client.timelines()).map(({ name }) => name)).not.toContain("never");
  });

  test("one initdb at a time for one name", async () => {
    const made = await Promise.allSettled([
      server.client.createTimeline({ name: "double" }),
      server.client.createTimeline({ name: "double" }),
    ]);
    expect(made.map(({ status }) => status).sort()).toEqual(["fulfilled", "rejected"]);
    const refused = made.find((one) => one.status === "rejected");
    expect(String(refused?.reason)).toMatch(/"double" .* is being made already/);
    expect(await server.client.check()).toMatchObject({ problems: [] });
  });

  test("servers that cannot be followed", async () => {
    const follow = async (conninfo: string): Promise<string> => {
      const { id } = await server.client.follow({ conninfo, name: "followed" });
      return (await server.client.job(id, 20_000)).error ?? "no error";
    };
    await expect(follow("host=x colour=red")).rejects.toThrow(/"colour" is not supported/);
    await expect(follow("postgres://127.0.0.1:1/")).rejects.toThrow(/no user/);
    expect(await follow("postgres://nobody:geheim@127.0.0.1:1/x")).toMatch(/127\.0\.0\.1:1/);
    expect(JSON.stringify([server.lines, await server.client.jobs()])).not.toContain("geheim");
    expect((await server.client.timelines()).map(({ name }) => name)).not.toContain("followed");
  });
});

test("a compute's directory that holds something of somebody else's is refused, and never removed", async () => {
  const dir = newDataDir();
  fs.writeFileSync(path.join(dir, "letter"), "dear");
  const { id } = await server.client.startCompute({ timeline: "main", dir });
  expect((await server.client.job(id, 20_000)).error).toBe(
    `${dir} is not empty (letter …); remove it first, or name another`,
  );
  await expect(server.client.stopCompute("main")).rejects.toThrow(/does not exist/);
  expect(fs.readdirSync(dir)).toEqual(["letter"]);
  fs.rmSync(dir, { recursive: true });
});

describe("the page service", () => {
  test("tenants, timelines and LSNs that are not there are named, and the link goes on", async () => {
    const link = await server.connect();
    await expect(link.fullbackup(main.tenant_id, NOBODY)).rejects.toThrow(/not found/);
    const later = Lsn.parse("FF/0");
    await expect(link.query("fullbackup")).rejects.toThrow();
    await expect(link.query("select 1")).rejects.toThrow(/select 1/);
    expect(await link.lease(main.tenant_id, main.timeline_id, Lsn.of(8))).toBeUndefined();
    const nobody = await (await server.connect()).pagestream(main.tenant_id, NOBODY);
    await expect(nobody.getPage(PG_CLASS, 0)).rejects.toThrow(`timeline ${NOBODY}`);
    const stream = await link.pagestream(main.tenant_id, main.timeline_id);
    await expect(stream.getPage(PG_CLASS, 0, { lsn: Lsn.of(8) })).rejects.toThrow(
      /garbage collected/,
    );
    await expect(stream.getPage({ ...PG_CLASS, rel: 999_999 }, 0)).rejects.toThrow(
      /relation 1663\/1\/999999.0 does not exist/,
    );
    const zeros = await stream.getPage(PG_CLASS, 100_000_000);
    expect(zeros.every((byte) => byte === 0)).toBe(true);
    const past = await stream.getPage(PG_CLASS, 0, { lsn: later, notModifiedSince: Lsn.of(8) });
    expect(past.length).toBe(8192);
    await link.close();
  });

  test("garbage, truncated and oversized messages end their own link and nothing else", async () => {
    const link = await server.connect();
    const stream = await link.pagestream(main.tenant_id, main.timeline_id);
    const oversized = Buffer.concat([startup(), Buffer.from("Q\x7f\xff\xff\xff")]);
    const nonsense: readonly Buffer[] = [
      Buffer.from("GET / HTTP/1.1\r\nhost: here\r\n\r\n"),
      Buffer.alloc(10_000, 0xff),
      Buffer.from([0, 0, 0, 8, 0, 9, 0, 0]),
      Buffer.concat([startup(), Buffer.from([0x51, 0, 0, 0, 1])]),
      Buffer.concat([startup(), Buffer.from("!\0\0\0\x04")]),
      oversized,
    ];
    for (const bytes of nonsense) expect(await saidTo(bytes)).toBe("closed");
    expect(await saidTo(startup().subarray(0, 12), "and close")).toBe("closed");
    expect((await stream.getPage(PG_CLASS, 0)).length).toBe(8192);
    await link.close();
    expect(server.fatal).toEqual([]);
  });
});

describe("a data directory", () => {
  test("in use is refused with the holder's pid; its holder goes on", async () => {
    await expect(startTestProgram(dataDir)).rejects.toThrow(
      `data directory ${dataDir} is in use by the process with pid ${process.pid}; stop it first, ` +
        `or use another directory`,
    );
    await expectServes();
  });

  test("that is a file, or of another program, or of another version", async () => {
    const dir = newDataDir();
    const file = path.join(dir, "file");
    fs.writeFileSync(file, "");
    await expect(startTestProgram(file)).rejects.toThrow(
      /data directory .*file cannot be used \(EEXIST\); make it a directory that this user can write/,
    );
    fs.mkdirSync(path.join(dir, "tenants"));
    await expect(startTestProgram(dir)).rejects.toThrow(/no FORMAT file; restore it from backup/);
    fs.writeFileSync(path.join(dir, "FORMAT"), "pageserver data 99\n");
    await expect(startTestProgram(dir)).rejects.toThrow(/holds "pageserver data 99"/);
    fs.rmSync(dir, { recursive: true });
  });
});

test("a start that fails gives everything back; a stop ends an initdb; a lost lock ends the process", async () => {
  const dir = newDataDir();
  const failing = async (flags: Flags, expected: RegExp): Promise<void> => {
    await expect(startTestProgram(dir, flags)).rejects.toThrow(expected);
  };
  await failing({ pgBinDir: "/nowhere" }, /PostgreSQL 15 not found in \/nowhere.*apt-get install/);
  await failing({ listenPort: server.program.listenPort }, /EADDRINUSE/);
  await failing({ httpPort: Number(new URL(server.program.http).port) }, /EADDRINUSE/);
  await expectServes();

  // A stop in the middle of an initdb: nothing is left, and the same request works after a start.
  const first = await startTestProgram(dir);
  const asked = first.client.createTimeline({ name: "main" }).catch((error: unknown) => error);
  await until("a tenant is made for it", async () => (await first.client.tenants()).length > 0);
  await first.program.stop();
  expect(await asked).toBeInstanceOf(Error);
  const second = await startTestProgram(dir);
  expect(await second.client.timelines()).toEqual([]);
  await second.client.createTimeline({ name: "main" });
  expect(await second.client.timelines()).toMatchObject([{ name: "main" }]);
  expect(await second.client.check()).toMatchObject({ problems: [] });

  // The lock's holder is the child whose arguments name the directory.
  const holder = execFileSync("pgrep", ["-f", `^flock .*${dir}/lock`], { encoding: "utf8" });
  for (const pid of holder.trim().split("\n")) process.kill(Number(pid), "SIGKILL");
  await until("the loss is told", () => second.fatal.length > 0);
  expect(second.fatal[0]!.message).toMatch(`the lock of ${dir} is lost`);
  await second.program.stop();
  fs.rmSync(dir, { recursive: true });
});

/** A startup packet of protocol 3.0. */
function startup(): Buffer {
  const body = Buffer.from("\0\x03\0\0user\0x\0\0", "latin1");
  const length = Buffer.alloc(4);
  length.writeUInt32BE(body.length + 4);
  return Buffer.concat([length, body]);
}

/** Sends bytes to the page service and waits for the end of the link. */
function saidTo(bytes: Buffer, then: "wait" | "and close" = "wait"): Promise<"closed" | "open"> {
  return new Promise((resolve) => {
    const socket = net.connect({ host: "127.0.0.1", port: server.program.listenPort });
    const timer = setTimeout(() => {
      socket.destroy();
      resolve("open");
    }, 5_000);
    socket.on("close", () => {
      clearTimeout(timer);
      resolve("closed");
    });
    socket.on("error", () => undefined);
    socket.resume();
    socket.write(bytes);
    if (then === "and close") socket.end();
  });
}
