// One real redo process: what it may do, what it leaves behind, and how it says that it cannot.

import { spawn } from "node:child_process";
import fs from "node:fs";
import path from "node:path";

import { afterEach, describe, expect, test } from "vitest";

import type { RedoProcess, RedoProcessHandlers } from "../../src/io/redo-process.ts";
import { startRedoProcess } from "../../src/io/redo-process.ts";
import { postgresTempDir } from "../support/postgres.ts";
import { markedRequest, markersOf } from "../support/redo-requests.ts";
import { buildPgext, redoOpener, redoProcessOptions } from "../support/redo.ts";

interface Watched {
  readonly process: RedoProcess;
  readonly ready: Promise<void>;
  readonly exited: Promise<string>;
  readonly slabs: Uint8Array[];
}

const running: RedoProcess[] = [];
afterEach(() => {
  for (const process of running.splice(0)) process.close();
});

function watch(open: (handlers: RedoProcessHandlers) => RedoProcess): Watched {
  const slabs: Uint8Array[] = [];
  let onReady = (): void => {};
  let onExit = (_: string): void => {};
  const ready = new Promise<void>((resolve) => (onReady = resolve));
  const exited = new Promise<string>((resolve) => (onExit = resolve));
  const process = open({
    onReady,
    onPages: (slab) => slabs.push(slab),
    onExit,
    onLine: () => {},
  });
  running.push(process);
  return { process, ready, exited, slabs };
}

const status = (pid: number, field: string): string | undefined =>
  new RegExp(`^${field}:\\s*(.*)$`, "m").exec(fs.readFileSync(`/proc/${pid}/status`, "utf8"))?.[1];

/** Creators of System V shared memory segments. */
const segmentOwners = (): readonly number[] =>
  fs
    .readFileSync("/proc/sysvipc/shm", "utf8")
    .split("\n")
    .slice(1)
    .filter((line) => line !== "")
    .map((line) => Number(line.trim().split(/\s+/)[4]));

async function until(condition: () => boolean): Promise<void> {
  for (let i = 0; !condition(); i++) {
    if (i > 2_000) throw new Error("did not come to pass");
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

describe("a running process", () => {
  test("has given up everything it does not need", async () => {
    const { open } = await redoOpener();
    const { process: child, ready } = watch(open);
    await ready;
    const pid = child.pid!;
    // The filter follows the hello by a few system calls.
    await until(() => status(pid, "Seccomp") === "2");
    expect(status(pid, "NoNewPrivs")).toBe("1");
    expect(status(pid, "Uid")).not.toMatch(/\b0\b/);
    expect(status(pid, "Groups")?.trim() ?? "").not.toMatch(/\b0\b/);
    expect(fs.readdirSync(`/proc/${pid}/fd`).sort()).toEqual(["0", "1", "2", "3"]);
    expect(fs.readFileSync(`/proc/${pid}/environ`).length).toBe(0);
    const limits = fs.readFileSync(`/proc/${pid}/limits`, "utf8");
    for (const name of ["core file size", "file size", "processes", "open files"]) {
      expect(limits).toMatch(new RegExp(`^Max ${name}\\s+0\\s+0\\s`, "m"));
    }
  });

  test("leaves no file and no shared memory behind, even when killed", async () => {
    const { open } = await redoOpener();
    const { process: child, ready, exited } = watch(open);
    await ready;
    const pid = child.pid!;
    const cwd = fs.readlinkSync(`/proc/${pid}/cwd`);
    expect(cwd).toMatch(/pageserver-redo-.*\(deleted\)$/);
    expect(segmentOwners()).toContain(pid);
    process.kill(pid, "SIGKILL");
    expect(await exited).toBe("redo process ended by SIGKILL");
    await until(() => !segmentOwners().includes(pid));
    expect(fs.existsSync(cwd.replace(" (deleted)", ""))).toBe(false);
  });

  test("takes work before it is ready, and answers in order", async () => {
    const { open } = await redoOpener();
    const { process: child, slabs } = watch(open);
    child.run([markedRequest(1), markedRequest(2)]);
    child.run([markedRequest(3)]);
    await until(() => slabs.length === 2);
    const markers = (slab: number, page: number): unknown =>
      markersOf(slabs[slab]!.subarray(page * 8192));
    expect([markers(0, 0), markers(0, 1), markers(1, 0)]).toEqual([
      [1, 1],
      [2, 2],
      [3, 3],
    ]);
  });
});

test("a process ends when the program that started it is killed", async () => {
  const script = `
    import { redoOpener } from "./test/support/redo.ts";
    const { open } = await redoOpener();
    const on = { onPages() {}, onExit() {}, onLine() {} };
    const child = open({ ...on, onReady: () => console.log(child.pid) });`;
  const program = spawn(
    process.execPath,
    ["--import", "tsx", "--input-type=module", "-e", script],
    {
      stdio: ["ignore", "pipe", "inherit"],
    },
  );
  const pid = await new Promise<number>((resolve) =>
    program.stdout.once("data", (chunk: Buffer) => resolve(Number(chunk.toString()))),
  );
  expect(fs.existsSync(`/proc/${pid}`)).toBe(true);
  // Stopped, it cannot notice the end of its input.
  process.kill(pid, "SIGSTOP");
  program.kill("SIGKILL");
  await until(() => !fs.existsSync(`/proc/${pid}`));
});

describe("a process is refused", () => {
  test("when it applies the WAL of another version", async () => {
    const wrong = { ...(await redoProcessOptions()), walMagic: 0xd116 };
    const { exited } = watch((handlers) => startRedoProcess(wrong, handlers));
    expect(await exited).toMatch(/PostgreSQL 1500\d\d applies WAL 0xD110, not 0xD116/);
  });

  test("when its library is not one", async () => {
    const dir = postgresTempDir("redo-library-");
    const library = path.join(dir, "walredo.so");
    fs.writeFileSync(library, "not a library");
    const wrong = { ...(await redoProcessOptions()), library };
    const { exited } = watch((handlers) => startRedoProcess(wrong, handlers));
    expect(await exited).toMatch(/FATAL.*could not load library.*walredo\.so/);
    fs.rmSync(dir, { recursive: true });
  });

  test("when its library was never built", async () => {
    const wrong = { ...(await redoProcessOptions()), library: "/nonexistent/walredo.so" };
    expect(() => watch((handlers) => startRedoProcess(wrong, handlers))).toThrow(/make -C pgext/);
  });

  test("when another library of its is missing", async () => {
    const wrong = { ...(await redoProcessOptions()), preload: ["no_such_library"] };
    const { exited } = watch((handlers) => startRedoProcess(wrong, handlers));
    expect(await exited).toMatch(/FATAL.*no_such_library/);
  });
});

test("the library is found by its user wherever it is", async () => {
  // A directory that only root, or we, can enter.
  const dir = fs.mkdtempSync(path.join(postgresTempDir("redo-private-"), "a space, and a comma "));
  fs.chmodSync(dir, 0o700);
  const library = path.join(dir, "walredo.so");
  fs.copyFileSync(path.join(buildPgext(), "walredo.so"), library);
  const { open } = await redoOpener({ library: () => library });
  const { process: child, slabs } = watch(open);
  child.run([markedRequest(7)]);
  await until(() => slabs.length === 1);
  fs.rmSync(path.dirname(dir), { recursive: true });
});
