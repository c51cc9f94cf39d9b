import { Check, Errors } from "typebox/value";
import type { TSchema } from "typebox";
import { beforeEach, describe, expect, test } from "vitest";
import { LEASE_MS_MAX } from "../../src/core/limits.ts";
import { Lsn } from "../../src/core/lsn.ts";
import { type App, buildApp, startHttp } from "../../src/http/server.ts";
import {
  CreatedTimeline,
  ErrorBody,
  LeaseAnswer,
  LsnByTimestamp,
  PageDump,
  TenantInfo,
  TimelineInfo,
} from "../../src/protocol/api.ts";
import { LeaseInfo, ReleasedLeases, SnapshotInfo } from "../../src/protocol/api-holds.ts";
import { CheckReport, Status } from "../../src/protocol/api-status.ts";
import { Job } from "../../src/protocol/api-work.ts";
import { type MemoryManagement, TENANT, memoryManagement } from "./memory-management.ts";

const DEFAULT = "/v1/tenant/default";
const HEADERS = { host: "127.0.0.1:9898" };

let memory: MemoryManagement;
let app: App;
let unexpected: string[];

beforeEach(() => {
  memory = memoryManagement();
  unexpected = [];
  app = buildApp(memory, {
    host: "127.0.0.1",
    onUnexpected: (error, request) => unexpected.push(`${request}: ${String(error)}`),
  });
});

type Method = "GET" | "POST" | "PUT" | "DELETE";

async function call(method: Method, url: string, body?: unknown, headers: object = {}) {
  const answer = await app.inject({
    method,
    url,
    headers: { ...HEADERS, ...headers },
    ...(body !== undefined && { payload: body as object }),
  });
  return { status: answer.statusCode, body: answer.json<Record<string, unknown>>() };
}

/** The answer's status, and that its body is what the API promises. */
async function expectBody(
  schema: TSchema,
  status: number,
  method: Method,
  url: string,
  body?: unknown,
) {
  const answer = await call(method, url, body);
  expect(answer.status, JSON.stringify(answer.body)).toBe(status);
  expect(Errors(schema, answer.body)).toEqual([]);
  return answer.body;
}

/** A refusal: its status and a sentence that says what is wrong. */
async function expectRefused(
  status: number,
  sentence: RegExp,
  method: Method,
  url: string,
  body?: unknown,
) {
  const refused = await expectBody(ErrorBody, status, method, url, body);
  expect(refused["msg"]).toMatch(sentence);
}

const makeMain = () => call("POST", `${DEFAULT}/timeline`, { name: "main" });

describe("answers follow the API's schemas", () => {
  test("status, tenants, check", async () => {
    await makeMain();
    await expectBody(Status, 200, "GET", "/v1/status");
    await expectBody(TenantInfo, 200, "GET", DEFAULT);
    await expectBody(TenantInfo, 200, "GET", `/v1/tenant/${TENANT}`);
    await expectBody(TenantInfo, 201, "POST", "/v1/tenant", { new_tenant_id: TENANT });
    await expectBody(CheckReport, 200, "POST", `${DEFAULT}/check`);
    const tenants = (await call("GET", "/v1/tenant")).body as unknown as unknown[];
    expect(tenants.every((tenant) => Check(TenantInfo, tenant))).toBe(true);
  });

  test("a timeline is found by name and by id, in either case of hex", async () => {
    const made = await expectBody(CreatedTimeline, 201, "POST", `${DEFAULT}/timeline`, {
      name: "main",
      new_timeline_id: "ABCDEF00112233445566778899AABBCC",
    });
    expect(made["timeline_id"]).toBe("abcdef00112233445566778899aabbcc");
    for (const ref of ["main", "ABCDEF00112233445566778899AABBCC"]) {
      const found = await expectBody(TimelineInfo, 200, "GET", `${DEFAULT}/timeline/${ref}`);
      expect(found["name"]).toBe("main");
    }
  });

  test("time and LSN, leases", async () => {
    await makeMain();
    const timeline = `${DEFAULT}/timeline/main`;
    const at = "timestamp=2026-01-31T10:20:30Z";
    await expectBody(LsnByTimestamp, 200, "GET", `${timeline}/get_lsn_by_timestamp?${at}`);
    await expectBody(LeaseAnswer, 200, "POST", `${timeline}/lsn_lease`, { lsn: "0/16B3748" });
    const time = await call("GET", `${timeline}/get_timestamp_of_lsn?lsn=0/16B3748`);
    expect(time.body).toBe("2026-01-31T10:20:30.123456Z");
    await expectRefused(412, /0\/10/, "GET", `${timeline}/get_timestamp_of_lsn?lsn=0/10`);
  });
});

