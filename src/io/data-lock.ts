// One page server per data directory. A kernel lock (flock) on DIR/lock, held by util-linux's
// `flock` in a child process that ends when our end of its stdin closes: however we die, the lock
// dies with us, and no file left behind can ever look like a lock. The file's content, our pid,
// serves the error message only.

import { spawn } from "node:child_process";
import fs from "node:fs";
import path from "node:path";
import { DATA_LOCK_MS_MAX } from "../core/limits.ts";

export interface DataLock {
  /** Resolves when the lock is gone without `release()`: the store must not be written any more. */
  readonly lost: Promise<Error>;
  release(): Promise<void>;
}

/**
 * The directory is in use, or cannot be locked; the message names it, the holder, and the remedy.
 */
export class DataDirectoryInUse extends Error {
  override readonly name = "DataDirectoryInUse";
}

/** flock's exit status when the lock is taken; any number that it does not use itself. */
const TAKEN = 75;
const GREETING = "locked\n";

/**
 * Locks an existing directory for this process. Throws DataDirectoryInUse, or Error if locking does
 * not work here.
 */
export async function lockDataDirectory(dir: string): Promise<DataLock> {
  const file = path.join(dir, "lock");
  fs.closeSync(fs.openSync(file, "a", 0o644));
  // `cat` gives back what it is sent, but only once flock has the lock and has started it. A
  // process group of its own:
  // Ctrl-C in a terminal must not take the lock away while we are still shutting down.
  const args = ["--wait", `${DATA_LOCK_MS_MAX / 1000}`, "--conflict-exit-code", `${TAKEN}`];
  const child = spawn("flock", [...args, file, "cat"], {
    stdio: ["pipe", "pipe", "inherit"],
    detached: true,
  });
  child.stdin.on("error", () => {}); // its exit tells
  const exited = new Promise<Error>((resolve) => {
    child.on("error", (cause: NodeJS.ErrnoException) =>
      resolve(
        cause.code === "ENOENT"
          ? new Error("the program flock is missing; install it: apt-get install util-linux")
          : cause,
      ),
    );
    child.on("exit", (code, signal) =>
      resolve(
        code === TAKEN
          ? new DataDirectoryInUse(inUse(dir, file))
          : new Error(`the lock of ${dir} is lost: flock ended with ${signal ?? `status ${code}`}`),
      ),
    );
  });
  const greeted = new Promise<void>((resolve) => {
    let heard = "";
    child.stdout.on("data", (chunk: Buffer) => {
      heard += chunk.toString();
      if (heard === GREETING) resolve();
    });
  });
  child.stdin.write(GREETING);
  const refused = await Promise.race([greeted, exited]);
  if (refused !== undefined) throw refused;
  fs.writeFileSync(file, `${process.pid}\n`);
  // The program may end while it holds the lock: that is how the lock is given back.
  child.unref();
  unref(child.stdin);
  unref(child.stdout);
  let released = false;
  return {
    lost: new Promise((resolve) => void exited.then((cause) => released || resolve(cause))),
    release: async () => {
      released = true;
      child.stdin.end();
      child.ref();
      await exited;
    },
  };
}

/** Pipes of a child are sockets, whatever their type says. */
function unref(stream: object): void {
  if ("unref" in stream && typeof stream.unref === "function") stream.unref();
}

function inUse(dir: string, file: string): string {
  const pid = fs.readFileSync(file, "utf8").trim();
  const holder = /^\d+$/.test(pid) ? `the process with pid ${pid}` : "another process";
  return `data directory ${dir} is in use by ${holder}; stop it first, or use another directory`;
}
