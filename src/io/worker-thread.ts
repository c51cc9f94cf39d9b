// A second thread of this process, spoken to by messages. It has its own heap and loop; what it is given
// is copied, but for memory that is made to be shared. Its death is told once and is not repaired here.

import fs from "node:fs";
import { createRequire } from "node:module";
import os from "node:os";
import { pathToFileURL } from "node:url";
import { type MessagePort, Worker, parentPort } from "node:worker_threads";
import { THREAD_STOP_MS_MAX } from "../core/limits.ts";

export interface WorkerThread<Asked> {
  readonly tell: (message: Asked) => void;
  /** It ends when it has done what it does; after THREAD_STOP_MS_MAX it is ended. */
  readonly stop: () => Promise<void>;
}

export interface ThreadHandlers<Told> {
  readonly onTold: (message: Told) => void;
  /** It ended without being asked to. */
  readonly onDied: (error: Error) => void;
}

/** A thread has ended by itself: it threw, or had no memory. */
export class ThreadDied extends Error {
  override readonly name = "ThreadDied";
}

/** Starts `entry`, a module that calls `serveThread`. It does not keep the process alive. */
export function startThread<Asked, Told>(
  name: string,
  entry: URL,
  handlers: ThreadHandlers<Told>,
): WorkerThread<Asked> {
  const worker = new Worker(runnable(entry), { name });
  worker.unref();
  let over = false;
  const ended = new Promise<void>((resolve) => worker.once("exit", () => resolve()));
  const died = (why: string, cause?: unknown): void => {
    if (over) return;
    over = true;
    handlers.onDied(new ThreadDied(`the thread "${name}" ended: ${why}`, { cause }));
  };
  worker.on("message", (message: Told) => handlers.onTold(message));
  worker.on("error", (error) => died(error.message, error));
  worker.on("exit", (code) => died(`exit code ${code}`));
  return {
    tell: (message) => worker.postMessage(message),
    stop: async () => {
      over = true;
      worker.ref();
      worker.postMessage(END);
      const timer = setTimeout(() => void worker.terminate(), THREAD_STOP_MS_MAX);
      await ended.finally(() => clearTimeout(timer));
    },
  };
}

const END = "end";

/** In the thread: `handle` hears what is told, and tells. The thread ends when it is asked to. */
export function serveThread<Asked, Told>(
  handle: (message: Asked, tell: (message: Told) => void) => void,
): void {
  const port: MessagePort | null = parentPort;
  if (port === null) throw new Error("this module is the beginning of a thread");
  port.on("message", (message: Asked | typeof END) => {
    if (message === END) port.close();
    else handle(message, (told) => port.postMessage(told));
  });
}

/** In the thread: when there is more to do than the machine's cores can, others go first. `nice`: 1 to 19. */
export function giveWay(nice: number): void {
  try {
    // Linux has priorities of single threads. Elsewhere the number would be the process's: nothing is done.
    const thread = /\d+$/.exec(fs.readlinkSync("/proc/thread-self"));
    if (thread !== null) os.setPriority(Number(thread[0]), nice);
  } catch {
    // It works at the priority of all.
  }
}

/** Sources run as they are while one works on them: then a thread needs the loader that its process has. */
function runnable(entry: URL): URL {
  if (!entry.pathname.endsWith(".ts")) return entry;
  const required = createRequire(import.meta.url).resolve("tsx/esm/api");
  const loader = pathToFileURL(required.replace(/\.cjs$/, ".mjs"));
  const script = `import { register } from "${loader}"; register(); await import("${entry}");`;
  return new URL(`data:text/javascript,${encodeURIComponent(script)}`);
}