test("snapshots and leases: shapes, moments, and what is refused before anything is asked", async () => {
  await makeMain();
  const timeline = `${DEFAULT}/timeline/main`;
  await expectBody(SnapshotInfo, 201, "POST", `${timeline}/snapshot`, { name: "monday" });
  expect(memory.asked.moment).toEqual({ kind: "latest" });
  const at = { name: "then", timestamp: "2026-01-31T10:20:30Z" };
  await expectBody(SnapshotInfo, 201, "POST", `${timeline}/snapshot`, at);
  expect(memory.asked.moment).toEqual({ kind: "time", unixUs: 1_769_854_830_000_000 });
  await expectRefused(400, /not both/, "POST", `${timeline}/snapshot`, { ...at, lsn: "0/10" });
  await expectRefused(400, /name/, "POST", `${timeline}/snapshot`, { name: "a b" });
  await expectRefused(404, /snapshot "x"/, "DELETE", `${timeline}/snapshot/x`);
  expect((await call("DELETE", `${timeline}/snapshot/monday`)).status).toBe(200);

  const lease = { owner: "report", lsn: "0/16B3748", duration_ms: 60_000 };
  await expectBody(LeaseInfo, 201, "POST", `${timeline}/lease`, lease);
  expect(memory.asked.durationMs).toBe(60_000);
  const long = { ...lease, duration_ms: LEASE_MS_MAX + 1 };
  await expectRefused(400, /at most .* snapshot/, "POST", `${timeline}/lease`, long);
  await expectRefused(400, /owner/, "POST", `${timeline}/lease`, { ...lease, owner: "a/b" });
  await expectRefused(400, /which leases/, "DELETE", `${timeline}/lease`);
  await expectBody(ReleasedLeases, 200, "DELETE", `${timeline}/lease?owner=report&lsn=0/10`);
  expect(memory.asked.release).toEqual({ owner: "report", lsn: 16 });

  const branch = { name: "b", ancestor_name: "main", ancestor_start_snapshot: "monday" };
  await expectBody(CreatedTimeline, 201, "POST", `${DEFAULT}/timeline`, branch);
  expect(memory.asked.create).toMatchObject({ at: { kind: "snapshot", name: "monday" } });
});

test("sealing on demand, and only of what exists", async () => {
  await makeMain();
  await expectBody(TimelineInfo, 200, "PUT", `${DEFAULT}/timeline/main/checkpoint`);
  await expectRefused(404, /"other" does not exist/, "PUT", `${DEFAULT}/timeline/other/checkpoint`);
  expect(memory.asked.checkpoints).toBe(1);
});

describe("branches", () => {
  test("by id and LSN, as Neon's clients ask", async () => {
    const main = (await makeMain()).body;
    const branch = await expectBody(CreatedTimeline, 201, "POST", `${DEFAULT}/timeline`, {
      new_timeline_id: "1".repeat(32),
      ancestor_timeline_id: main["timeline_id"],
      ancestor_start_lsn: "0/1600000",
    });
    expect(branch["ancestor_lsn"]).toBe("0/1600000");
    expect(branch["server_ms"]).toBeGreaterThan(0);
  });

  test("by name at a time, to the microsecond", async () => {
    await makeMain();
    await expectBody(CreatedTimeline, 201, "POST", `${DEFAULT}/timeline`, {
      name: "b",
      ancestor_name: "main",
      ancestor_start_timestamp: "2026-01-31 12:20:30.123456+02",
    });
    expect(memory.asked.create).toMatchObject({
      kind: "branch",
      ancestor: { kind: "name", name: "main" },
      at: { kind: "time", unixUs: Date.parse("2026-01-31T10:20:30Z") * 1000 + 123_456 },
    });
  });

  test("what cannot be, is refused with Neon's status", async () => {
    await makeMain();
    const path = `${DEFAULT}/timeline`;
    const branch = { name: "b", ancestor_name: "main" };
    await expectRefused(406, /last record/, "POST", path, {
      ...branch,
      ancestor_start_lsn: "1/0",
    });
    await expectRefused(404, /"nope" does not exist/, "POST", path, {
      name: "b",
      ancestor_name: "nope",
    });
    await expectRefused(409, /exists/, "POST", path, { name: "main" });
    await expectRefused(400, /branch point needs/, "POST", path, {
      name: "b",
      ancestor_start_lsn: "0/1",
    });
    await expectRefused(400, /not a time/, "POST", path, {
      ...branch,
      ancestor_start_timestamp: "2026-01-31T10:20:30",
    });
    await expectRefused(400, /either/, "POST", path, {
      ...branch,
      ancestor_start_lsn: "0/1",
      ancestor_start_timestamp: "2026-01-31T10:20:30Z",
    });
    expect(memory.timelines.size).toBe(1);
  });
});

