import { type ChildProcess, spawn } from "node:child_process";
import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { DATA_LOCK_MS_MAX } from "../../src/core/limits.ts";
import { DataDirectoryInUse, lockDataDirectory } from "../../src/io/data-lock.ts";

const MODULE = path.resolve(import.meta.dirname, "../../src/io/data-lock.ts");
let dir: string;
const children: ChildProcess[] = [];

beforeEach(() => {
  dir = fs.mkdtempSync(path.join(os.tmpdir(), "lock-"));
});
afterEach(() => {
  for (const child of children.splice(0)) child.kill("SIGKILL");
  fs.rmSync(dir, { recursive: true });
});

/** Another program that locks the directory, says so, and stays. */
async function otherProgram(): Promise<ChildProcess> {
  const code = `
    import { lockDataDirectory } from ${JSON.stringify(MODULE)};
    await lockDataDirectory(${JSON.stringify(dir)});
    console.log("held");
    setInterval(() => {}, 1000);`;
  const args = ["--import", "tsx", "--input-type=module", "-e", code];
  const child = spawn(process.execPath, args, { stdio: ["ignore", "pipe", "inherit"] });
  children.push(child);
  await new Promise<void>((resolve, reject) => {
    child.stdout!.once("data", () => resolve());
    child.once("exit", (status) => reject(new Error(`holder ended with ${status}`)));
  });
  return child;
}

const childPids = (pid: number): number[] =>
  fs
    .readFileSync(`/proc/${pid}/task/${pid}/children`, "utf8")
    .split(" ")
    .filter((text) => text !== "")
    .map(Number);

const flockOf = (pid: number): number[] =>
  childPids(pid).filter((child) => fs.readFileSync(`/proc/${child}/comm`, "utf8") === "flock\n");

test("used twice at once: refused, naming directory and holder; free again after release", async () => {
  const lock = await lockDataDirectory(dir);
  const second = lockDataDirectory(dir);
  await expect(second).rejects.toThrow(DataDirectoryInUse);
  await expect(second).rejects.toThrow(
    `data directory ${dir} is in use by the process with pid ${process.pid}; stop it first`,
  );
  await lock.release();
  await (await lockDataDirectory(dir)).release();
});

test("SIGKILL of the holder frees it at once; a file left behind locks nothing", async () => {
  const holder = await otherProgram();
  await expect(lockDataDirectory(dir)).rejects.toThrow(`pid ${holder.pid}`);
  holder.kill("SIGKILL");
  const beganMs = performance.now();
  const lock = await lockDataDirectory(dir);
  expect(performance.now() - beganMs).toBeLessThan(DATA_LOCK_MS_MAX);
  expect(fs.readFileSync(path.join(dir, "lock"), "utf8")).toBe(`${process.pid}\n`);
  await lock.release();
});

test("Ctrl-C, sent to the whole process group, does not take the lock from a holder that goes on", async () => {
  const holder = await otherProgram();
  const group = (pid: number): string =>
    fs.readFileSync(`/proc/${pid}/stat`, "utf8").split(") ")[1]!.split(" ")[2]!;
  const flock = flockOf(holder.pid!);
  expect(flock).toHaveLength(1);
  expect(group(flock[0]!)).not.toBe(group(holder.pid!));
});

test("a lock that is lost says so; a missing directory is an error", async () => {
  const lock = await lockDataDirectory(dir);
  for (const pid of flockOf(process.pid)) {
    for (const holder of [...childPids(pid), pid]) process.kill(holder, "SIGKILL");
  }
  expect((await lock.lost).message).toMatch(/lock of .* is lost/);
  await lock.release();
  await expect(lockDataDirectory(path.join(dir, "missing"))).rejects.toThrow(/ENOENT/);
});
