import { afterAll, beforeAll, beforeEach, describe, expect, test, vi } from "vitest";
import { type HttpServer, startHttp } from "../../src/http/server.ts";
import type { ComputeInfo } from "../../src/protocol/api-work.ts";
import {
  type MemoryManagement,
  TENANT,
  memoryManagement,
  timelineInfo,
} from "../http/memory-management.ts";
import { run } from "../../src/cli/main.ts";
import { runCli } from "./run-cli.ts";

let memory: MemoryManagement;
let server: HttpServer;
const MAIN_ID = "a".repeat(31) + "1";

const cli = (...args: string[]) => runCli(args, { PAGESERVER_API: server.url });

beforeAll(async () => {
  // Each test gets a fresh memory; the server looks it up at every call.
  const current = new Proxy({} as MemoryManagement, {
    get: (_target, name) => memory[name as keyof MemoryManagement],
  });
  server = await startHttp(current, { host: "127.0.0.1", port: 0, onUnexpected: () => undefined });
});
afterAll(() => server.close());
beforeEach(() => {
  memory = memoryManagement();
  memory.timelines.set("main", timelineInfo(MAIN_ID, "main"));
});

/** Lets the next job of this server run through `script`. */
async function withJob(script: (job: MemoryManagement["reporters"][number]) => Promise<void>) {
  while (memory.reporters.length === 0) await pause(5);
  await script(memory.reporters[0]!);
}
const pause = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));

describe("branch", () => {
  test("says where the branch begins and how long it took", async () => {
    const ran = await cli("branch", "main", "staging", "--at", "0/1600000");
    expect(ran).toMatchObject({ code: 0, err: "" });
    expect(ran.out).toMatch(/^branch "staging" of "main" at 0\/1600000 in \d+\.\d ms\n/);
    expect(memory.timelines.has("staging")).toBe(true);
  });

  test("takes an id, now, and times with and without a zone", async () => {
    expect((await cli("branch", MAIN_ID, "b1", "--at", "now")).code).toBe(0);
    expect(memory.asked.create).toMatchObject({
      ancestor: { kind: "id", id: MAIN_ID },
      at: { kind: "latest" },
    });
    const unixUs = Date.parse("2026-01-31T10:20:30Z") * 1000 + 500_000;
    for (const [i, at] of ["2026-01-31 10:20:30.5", "2026-01-31T12:20:30.5+02:00"].entries()) {
      expect((await cli("branch", "main", `c${i}`, "--at", at)).code).toBe(0);
      expect(memory.asked.create).toMatchObject({ at: { kind: "time", unixUs } });
    }
  });

  test("refusals are exit code 1 with the server's sentence; nonsense is exit code 2", async () => {
    const taken = await cli("branch", "main", "main");
    expect(taken).toMatchObject({ code: 1, out: "" });
    expect(taken.err).toBe('pageserver: timeline "main" exists\n');
    const nonsense = await cli("branch", "main", "x", "--at", "yesterday");
    expect(nonsense.code).toBe(2);
    expect(nonsense.err).toContain('"yesterday"');
    expect((await cli("branch", "main")).code).toBe(2);
  });
});