describe("jobs", () => {
  test("a long poll answers when the job ends, with its steps", async () => {
    const uri = "postgres://me:secret@prod/app";
    const started = await expectBody(Job, 202, "POST", `${DEFAULT}/follow`, {
      conninfo: uri,
      name: "prod",
      max_rate_bytes: 1_000_000,
    });
    expect(JSON.stringify(started)).not.toContain("secret");
    expect(memory.asked.follow).toMatchObject({ conninfo: uri, maxRateBytes: 1_000_000 });
    const reporter = memory.reporters[0]!;
    reporter.step("connect");
    reporter.step("base backup");
    reporter.progress(10, 100);
    const before = performance.now();
    const polled = expectBody(Job, 200, "GET", `/v1/job/${reporter.id}?wait_ms=20000`);
    setTimeout(() => reporter.failed("the primary went away"), 50);
    const ended = await polled;
    expect(performance.now() - before).toBeLessThan(10_000);
    expect(ended).toMatchObject({ state: "failed", error: "the primary went away" });
    expect(ended["steps"]).toMatchObject([
      { name: "connect", state: "done" },
      { name: "base backup", state: "failed", bytes_done: 10, bytes_total: 100 },
    ]);
  });

  test("a poll that waits in vain answers the running job", async () => {
    await call("POST", `${DEFAULT}/follow`, { conninfo: "host=x", name: "prod" });
    const id = memory.reporters[0]!.id;
    const job = await expectBody(Job, 200, "GET", `/v1/job/${id}?wait_ms=20`);
    expect(job["state"]).toBe("running");
    await expectRefused(404, /job "x" does not exist/, "GET", "/v1/job/x");
    await expectRefused(400, /wait_ms/, "GET", `/v1/job/${id}?wait_ms=99999999`);
  });

  test("a compute is started by name, stopped by id", async () => {
    const main = (await makeMain()).body;
    await expectBody(Job, 202, "POST", `${DEFAULT}/compute`, { timeline: "main" });
    expect(memory.asked).toMatchObject({ synchronous: true, diskless: true });
    const body = { timeline: "main", port: 5, dir: "/x", synchronous: false };
    await expectBody(Job, 202, "POST", `${DEFAULT}/compute`, body);
    expect(memory.asked.synchronous).toBe(false);
    const path = `${DEFAULT}/compute/${String(main["timeline_id"])}`;
    await expectBody(Job, 202, "DELETE", path);
    await expectRefused(404, /nope/, "DELETE", `${DEFAULT}/compute/nope`);
  });
});

