import fs from "node:fs/promises";
import net from "node:net";
import type { AddressInfo } from "node:net";
import os from "node:os";
import path from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { type Finding, examine } from "../../src/app/doctor.ts";
import { type Flags, loadConfig } from "../../src/config.ts";
import { mayEnter, tryRedo } from "../../src/app/doctor-postgres.ts";
import { findPostgres } from "../../src/io/postgres.ts";
import { PG_BIN } from "../support/postgres.ts";
import { buildPgext } from "../support/redo.ts";
import { runCli } from "./run-cli.ts";

let dir: string;
beforeAll(async () => {
  dir = await fs.mkdtemp(path.join(os.tmpdir(), "doctor-"));
  // As whoever runs PostgreSQL has to find it.
  await fs.chmod(dir, 0o755);
  buildPgext();
});
afterAll(() => fs.rm(dir, { recursive: true }));

const look = async (flags: Flags): Promise<Record<string, Finding>> => {
  const free = { dataDir: path.join(dir, "data"), listenPort: 0, httpPort: 0 };
  const findings = await examine(loadConfig({ ...free, ...flags }, {}).config);
  return Object.fromEntries(findings.map((finding) => [finding.what, finding]));
};

test("a machine that is fit: nothing is bad, nothing is left behind", async () => {
  const found = await look({});
  expect(Object.values(found).filter(({ state }) => state === "bad")).toEqual([]);
  expect(found["PostgreSQL"]!.detail).toMatch(/^15\.\d+ in /);
  expect(found["fsync"]!.detail).toMatch(/^\d+\.\d\d ms/);
  expect(found["WAL redo"]!.detail).toMatch(/^a process is ready after \d+ ms$/);
  expect(await fs.readdir(dir)).toEqual([]);
});

test("what is missing is named, with what to do", async () => {
  const taken = net.createServer();
  await new Promise<void>((resolve) => taken.listen(0, "127.0.0.1", resolve));
  const { port } = taken.address() as AddressInfo;
  const file = path.join(dir, "file");
  await fs.writeFile(file, "");
  const found = await look({
    dataDir: file,
    httpPort: port,
    authKeys: path.join(dir, "no-keys.pem"),
  });
  taken.close();
  expect(Object.keys(found)).toEqual(
    expect.arrayContaining(["dashboard", "permissions", "clock", "disk", "fsync", "TLS"]),
  );
  await fs.rm(file);
  expect(found["data directory"]).toMatchObject({
    state: "bad",
    detail: expect.stringContaining("not a directory"),
  });
  expect(found["management port"]).toMatchObject({
    state: "warning",
    detail: expect.stringContaining("taken"),
  });
  expect(found["tokens"]).toMatchObject({
    state: "bad",
    detail: expect.stringContaining("no-keys.pem"),
  });
});

test("a library that PostgreSQL does not load is found, and a directory that its user may not enter", async () => {
  const programs = await findPostgres({ major: 15, binDir: PG_BIN });
  const wrong = path.join(dir, "wrong.so");
  await fs.writeFile(wrong, "no library");
  await fs.chmod(dir, 0o755);
  await expect(tryRedo(programs, wrong)).rejects.toThrow(/wrong|invalid ELF|file too short|load/i);
  await fs.rm(wrong);
  await fs.chmod(dir, 0o700);
  // We ourselves may; another user may not.
  expect(await mayEnter(programs, dir)).toBe(programs.account.uid === undefined);
  await fs.chmod(dir, 0o755);
  expect(await mayEnter(programs, dir)).toBe(true);
});

test("as a command: exit code 1 when something is bad", async () => {
  const env = { PAGESERVER_DATA: path.join(dir, "data"), PAGESERVER_AUTH_KEYS: `${dir}/none.pem` };
  const ran = await runCli(["doctor", "--json"], env);
  expect(ran).toMatchObject({ code: 1, err: expect.stringContaining("not fit yet: tokens") });
  expect(JSON.parse(ran.out)).toContainEqual(expect.objectContaining({ what: "clock" }));
});
