// One WAL redo process: `postgres --single` with pgext's walredo library. Starts it, feeds it
// requests, gives back pages, and ends it when it is stuck. It runs as an unprivileged user, with
// an empty environment, in a process group of its own, on a data directory that only it uses and
// that is removed as soon as it runs.

import { type ChildProcessByStdio, spawn } from "node:child_process";
import path from "node:path";
import type { Readable, Writable } from "node:stream";

import { MalformedInput } from "../core/assert.ts";
import { REDO_STDERR_BYTES_MAX, REDO_WINDOW_BYTES } from "../core/limits.ts";
import { PAGE_BYTES } from "../core/page.ts";
import type { RedoRequest } from "../core/redo-request.ts";
import { SlabPool } from "../core/slab-pool.ts";
import { RedoAnswers, type RedoHello, encodeRedoRequests } from "../protocol/redo.ts";
import { type RedoTemplate, makeRedoDataDir, removeRedoDataDir } from "./redo-template.ts";

export interface RedoProcessOptions {
  readonly template: RedoTemplate;
  /** Absolute path of walredo.so. */
  readonly library: string;
  /** Libraries with resource managers of their own, as for shared_preload_libraries. */
  readonly preload?: readonly string[];
  /** Longest wait for the next page, ms. */
  readonly deadlineMs: number;
  /** XLOG_PAGE_MAGIC of the WAL to be applied. */
  readonly walMagic: number;
}

export interface RedoProcessHandlers {
  readonly onReady: (hello: RedoHello) => void;
  /** All pages of the oldest run, 8192 bytes each, at the beginning of memory that is to be given back. */
  readonly onPages: (slab: Uint8Array) => void;
  /** Called once, last. `pages`: those of the oldest run that did arrive. */
  readonly onExit: (reason: string, pages: Uint8Array) => void;
  /** A line that it wrote to stderr. */
  readonly onLine: (line: string) => void;
}

export interface RedoProcess {
  /** Undefined if it could not be started; onExit tells. */
  readonly pid: number | undefined;
  /** Sends requests; may be called at once. Runs are answered in order. None may have a redoRequestProblem. */
  run(requests: readonly RedoRequest[]): void;
  /** Memory of pages that onPages has told of and that have been copied. */
  giveBack(slab: Uint8Array): void;
  /** Ends it. No handler is called any more. */
  close(): void;
}

/** Of messages to one process and pages from it, each kept for the next ones: what is under way at most, and its rounding up. */
const IDLE_BYTES_MAX = 2 * REDO_WINDOW_BYTES;

const SETTINGS = [
  // GiST's page split holds up to 33 pages.
  "shared_buffers=512kB",
  "max_connections=1",
  "max_wal_senders=0",
  "autovacuum_max_workers=1",
  "max_worker_processes=0",
  "max_prepared_transactions=0",
  "max_locks_per_transaction=10",
  "max_pred_locks_per_transaction=10",
  // Heap pages get the LSN of a visibility-map record only if hint bits are logged.
  "wal_log_hints=on",
  // A file in the data directory, which is removed; the default would outlive a killed process.
  "dynamic_shared_memory_type=mmap",
  "huge_pages=off",
  "jit=off",
  "log_min_messages=warning",
];

/** Starts a process. Throws when its directory cannot be made; later trouble is told by onExit. */
export function startRedoProcess(
  options: RedoProcessOptions,
  handlers: RedoProcessHandlers,
): RedoProcess {
  return new Process(options, handlers);
}

class Process implements RedoProcess {
  private readonly options: RedoProcessOptions;
  private readonly handlers: RedoProcessHandlers;
  private readonly child: ChildProcessByStdio<Writable, Readable, Readable>;
  private readonly dir: string;
  private readonly answers = new RedoAnswers();
  /** Memory of messages that the pipe has taken, used again. */
  private readonly outgoing = new SlabPool(IDLE_BYTES_MAX);
  /** Memory of pages, used again: memory that is new for each run costs page faults and garbage collections. */
  private readonly incoming = new SlabPool(IDLE_BYTES_MAX);
  /** Slabs of runs under way, oldest first: at least as long as the pages. */
  private readonly slabs: Uint8Array[] = [];
  private readonly stderr = new LineTail();
  private closed = false;
  /** Why we killed it, if we did. */
  private verdict: string | undefined;
  private deadlineAt = 0;
  private timer: NodeJS.Timeout | undefined;

  constructor(options: RedoProcessOptions, handlers: RedoProcessHandlers) {
    this.options = options;
    this.handlers = handlers;
    const { account, binDir } = options.template.programs;
    const { dir, library } = makeRedoDataDir(options.template, options.library);
    this.dir = dir;
    // Quoted: a path may hold spaces and commas.
    const preload = [...(options.preload ?? []), `"${library}"`].join(",");
    const settings = [`shared_preload_libraries=${preload}`, ...SETTINGS];
    const args = ["--single", "-D", this.dir, ...settings.flatMap((s) => ["-c", s]), "postgres"];
    this.child = spawn(path.join(binDir, "postgres"), args, {
      ...account,
      cwd: "/",
      env: {},
      detached: true,
      stdio: ["pipe", "pipe", "pipe"],
    });
    this.listen();
  }