describe("one page", () => {
  test("by relation, with its header decoded", async () => {
    await makeMain();
    const path = `${DEFAULT}/timeline/main/page?rel=base/5/16384_vm&block=7&lsn=0/16B3000`;
    const page = await expectBody(PageDump, 200, "GET", path);
    expect(memory.asked.dump).toEqual({
      target: { kind: "rel", rel: { spc: 1663, db: 5, rel: 16384, fork: 2 }, block: 7 },
      at: Lsn.parse("0/16B3000"),
    });
    expect(page).toMatchObject({ rel: "1663/5/16384.2", lsn: "0/16B3000", all_zero: false });
    expect(page["header"]).toEqual({
      lsn: "0/16B3748",
      checksum: 0xbeef,
      flags: ["all_visible"],
      lower: 32,
      upper: 8000,
      special: 8192,
      page_size: 8192,
      layout_version: 4,
      prune_xid: 777,
      items: 2,
    });
    expect(page["key"]).toBe("00" + "0000067f" + "00000005" + "00004000" + "02" + "00000007");
    const again = await expectBody(
      PageDump,
      200,
      "GET",
      `${DEFAULT}/timeline/main/page?key=${String(page["key"])}`,
    );
    expect(again["key"]).toBe(page["key"]);
    expect(memory.asked.dump?.target).toMatchObject({ kind: "key", block: 7 });
  });

  test("wrong relations, blocks and keys are named", async () => {
    await makeMain();
    const page = `${DEFAULT}/timeline/main/page`;
    await expectRefused(400, /not a relation: "1663\/5"/, "GET", `${page}?rel=1663/5&block=0`);
    await expectRefused(400, /"4294967296"/, "GET", `${page}?rel=1/2/4294967296&block=0`);
    await expectRefused(400, /block: "-1"/, "GET", `${page}?rel=1/2/3&block=-1`);
    await expectRefused(400, /either rel and block, or key/, "GET", `${page}?rel=1/2/3`);
    await expectRefused(400, /36 hex/, "GET", `${page}?key=00`);
    await expectRefused(400, /kind 255/, "GET", `${page}?key=${"ff".repeat(18)}`);
  });
});

describe("bad requests", () => {
  test("are refused with a sentence that names what is wrong", async () => {
    const path = `${DEFAULT}/timeline`;
    await expectRefused(404, /no such path/, "GET", "/v1/nothing");
    await expectRefused(400, /tenant id/, "GET", "/v1/tenant/xyz/timeline");
    await expectRefused(400, /timeline's name or id/, "GET", `${path}/%20`);
    await expectRefused(400, /body\/name/, "POST", path, { name: "0bad" });
    await expectRefused(400, /body/, "POST", path, { name: "good", unknown_field: 1 });
    await expectRefused(400, /body/, "POST", path, { name: "1".repeat(32) });
    await expectRefused(400, /port/, "POST", `${DEFAULT}/compute`, { timeline: "m", port: 70_000 });
    await expectRefused(400, /conninfo/, "POST", `${DEFAULT}/follow`, { name: "m", conninfo: "" });
    await expectRefused(413, /large/, "POST", path, { name: "x".repeat(100_000) });
    expect(unexpected).toEqual([]);
  });

  test("a rejected promise is a 500 that is reported, and the next request works", async () => {
    memory.status = () => Promise.reject(new Error("kaputt"));
    await expectRefused(500, /internal error: kaputt/, "GET", "/v1/status");
    expect(unexpected).toEqual(["GET /v1/status: Error: kaputt"]);
    await expectBody(TenantInfo, 200, "GET", DEFAULT);
  });

  test("web pages elsewhere cannot reach it", async () => {
    const post = (headers: object) => call("POST", "/v1/shutdown", undefined, headers);
    expect((await post({ host: "evil.example:9898" })).status).toBe(403);
    expect((await post({ origin: "http://evil.example" })).status).toBe(403);
    expect((await post({ origin: "null" })).status).toBe(403);
    expect(memory.asked.shutdowns).toBe(0);
    const allowed = [{}, { host: "localhost:9898" }, { host: "[::1]:9898" }];
    for (const headers of allowed) {
      const answer = await app.inject({
        method: "POST",
        url: "/v1/shutdown",
        headers: { ...HEADERS, ...headers },
      });
      expect(answer.statusCode).toBe(202);
    }
    expect(memory.asked.shutdowns).toBe(allowed.length);
  });
});

test("a taken port is a rejected start, not a crash", async () => {
  const options = { host: "127.0.0.1", port: 0, onUnexpected: () => undefined };
  const first = await startHttp(memory, options);
  const port = Number(new URL(first.url).port);
  await expect(startHttp(memory, { ...options, port })).rejects.toThrow(/EADDRINUSE/);
  await first.close();
});
