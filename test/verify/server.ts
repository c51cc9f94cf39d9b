// A page server as a process of its own, for verifications: started on
// a free port, killed and started again at will, its output kept for when something goes wrong.

import { type ChildProcess, spawn } from "node:child_process";
import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import { checkoutPath } from "../../src/app/program.ts";
import { Client } from "../../src/http/client.ts";
import type { Job } from "../../src/protocol/api-work.ts";
import type { TimelineInfo } from "../../src/protocol/api.ts";
import { freePort } from "../../src/io/compute.ts";
import type { Armed } from "./serve.ts";

const READY_MS_MAX = 60_000;
const JOB_MS_MAX = 600_000;
/** Compiled, a start takes half the processor time: 2.5 s instead of 5.6. */
const IS_SOURCE = import.meta.url.endsWith(".ts");
const PROGRAM = path.join(import.meta.dirname, IS_SOURCE ? "serve.ts" : "serve.js");
const LOADER = IS_SOURCE ? ["--import", "tsx"] : [];

export class ServerUnderTest {
  readonly dataDir: string;
  readonly log: string;
  port = 0;
  client = new Client("http://127.0.0.1:1");
  /** Of the next start: more than ours, or other. */
  environment: Readonly<Record<string, string>>;
  private child: ChildProcess | undefined;

  constructor(
    dataDir = fs.mkdtempSync(path.join(os.tmpdir(), "pageserver-verify-")),
    environment: Readonly<Record<string, string>> = {},
  ) {
    this.dataDir = dataDir;
    this.environment = environment;
    fs.chmodSync(dataDir, 0o755);
    // Beside it: what the directory holds may be lost on purpose.
    this.log = `${dataDir}.log`;
  }

  async start(): Promise<void> {
    // The same after a restart: computes without disks know it.
    if (this.port === 0) this.port = await freePort();
    const http = await freePort();
    const out = fs.openSync(this.log, "a");
    this.child = spawn(
      process.execPath,
      [...LOADER, PROGRAM, this.dataDir, String(this.port), String(http)],
      // The channel is for its end only: it closes when we are gone, however that came.
      {
        ...{ stdio: ["ignore", out, out, "ipc"], cwd: checkoutPath("."), detached: true },
        env: { ...process.env, ...this.environment },
      },
    );
    fs.closeSync(out);
    this.client = new Client(`http://127.0.0.1:${http}`);
    for (const end = Date.now() + READY_MS_MAX; Date.now() < end;) {
      const state = await this.client.status().then(
        (status) => status.state,
        () => "down",
      );
      if (state === "running") return;
      if (this.child.exitCode !== null || this.child.signalCode !== null) break;
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
    throw new Error(`the page server does not start:\n${this.tail()}`);
  }

  /** It kills itself when it comes to the point for so many times: see serve.ts. */
  arm(armed: Armed): void {
    this.child?.send(armed);
  }

  /** True once it has ended by itself, within `ms`. */
  async hasEnded(ms: number): Promise<boolean> {
    const { child } = this;
    if (child === undefined || child.exitCode !== null || child.signalCode !== null) return true;
    return new Promise((resolve) => {
      const over = (ended: boolean) => () => {
        clearTimeout(timer);
        child.off("exit", exited);
        resolve(ended);
      };
      const exited = over(true);
      const timer = setTimeout(over(false), ms);
      child.once("exit", exited);
    });
  }

  /** SIGKILL, and no word before. */
  async kill(): Promise<void> {
    await this.end("SIGKILL");
  }

  async stop(): Promise<void> {
    await this.end("SIGTERM");
  }

  private async end(signal: NodeJS.Signals): Promise<void> {
    const { child } = this;
    if (child === undefined || child.exitCode !== null || child.signalCode !== null) return;
    const gone = new Promise((resolve) => child.once("exit", resolve));
    child.kill(signal);
    await gone;
  }

  async cleanup(): Promise<void> {
    await this.kill();
    fs.rmSync(this.dataDir, { recursive: true, force: true, maxRetries: 3 });
    fs.rmSync(this.log, { force: true });
  }

  /** The machine is lost with all that is in its data directory; start() is then an empty one's. */
  async lose(): Promise<void> {
    await this.kill();
    await fs.promises.rm(this.dataDir, { recursive: true, force: true, maxRetries: 3 });
    fs.mkdirSync(this.dataDir, { mode: 0o755 });
  }

  /** The last lines of its output; none before it was started. */
  tail(): string {
    if (!fs.existsSync(this.log)) return "";
    return fs.readFileSync(this.log, "utf8").split("\n").slice(-15).join("\n");
  }

  /** Waits for a job's end; throws what it failed with. */
  async done(started: Job): Promise<Job> {
    let job = started;
    for (const end = Date.now() + JOB_MS_MAX; job.state === "running" && Date.now() < end;) {
      job = await this.client.job(started.id, 10_000);
    }
    if (job.state !== "done") throw new Error(`${job.kind} of ${job.target}: ${job.error}`);
    return job;
  }

  /** Waits until a timeline's durable position reaches `lsn`; polls. */
  async reached(timeline: string, reached: (info: TimelineInfo) => boolean): Promise<TimelineInfo> {
    let info: TimelineInfo | undefined;
    for (const end = Date.now() + READY_MS_MAX; Date.now() < end;) {
      info = await this.client.timeline(timeline);
      if (reached(info)) return info;
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
    throw new Error(`${timeline} does not get there: ${JSON.stringify(info)}\n${this.tail()}`);
  }
}
