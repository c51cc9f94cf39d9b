// `npm start` as a user meets it: the tour, a second start on the same data, Ctrl-C.

import { type ChildProcess, spawn } from "node:child_process";
import { chmod, mkdtemp, readFile, readdir, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import pg from "pg";
import { afterAll, beforeAll, expect, test } from "vitest";
import { ROOT } from "../support/source-tree.ts";

let dir: string;

beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), "start-"));
  await chmod(dir, 0o755); // so that computes live inside, and go with it
});
afterAll(() => rm(dir, { recursive: true, force: true }));

interface Started {
  readonly child: ChildProcess;
  readonly output: () => string;
  readonly ended: Promise<number | null>;
}

function start(...args: string[]): Started {
  const child = spawn("bash", ["scripts/start.sh", "--data", join(dir, "data"), ...args], {
    cwd: ROOT,
    stdio: ["ignore", "pipe", "pipe"],
  });
  const chunks: Buffer[] = [];
  child.stdout.on("data", (chunk: Buffer) => chunks.push(chunk));
  child.stderr.on("data", (chunk: Buffer) => chunks.push(chunk));
  return {
    child,
    output: () => Buffer.concat(chunks).toString(),
    ended: new Promise((resolve) => child.once("close", resolve)),
  };
}

async function until(started: Started, text: string): Promise<void> {
  let over = false;
  void started.ended.then(() => (over = true));
  while (!started.output().includes(text)) {
    if (over) throw new Error(`ended without "${text}":\n${started.output()}`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

/** Processes whose command line names our directory. */
async function leftOver(): Promise<readonly string[]> {
  const pids = (await readdir("/proc")).filter((name) => /^\d+$/.test(name));
  const lines = await Promise.all(
    pids.map((pid) => readFile(`/proc/${pid}/cmdline`, "utf8").catch(() => "")),
  );
  return lines.filter((line) => line.includes(dir));
}

test("the tour ends with ok and leaves nothing running", async () => {
  const once = start("--once");
  expect(await once.ended, once.output()).toBe(0);
  expect(once.output()).toContain('creating timeline "main"');
  expect(once.output()).toMatch(/branch: 1001 rows, row 1 says "row 1"/);
  expect(once.output()).toMatch(/main: +10 rows, row 1 says "after the accident"/);
  expect(once.output().trimEnd().split("\n").at(-1)).toBe("ok");
  expect(await leftOver()).toEqual([]);
});

test("a second start goes on with the same main; Ctrl-C stops computes, then the server", async () => {
  const again = start();
  await until(again, "Ctrl-C");
  expect(again.output()).not.toContain("creating timeline");

  const psql = /psql +psql (\S+)/.exec(again.output())![1]!;
  const sql = new pg.Client({ connectionString: psql });
  await sql.connect();
  const { rows } = await sql.query<{ n: string }>("select count(*) n from pageserver_tour");
  await sql.end();
  expect(rows).toEqual([{ n: "10" }]);

  const busy = start("--once");
  expect(await busy.ended).toBe(1);
  expect(busy.output()).toMatch(/data directory .* is in use by the process with pid \d+/);

  // npm passes the terminal's signal on, so it arrives twice.
  again.child.kill("SIGINT");
  again.child.kill("SIGINT");
  expect(await again.ended, again.output()).toBe(0);
  expect(again.output()).toMatch(/stopping\n *PostgreSQL on "main"\n[^]*page server\n$/);
  expect(await leftOver()).toEqual([]);
});