  get pid(): number | undefined {
    return this.child.pid;
  }

  run(requests: readonly RedoRequest[]): void {
    if (this.closed || requests.length === 0) return;
    const slab = this.incoming.take(requests.length * PAGE_BYTES);
    this.slabs.push(slab);
    this.answers.expect(slab.subarray(0, requests.length * PAGE_BYTES));
    this.send(requests);
    if (this.slabs.length === 1) this.progress();
  }

  private send(requests: readonly RedoRequest[]): void {
    let memory: Uint8Array | undefined;
    const message = encodeRedoRequests(requests, (bytes) => (memory = this.outgoing.take(bytes)));
    this.child.stdin.write(message, (error) => {
      // After an error the pipe's fate is unknown; the memory is left to the collector.
      if (memory !== undefined && (error === undefined || error === null))
        this.outgoing.give(memory);
    });
  }

  giveBack(slab: Uint8Array): void {
    this.incoming.give(slab);
  }

  close(): void {
    this.closed = true;
    this.kill();
    if (this.timer !== undefined) clearTimeout(this.timer);
  }

  private listen(): void {
    let failure: string | undefined;
    this.child.on("error", (cause) => (failure ??= cause.message));
    this.child.stdin.on("error", () => {}); // it has ended: "close" tells
    this.child.stdout.on("data", (chunk: Buffer) => this.onOutput(chunk));
    this.child.stderr.on("data", (chunk: Buffer) => {
      for (const line of this.stderr.push(chunk)) if (!this.closed) this.handlers.onLine(line);
    });
    this.child.on("close", (code, signal) => {
      if (this.timer !== undefined) clearTimeout(this.timer);
      removeRedoDataDir(this.dir);
      if (this.closed) return;
      this.closed = true;
      const ended = `redo process ended ${signal === null ? `with status ${code}` : `by ${signal}`}`;
      const reason = this.verdict ?? this.stderr.lastError() ?? failure ?? ended;
      const pages = this.answers.pagesOfOldest * PAGE_BYTES;
      this.handlers.onExit(reason, (this.slabs[0] ?? new Uint8Array()).subarray(0, pages));
    });
  }

  private onOutput(chunk: Buffer): void {
    if (this.closed || this.verdict !== undefined) return;
    this.progress();
    try {
      this.answers.push(
        chunk,
        (hello) => this.onHello(hello),
        () => this.handlers.onPages(this.slabs.shift()!),
      );
    } catch (error) {
      if (!(error instanceof MalformedInput)) throw error;
      this.condemn(error.message);
    }
  }

  private onHello(hello: RedoHello): void {
    removeRedoDataDir(this.dir);
    if (hello.walMagic !== this.options.walMagic) {
      const hex = (n: number): string => `0x${n.toString(16).toUpperCase()}`;
      throw new MalformedInput(
        `redo process of PostgreSQL ${hello.serverVersion} applies WAL ${hex(hello.walMagic)}, ` +
          `not ${hex(this.options.walMagic)}`,
      );
    }
    this.handlers.onReady(hello);
  }

  /** Something happened: the deadline of the next page starts now. One timer, moved lazily. */
  private progress(): void {
    this.deadlineAt = performance.now() + this.options.deadlineMs;
    this.timer ??= setTimeout(() => this.onTimer(), this.options.deadlineMs);
  }

  private onTimer(): void {
    this.timer = undefined;
    if (this.closed || this.slabs.length === 0) return;
    const leftMs = this.deadlineAt - performance.now();
    if (leftMs > 0) this.timer = setTimeout(() => this.onTimer(), Math.ceil(leftMs));
    else this.condemn(`no page within ${this.options.deadlineMs} ms`);
  }

  private condemn(reason: string): void {
    this.verdict = reason;
    this.kill();
  }

  private kill(): void {
    if (this.child.pid === undefined) return;
    if (this.child.exitCode !== null || this.child.signalCode !== null) return;
    try {
      process.kill(-this.child.pid, "SIGKILL");
    } catch {
      this.child.kill("SIGKILL"); // between fork and its own process group
    }
  }
}

/** Splits stderr into lines and remembers the last that was an error; bounded. */
class LineTail {
  private rest = "";
  private error: string | undefined;

  push(chunk: Buffer): readonly string[] {
    const lines = (this.rest + chunk.toString("utf8")).split("\n");
    this.rest = lines.pop()!.slice(-REDO_STDERR_BYTES_MAX);
    for (const line of lines) if (/FATAL|PANIC|ERROR/.test(line)) this.error = line;
    return lines;
  }

  lastError(): string | undefined {
    return this.error;
  }
}
