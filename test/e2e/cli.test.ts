// The command line against a running server: what it prints as JSON, and how it fails.

import fs from "node:fs";
import { afterAll, beforeAll, expect, test } from "vitest";
import { type Ran, runCli } from "../cli/run-cli.ts";
import { removeServer, valueOf } from "../support/computes.ts";
import { ServerUnderTest } from "../verify/server.ts";

const server = new ServerUnderTest();

beforeAll(async () => {
  await server.start();
  await json("timeline", "create", "main");
});

afterAll(() => removeServer(server));

const cli = (...args: readonly string[]): Promise<Ran> =>
  runCli(args, { PAGESERVER_API: server.client.url });

/** Runs a command that must succeed; its JSON. */
async function json(...args: readonly string[]): Promise<Record<string, unknown>> {
  const { code, out, err } = await cli(...args, "--json");
  expect([code, err]).toEqual([0, ""]);
  return JSON.parse(out) as Record<string, unknown>;
}

/** Runs a command that must fail with this code and sentence, and print nothing else. */
async function fails(code: number, sentence: RegExp, ...args: readonly string[]): Promise<void> {
  const ran = await cli(...args);
  expect(ran.err).toMatch(sentence);
  expect(ran).toMatchObject({ code, out: "" });
  expect(ran.err).not.toMatch(/^ +at /m);
}

test("a compute from the command line, SQL on it, its pages, and its end", async () => {
  const started = await json("compute", "start", "main");
  expect(started).toMatchObject({ kind: "compute-start", state: "done" });
  const { uri } = (started["result"] as { compute: { uri: string } }).compute;
  await valueOf(uri, "SELECT count(*) FROM pg_class");
  // A commit with a time.
  await valueOf(uri, "SELECT pg_current_xact_id()");
  const path = await valueOf(uri, "SELECT pg_relation_filepath('pg_class')");
  const lsn = await valueOf(uri, "SELECT pg_current_wal_flush_lsn()");
  const [waited, status, page, computes] = await Promise.all([
    json("timeline", "wait", "main", "--lsn", lsn, "--position", "durable"),
    json("status"),
    json("dump", "page", "main", path, "0", "--at", lsn),
    json("compute", "list"),
  ]);
  expect(waited).toMatchObject({ name: "main", source: { kind: "compute" } });
  expect(status).toMatchObject({
    state: "running",
    data_dir: server.dataDir,
    timelines: [{ name: "main", state: "Active" }],
  });
  const tree = status["tree"] as { path: string; state: string }[];
  expect(tree.filter(({ path }) => /redo-worker/.test(path)).length).toBeGreaterThan(0);
  expect(tree.filter(({ path }) => /timeline-\w+$/.test(path)).length).toBe(1);
  expect(page).toMatchObject({ block: 0, lsn, all_zero: false, header: { page_size: 8192 } });
  expect((page["versions"] as unknown[]).length).toBeGreaterThan(0);
  expect(Buffer.from(page["page_base64"] as string, "base64").length).toBe(8192);
  expect(computes).toMatchObject([{ timeline: "main", state: "running", uri }]);
  await fails(1, /runs on "main" already/, "compute", "start", "main");
  await json("compute", "stop", "main");
  expect(await json("compute", "list")).toMatchObject([{ timeline: "main", state: "stopped" }]);
});

test("timelines and branches as JSON and as words", async () => {
  const branch = await json("branch", "main", "try");
  expect(branch).toMatchObject({ name: "try", ancestor_name: "main" });
  const [list, shown, words] = await Promise.all([
    json("timeline", "list"),
    json("timeline", "show", branch["timeline_id"] as string),
    cli("timeline", "list"),
  ]);
  expect(list).toMatchObject([{ name: "main" }, { name: "try" }]);
  expect(shown).toMatchObject({
    name: "try",
    ancestor_lsn: branch["ancestor_lsn"],
    pg_version: 15,
  });
  expect(words.out).toMatch(/^NAME +STATE .*\nmain .*\n?[^]*try +Active +main/);
  const check = await json("check");
  expect(check).toMatchObject({ problems: [] });
  expect(check["versions"]).toBeGreaterThan(2_000);
});

