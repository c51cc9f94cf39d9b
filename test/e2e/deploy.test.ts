// What deploy/ and its handbook name exists: metrics of a running server, settings, alarms and what is
// written of them, and systemd takes the unit where it is there to be asked.

import { execFileSync, spawnSync } from "node:child_process";
import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { loadConfig } from "../../src/config.ts";
import { parsePrometheus } from "../support/prometheus.ts";
import { type TestProgram, newDataDir, startTestProgram } from "../support/program.ts";
import { ROOT, filesUnder } from "../support/source-tree.ts";

const read = (file: string): string => fs.readFileSync(path.join(ROOT, file), "utf8");
const rules = read("deploy/prometheus/pageserver.rules.yml");
const handbook = read("docs/operations.md");

const dir = newDataDir();
let server: TestProgram;

beforeAll(async () => {
  server = await startTestProgram(path.join(dir, "data"));
});
afterAll(async () => {
  await server?.program.stop();
  fs.rmSync(dir, { recursive: true, force: true });
});

test("every metric that is named is one of a running server's", async () => {
  const text = await server.client.metrics();
  const families = parsePrometheus(text);
  const known = new Set(families.keys());
  expect(known.size).toBeGreaterThan(20);
  const files = filesUnder("deploy", [".yml", ".json"]);
  const named = files.flatMap((file) =>
    [...read(file).matchAll(/\b(?:pageserver|nodejs|process)_[a-z0-9_]+/g)].map(([name]) => name),
  );
  expect(new Set(named).size).toBeGreaterThan(15);
  expect(named.filter((name) => !known.has(name))).toEqual([]);
  expect(text).toMatch(/^pageserver_disk_free_bytes [1-9]/m);
  const actors = families.get("pageserver_actor_queued_messages")!.samples;
  expect(actors.map(({ labels }) => labels["actor"])).toEqual(
    expect.arrayContaining(["tenants", "connections", "redo-pool", "redo-worker"]),
  );
});

test("every alarm is in the handbook, and no other", () => {
  const alarms = [...rules.matchAll(/- alert: (\w+)/g)].map(([, name]) => name);
  const explained = [...handbook.matchAll(/^### (\w+)/gm)].map(([, name]) => name);
  expect(alarms.length).toBeGreaterThan(10);
  expect([...explained].sort()).toEqual([...alarms].sort());
});

test("what the handbook names in the checkout is there", () => {
  const named = [...handbook.matchAll(/\b(?:deploy|scripts)\/[\w./-]+\w/g)].map(([name]) => name);
  expect(named.length).toBeGreaterThan(4);
  expect(named.filter((name) => !fs.existsSync(path.join(ROOT, name)))).toEqual([]);
});

test("the settings file is good, with what it leaves out, too", () => {
  const text = read("deploy/pageserver.toml");
  const file = { path: "pageserver.toml", text };
  expect(loadConfig({}, {}, file).config.dataDir).toBe("/var/lib/pageserver");
  const whole = { ...file, text: text.replace(/^# (?=\w+ = )/gm, "") };
  expect(loadConfig({}, {}, whole).config).toMatchObject({ listenHost: "10.0.0.5" });
});

const has = (program: string): boolean => spawnSync(program, ["--version"]).status === 0;

test.runIf(has("systemd-analyze"))("systemd takes the unit", () => {
  // Without the program that it starts and its user, which are of an installation.
  const unit = read("deploy/systemd/pageserver.service")
    .replace(/^ExecStart=.*$/m, "ExecStart=/bin/true")
    .replace(/^(User|Group|Documentation)=.*\n/gm, "");
  const scratch = fs.mkdtempSync(path.join(os.tmpdir(), "unit-"));
  try {
    const file = path.join(scratch, "pageserver.service");
    fs.writeFileSync(file, unit);
    const { stdout, stderr, status } = spawnSync("systemd-analyze", ["verify", file], {
      encoding: "utf8",
    });
    expect(`${stdout}${stderr}`).not.toContain("pageserver.service");
    expect(status).toBe(0);
  } finally {
    fs.rmSync(scratch, { recursive: true });
  }
});

test.runIf(has("promtool"))("Prometheus takes the rules", () => {
  const file = path.join(ROOT, "deploy/prometheus/pageserver.rules.yml");
  expect(execFileSync("promtool", ["check", "rules", file], { encoding: "utf8" })).toMatch(
    /SUCCESS: \d+ rules found/,
  );
});
