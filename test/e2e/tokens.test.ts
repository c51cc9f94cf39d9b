// A server that asks for tokens, as its operator meets it: command line, psql, new keys by signal and
// by request, and nothing secret in what it writes.

import { type ChildProcess, spawn } from "node:child_process";
import fs from "node:fs/promises";
import os from "node:os";
import path from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { runCli } from "../cli/run-cli.ts";
import type { TenantId, TimelineId } from "../../src/core/ids.ts";
import { Client } from "../../src/http/client.ts";
import { ownKey } from "../../src/io/own-tokens.ts";
import { rowsOf } from "../support/computes.ts";
import { PageClient } from "../support/page-client.ts";
import { runPg } from "../support/postgres.ts";
import { ed25519Key, rsaKey, sign } from "../support/tokens.ts";

const TENANT = "a".repeat(32);
const [first, second] = [ed25519Key(), rsaKey()];
let dir: string;
let child: ChildProcess;
let api: string;
let port: number;
const output: Buffer[] = [];
const said = (): string => Buffer.concat(output).toString();

beforeAll(async () => {
  dir = await fs.mkdtemp(path.join(os.tmpdir(), "tokens-"));
  await fs.chmod(dir, 0o755);
  await fs.writeFile(path.join(dir, "key.pem"), first.pem);
  const settings = [
    `data_dir = "${dir}/data"`,
    `auth_keys = "${dir}/key.pem"`,
    "listen_port = 0",
    "http_port = 0",
  ];
  await fs.writeFile(path.join(dir, "settings.toml"), settings.join("\n"));
  const main = new URL("../../src/main.ts", import.meta.url).href;
  const script = `const { serve } = await import(${JSON.stringify(main)}); await serve({});`;
  child = spawn(process.execPath, ["--import", "tsx", "--input-type=module", "--eval", script], {
    env: { ...process.env, PAGESERVER_CONFIG: path.join(dir, "settings.toml") },
    stdio: ["ignore", "pipe", "pipe"],
  });
  child.stdout!.on("data", (chunk: Buffer) => output.push(chunk));
  child.stderr!.on("data", (chunk: Buffer) => output.push(chunk));
  const serving = await until(/"http":"(\S+?)","port":(\d+)/);
  [api, port] = [serving[1]!, Number(serving[2])];
});

afterAll(async () => {
  const gone = new Promise((resolve) => child.once("exit", resolve));
  if (child.exitCode === null && child.kill("SIGTERM")) await gone;
  await fs.rm(dir, { recursive: true, force: true });
});