test("wrong names, moments and addresses are refused in a sentence", async () => {
  const page = (rel: string, block: string, ...more: string[]) =>
    ["dump", "page", "main", rel, block, ...more] as const;
  await Promise.all([
    fails(1, /timeline "nobody" does not exist; see/, "timeline", "show", "nobody"),
    fails(1, /timeline "nobody" does not exist/, "branch", "nobody", "b"),
    fails(1, /"main" exists already/, "branch", "main", "main"),
  ]);
  await Promise.all([
    fails(1, /above the last durable record/, "branch", "main", "b", "--at", "FF/0"),
    fails(2, /not "now", an LSN or a time/, "branch", "main", "b", "--at", "yesterday"),
    fails(1, /a compute on "try"|does not exist/, "compute", "stop", "nobody"),
  ]);
  await Promise.all([
    fails(1, /not a relation/, ...page("nonsense", "0")),
    fails(2, /not a block number/, ...page("base/5/1259", "x")),
    fails(1, /above the last record/, ...page("base/5/1259", "0", "--at", "FF/0")),
  ]);
  await Promise.all([
    fails(
      1,
      /ECONNREFUSED|refused/,
      "follow",
      "postgres://x@127.0.0.1:1/x",
      "--name",
      "p",
      "--json",
    ),
    fails(1, /tenant \w+ does not exist/, "timeline", "list", "--tenant", "0".repeat(32)),
  ]);
});

test("jobs, moments, and the server itself", async () => {
  const [jobs, reloaded, sealed, metrics, names] = await Promise.all([
    json("job", "list"),
    json("server", "reload"),
    json("timeline", "checkpoint", "main"),
    cli("server", "metrics"),
    cli("complete", "--", "timeline", "show", "ma"),
  ]);
  // What other tests have asked to be checked, merged or deleted is a job as well.
  const begun = (jobs as unknown as readonly { kind: string }[]).filter(({ kind }) =>
    ["compute-start", "compute-stop", "follow"].includes(kind),
  );
  expect(begun).toMatchObject([
    { kind: "compute-start", target: "main", state: "done" },
    { kind: "compute-stop", target: "main", state: "done" },
    { kind: "follow", target: "p", state: "failed" },
  ]);
  expect(reloaded).toEqual({ keys: 0, settings: { applied: [], need_restart: [] } });
  expect(metrics.out).toMatch(/^pageserver_timelines\{state="Active"\} \d+$/m);
  expect(names).toEqual({ code: 0, out: "main\n", err: "" });
  const { last_record_lsn: last, created_at: made } = sealed as Record<string, string>;
  const [at, lsn] = await Promise.all([
    json("timeline", "time-at", "main", last!),
    json("timeline", "lsn-at", "main", new Date(Date.now() + 3_600_000).toISOString()),
  ]);
  expect(Date.parse(String(at))).toBeGreaterThan(Date.parse(made!) - 1_000);
  expect(lsn).toMatchObject({ kind: "future" });
});

test("a data directory serves one server", async () => {
  const taken = new RegExp(`${server.dataDir} is in use by the process with pid \\d+`);
  const ports = ["--listen", "127.0.0.1:0", "--http", "127.0.0.1:0"];
  await fails(1, taken, "serve", "--data", server.dataDir, ...ports);
  expect(await json("status")).toMatchObject({ state: "running" });
});

test("asked to stop, it stops in order and leaves the directory to the next", async () => {
  const { pid } = await server.client.status();
  await server.client.shutdown();
  await server.stop();
  expect(fs.existsSync(`/proc/${pid}`)).toBe(false);
  expect(server.tail()).toMatch(/"msg":"stopped"/);
  await server.start();
  expect(await json("timeline", "list")).toMatchObject([{ name: "main" }, { name: "try" }]);
});