describe("long work", () => {
  test("follow shows its steps as plain lines when nobody watches", async () => {
    const ran = cli("follow", "postgres://me@prod/app", "--name", "prod", "--max-rate", "2M");
    await withJob(async (job) => {
      job.step("connect");
      job.step("base backup");
      job.progress(50 * 1024 * 1024, 100 * 1024 * 1024);
      await pause(300);
      job.progress(100 * 1024 * 1024, 100 * 1024 * 1024);
      job.done({ timeline: timelineInfo("b".repeat(32), "prod") });
    });
    const { code, out, err } = await ran;
    expect(code, err).toBe(0);
    expect(err).toMatch(/^ {2}ok {2}connect {2}.*ms\n {2}ok {2}base backup {2}100 MiB {2}.*\/s/);
    expect(out).toContain('following as timeline "prod"');
    expect(memory.asked.follow).toMatchObject({ name: "prod", maxRateBytes: 2 * 1024 * 1024 });
  });

  test("a failed job is exit code 1 with its sentence", async () => {
    const ran = cli("follow", "postgres://me@prod/app", "--name", "prod");
    await withJob(async (job) => {
      job.step("connect");
      job.failed('role "me" may not replicate: ALTER ROLE me REPLICATION');
    });
    const { code, out, err } = await ran;
    expect({ code, out }).toEqual({ code: 1, out: "" });
    expect(err).toContain("!!  connect");
    expect(err).toContain('pageserver: role "me" may not replicate');
  });

  test("compute start --json prints the job alone", async () => {
    const ran = cli(
      "compute",
      "start",
      "main",
      "--json",
      "--port",
      "55433",
      "--async",
      "--full-copy",
    );
    const compute: ComputeInfo = {
      tenant_id: TENANT,
      timeline_id: MAIN_ID,
      timeline: "main",
      state: "running",
      port: 55_433,
      dir: "/tmp/x",
      uri: "postgres://postgres@127.0.0.1:55433/postgres",
      log: "/tmp/x.log",
    };
    await withJob(async (job) => {
      job.step("boot");
      job.done({ compute });
    });
    const { code, out, err } = await ran;
    expect({ code, err }).toEqual({ code: 0, err: "" });
    expect(JSON.parse(out)).toMatchObject({ state: "done", result: { compute } });
    expect(memory.asked).toMatchObject({ synchronous: false, diskless: false });
  });
});

describe("looking", () => {
  test("status draws the tree with restarts under their parents", async () => {
    const { code, out } = await cli("status");
    expect(code).toBe(0);
    expect(out).toContain(
      [
        "├─ redo-pool  running",
        "│  └─ redo-worker-1  running, 3 restarts (last crash: exit 139)",
        "└─ tenants  running",
        "   └─ t1  running",
      ].join("\n"),
    );
    expect(out).toMatch(/main +Active +- +0\/16B3748/);
  });

  test("timelines as table, as words, as JSON", async () => {
    expect((await cli("timeline", "list")).out).toMatch(/^NAME .*\nmain +Active/);
    expect((await cli("timeline", "show", "main")).out).toMatch(/size +11\.8 MiB in 1 sealed/);
    for (const args of [
      ["--json", "timeline", "list"],
      ["timeline", "list", "--json"],
    ]) {
      expect(JSON.parse((await cli(...args)).out)).toHaveLength(1);
    }
    expect((await cli("timeline", "show", "nope")).err).toContain('"nope" does not exist');
  });

  test("wait ends when the LSN is there and fails when it does not come", async () => {
    const later = cli("timeline", "wait", "main", "--lsn", "0/16B3800", "--timeout", "20");
    const info = timelineInfo(MAIN_ID, "main");
    const positions = { ...info.positions, visible: "0/16B3800" };
    setTimeout(() => memory.timelines.set("main", { ...info, positions }), 300);
    expect(await later).toMatchObject({ code: 0, out: "main: visible 0/16B3800\n" });
    const never = await cli("timeline", "wait", "main", "--lsn", "1/0", "--timeout", "0.2");
    expect(never.code).toBe(1);
    expect(never.err).toContain("visible up to 0/16B3800 only");
  });

  test("dump page shows header and versions", async () => {
    const { code, out } = await cli("dump", "page", "main", "base/5/16384", "0", "--hex");
    expect(code).toBe(0);
    expect(out).toContain("page 1663/5/16384.0 block 0 of 3 at 0/16B3748");
    expect(out).toContain("lsn 0/16B3748, checksum 48879, flags all_visible");
    expect(out).toMatch(/0\/16B3748 +image \(init\) +8\.0 KiB +main +open/);
    expect(out).toContain(
      "0000  00 00 00 00 48 37 6b 01 ef be 04 00 20 00 40 1f  ....H7k..... .@.",
    );
  });

  test("check fails when something is broken", async () => {
    expect(await cli("check")).toMatchObject({ code: 0, err: "" });
    memory.problems = ["I7: versions out of order in layer x"];
    const broken = await cli("check");
    expect(broken.code).toBe(1);
    expect(broken.out).toContain("I7: versions out of order");
  });
});