async function until(pattern: RegExp): Promise<RegExpExecArray> {
  for (;;) {
    const found = pattern.exec(said());
    if (found !== null) return found;
    if (child.exitCode !== null) throw new Error(said());
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

const cli = (token: string | undefined, ...args: string[]) =>
  runCli(args, { PAGESERVER_API: api, ...(token !== undefined && { PAGESERVER_TOKEN: token }) });

test("the command line with a token, without one, and with one of a tenant", async () => {
  const server = await sign(first, { scope: "pageserverapi" });
  expect(await cli(server, "status")).toMatchObject({ code: 0, err: "" });
  const none = await cli(undefined, "timeline", "list");
  expect(none.code).toBe(1);
  expect(none.err).toContain("PAGESERVER_TOKEN");
  const tenant = await sign(first, { scope: "tenant", tenant_id: TENANT });
  expect(await cli(tenant, "timeline", "list", "--tenant", "b".repeat(32))).toMatchObject({
    code: 1,
    err: expect.stringContaining("another tenant"),
  });
  expect((await cli(tenant, "status")).err).toContain("token");
  expect(said()).not.toContain(server);
});

test("the token as password: own tenant, another's, expired, none", async () => {
  const token = await sign(first, { scope: "tenant", tenant_id: TENANT });
  const client = await PageClient.connect({ port, password: token });
  const [timeline, lsn] = ["1".repeat(32), "0/10"];
  const lease = (tenant: string) => client.query(`lease lsn ${tenant} ${timeline} ${lsn}`);
  await expect(lease(TENANT)).rejects.toThrow("not found");
  await expect(lease("b".repeat(32))).rejects.toThrow("JWT authentication error");
  await client.close();
  const expired = await sign(first, { scope: "pageserverapi" }, { expiresInS: -60 });
  for (const [password, why] of [
    [expired, "has expired"],
    ["", "not a signed token"],
  ] as const) {
    await expect(PageClient.connect({ port, password })).rejects.toThrow(why);
  }
  expect(said()).not.toContain(expired);
});

test("new keys by SIGHUP and by request; a broken file changes nothing", async () => {
  const [old, fresh] = [
    await sign(first, { scope: "pageserverapi" }),
    await sign(second, { scope: "pageserverapi" }),
  ];
  const statusOf = async (token: string) =>
    (await fetch(`${api}/v1/tenant`, { headers: { authorization: `Bearer ${token}` } })).status;
  const file = path.join(dir, "key.pem");
  await fs.writeFile(file, "not a key");
  child.kill("SIGHUP");
  await until(/nothing is reloaded/);
  expect([await statusOf(old), await statusOf(fresh)]).toEqual([200, 401]);
  await fs.writeFile(file, second.pem);
  child.kill("SIGHUP");
  await until(/public keys and certificate are read again/);
  expect([await statusOf(old), await statusOf(fresh)]).toEqual([401, 200]);
  await fs.writeFile(file, first.pem);
  const reload = (token: string) =>
    fetch(`${api}/v1/reload_auth_validation_keys`, {
      method: "POST",
      headers: { authorization: `Bearer ${token}` },
    });
  expect((await reload(old)).status).toBe(401);
  expect(await (await reload(fresh)).json()).toEqual({
    keys: 1,
    settings: { applied: [], need_restart: [] },
  });
  expect([await statusOf(old), await statusOf(fresh)]).toEqual([200, 401]);
});

test("settings are read again while it runs: what counts at once, what waits, what is wrong", async () => {
  const file = path.join(dir, "settings.toml");
  const before = await fs.readFile(file, "utf8");
  const env = {
    PAGESERVER_API: api,
    PAGESERVER_TOKEN: await sign(first, { scope: "pageserverapi" }),
  };
  await fs.writeFile(file, `${before}\nlog_level = "warn"\nredo_processes = 3`);
  const reloaded = await runCli(["server", "reload"], env);
  expect(reloaded).toMatchObject({ code: 0, err: "" });
  expect(reloaded.out).toContain("changed: log_level\n");
  expect(reloaded.out).toContain("counts after a restart: redo_processes");
  // Lines of level info, as each change of something is, are not written any more.
  const lines = said().split("\n").length;
  await new Client(api, "default", env.PAGESERVER_TOKEN).createTenant(TENANT);
  expect(said().split("\n").length).toBe(lines);

  await fs.writeFile(file, `${before}\nlog_levle = "info"`);
  const refused = await runCli(["server", "reload"], env);
  expect(refused).toMatchObject({ code: 1, out: "" });
  expect(refused.err).toMatch(/no setting "log_levle"; did you mean log_level\?/);
  await fs.writeFile(file, before);
  expect((await runCli(["server", "reload"], env)).out).toContain("changed: log_level");
});

test("a compute without disks gets a token for its timeline, and nobody sees it", async () => {
  const client = new Client(api, "default", await sign(first, { scope: "pageserverapi" }));
  const main = await client.createTimeline({ name: "main" });
  let job = await client.startCompute({ timeline: "main" });
  while (job.state === "running") job = await client.job(job.id, 10_000);
  const compute = job.result?.compute;
  expect(compute, job.error).toBeDefined();
  const { port: sqlPort, pid, dir: home } = compute!;
  const uri = `postgres://postgres@127.0.0.1:${sqlPort}/postgres`;
  try {
    await rowsOf(uri, "create table t as select generate_series(1, 1000) n");
    expect(await rowsOf(uri, "select sum(n) from t")).toEqual([["500500"]]);

    const key = await fs.stat(path.join(dir, "data/compute-key.pem"));
    expect(key.mode & 0o777).toBe(0o600);
    const own = await ownKey(path.join(dir, "data/compute-key.pem"));
    const token = await own.sign(main.tenant_id as TenantId, main.timeline_id as TimelineId);
    const reader = await PageClient.connect({ port, password: token });
    await expect(
      reader.query(`lease lsn ${main.tenant_id} ${"1".repeat(32)} 0/10`),
    ).rejects.toThrow("JWT authentication error");
    await reader.close();

    await fetch(`${api}/metrics`, { headers: { authorization: "Bearer x" } });
    const metrics = await fetch(`${api}/metrics`, {
      headers: { authorization: `Bearer ${await sign(first, { scope: "pageserverapi" })}` },
    }).then((answer) => answer.text());
    const value = (name: string) => Number(new RegExp(`^${name} (\\S+)$`, "m").exec(metrics)?.[1]);
    expect(value("pageserver_read_seconds_count")).toBeGreaterThan(10);
    expect(value("pageserver_connections")).toBeGreaterThanOrEqual(1);
    expect(value("pageserver_tokens_refused_total")).toBeGreaterThanOrEqual(1);
    expect(value('pageserver_timelines\\{state="Active"\\}')).toBe(1);
    expect(metrics).toContain('pageserver_read_seconds{quantile="0.999"}');
    expect(
      value(`pageserver_layers\\{tenant="[0-9a-f]+",timeline="${main.timeline_id}"\\}`),
    ).toBeGreaterThan(0);
    for (const name of [
      "redo_seconds_count",
      "lsn_wait_seconds_count",
      "certificate_end_seconds",
    ]) {
      expect(value(`pageserver_${name}`)).toBeGreaterThanOrEqual(0);
    }
    expect(metrics).toContain(`timeline="${main.timeline_id}",position="durable"`);

    // The head of every token: same algorithm, same key.
    const secret = token.split(".")[0]!;
    const settings = await rowsOf(uri, "select string_agg(setting, ' ') from pg_settings");
    await rowsOf(uri, "create table env (line text)");
    await rowsOf(uri, "copy env from program 'env'");
    const env = await rowsOf(uri, "select string_agg(line, ' ') from env");
    expect(env[0]![0]).toContain("PATH=");
    const seen = [
      ...[...settings.flat(), ...env.flat(), said()],
      await fs.readFile(path.join(home, "compute.log"), "utf8"),
      await fs.readFile(path.join(home, "postgresql.conf"), "utf8"),
      await fs.readFile(`/proc/${pid}/cmdline`, "utf8"),
      await fs.readFile(`/proc/${pid}/environ`, "utf8"),
    ];
    for (const text of seen) expect(text).not.toContain(secret);
    // Neither of them leaves its memory in a core dump.
    for (const one of [pid, child.pid]) {
      const filter = await fs.readFile(`/proc/${one}/coredump_filter`, "utf8");
      expect(Number.parseInt(filter, 16)).toBe(0x10);
    }

    // Without its token, as from the command line, it does not start; with a wrong one neither.
    await runPg("pg_ctl", ["stop", "-D", home, "-m", "fast", "-w", "-s"]);
    const nobodys = await own.sign(main.tenant_id as TenantId, "1".repeat(32) as TimelineId);
    for (const [name, token] of [
      ["without", undefined],
      ["rubbish", { PAGESERVER_TOKEN: "rubbish" }],
      ["of another timeline", { PAGESERVER_TOKEN: nobodys }],
    ] as const) {
      const log = path.join(home, `${name}.log`);
      const again = runPg("pg_ctl", ["start", "-D", home, "-l", log, "-w", "-s"], "", token);
      await expect(again).rejects.toThrow();
      const text = await fs.readFile(log, "utf8");
      expect(text, name).toMatch(/FATAL: .*does not serve timeline[^]*HINT: .*the token/);
      expect(text).not.toContain(nobodys);
    }
  } finally {
    let stop = await client.stopCompute("main");
    while (stop.state === "running") stop = await client.job(stop.id, 10_000);
  }
});

test("config shows what would be served, and refuses what could not be", async () => {
  const shown = await runCli(["config", "--config", path.join(dir, "settings.toml")]);
  expect(shown.out).toMatch(/^auth_keys +\S+key\.pem +path or URL +- +file/m);
  const open = await runCli(["config"], { PAGESERVER_LISTEN_HOST: "0.0.0.0" });
  expect(open).toMatchObject({ code: 1, err: expect.stringContaining("auth_keys") });
});