test("without a server the remedy is named, with exit code 3", async () => {
  const gone = await startHttp(memory, {
    host: "127.0.0.1",
    port: 0,
    onUnexpected: () => undefined,
  });
  await gone.close();
  const ran = await runCli(["--api", gone.url, "status"]);
  expect(ran).toMatchObject({ code: 3, out: "" });
  expect(ran.err).toContain(`no page server answers at ${gone.url} (ECONNREFUSED)`);
  expect(ran.err).toContain("pageserver serve");
  const after = await cli("status", "--api", gone.url);
  expect(after.code).toBe(3);
});

test("every command's help teaches with an example", async () => {
  const commands = [
    ["serve"],
    ["follow"],
    ["branch"],
    ["compute", "start"],
    ["compute", "stop"],
    ["compute", "list"],
    ["timeline", "list"],
    ["timeline", "show"],
    ["timeline", "create"],
    ["timeline", "wait"],
    ["status"],
    ["dump", "page"],
    ["check"],
  ];
  for (const command of commands) {
    const out = vi.spyOn(process.stdout, "write").mockReturnValue(true);
    const code = await run([...command, "--help"]);
    const text = out.mock.calls.map(([chunk]) => String(chunk)).join("");
    out.mockRestore();
    expect(code).toBe(0);
    expect(text).toMatch(new RegExp(`Examples?:[^]*pageserver ${command.join(" ")}`));
  }
});

describe("jobs, the server and moments", () => {
  test("a job is found, shown, and waited for", async () => {
    expect((await cli("job", "list")).out).toBe("no jobs since the server was started\n");
    const ran = cli("compute", "start", "main");
    await withJob(async (job) => {
      job.step("base backup");
      const [listed, shown] = await Promise.all([cli("job", "list"), cli("job", "show", job.id)]);
      expect(listed.out).toMatch(new RegExp(`${job.id} +compute-start +main +running`));
      expect(shown.out).toMatch(/^compute-start of "main", running\n {2}\.\. {2}base backup/);
      const waited = cli("job", "wait", job.id);
      await pause(200);
      job.failed("no room");
      expect(await waited).toMatchObject({ code: 1, out: "" });
    });
    expect((await ran).err).toContain("no room");
    const unknown = await cli("job", "show", "nonsense");
    expect(unknown).toMatchObject({ code: 1, out: "" });
  });

  test("a job that is cancelled ends so for all who wait for it", async () => {
    const ran = cli("compute", "start", "main");
    await withJob(async (job) => {
      job.step("base backup");
      job.signal.addEventListener("abort", () => job.failed("given up"));
      const cancelled = await cli("job", "cancel", job.id);
      expect(cancelled).toMatchObject({
        code: 0,
        out: 'compute-start of "main" is cancelled\n',
      });
    });
    expect(await ran).toMatchObject({ code: 1, out: "" });
    expect((await ran).err).toContain("cancelled on request");
  });

  test("reload, metrics and stop", async () => {
    expect((await cli("server", "reload")).out).toBe("1 public keys in use\n");
    expect((await cli("server", "metrics")).out).toBe("pageserver_timelines 1\n");
    expect(JSON.parse((await cli("server", "stop", "--json")).out)).toEqual({ stopping: true });
    expect(memory.asked.shutdowns).toBe(1);
  });

  test("a time to an LSN and back, and sealing", async () => {
    const at = await cli("timeline", "lsn-at", "main", "2026-01-31T10:20:30Z");
    expect(at.out).toMatch(/^[0-9A-F]+\/[0-9A-F]+/);
    expect((await cli("timeline", "lsn-at", "main", "yesterday")).code).toBe(2);
    expect((await cli("timeline", "time-at", "main", "0/16B3748")).out).toMatch(/^2026-\d\d-\d\dT/);
    expect((await cli("timeline", "time-at", "main", "x")).code).toBe(2);
    expect((await cli("timeline", "checkpoint", "main")).out).toContain('"main" is sealed');
    expect(memory.asked.checkpoints).toBe(1);
  });
});

test("a reader of the output that has gone is no crash", async () => {
  const { code, err } = await runCli(["--help"], {}, "has-gone");
  expect(code).toBe(1);
  expect(err).toBe("");
});
