// A page server with computes for benchmarks: the whole program on a copy of a store, spoken to by its API.

import fs from "node:fs";
import { Client } from "../src/http/client.ts";
import { findCompute, freePort, stopCompute } from "../src/io/compute.ts";
import { findPostgres } from "../src/io/postgres.ts";
import type { Job } from "../src/protocol/api-work.ts";
import type { TimelineInfo } from "../src/protocol/api.ts";
import { PG_BIN, runPg } from "../test/support/postgres.ts";
import { Child } from "./child.ts";
import type { ProgramCommand } from "./program-process.ts";
import { TIMELINE } from "./stores.ts";
import { TENANT } from "./tenant.ts";

const READY_MS_MAX = 120_000;
const POLL_MS = 10;

/** A server that answers SQL: a compute, or a stock one to compare with. */
export interface Sql {
  readonly port: number;
}

export interface Booted extends Sql {
  /** From the request until the first query was answered. */
  readonly seconds: number;
  /** The job's steps. */
  readonly steps: readonly { readonly name: string; readonly ms: number }[];
}

export class PageServerProgram {
  private readonly process: Child<ProgramCommand>;
  private readonly dataDir: string;
  private client = new Client("http://127.0.0.1:1");

  /** `environment`: settings that are not the defaults. */
  constructor(dataDir: string, environment: Readonly<Record<string, string>> = {}) {
    this.dataDir = dataDir;
    this.process = new Child("program-process", [], environment);
    // Computes run as another user.
    fs.chmodSync(dataDir, 0o755);
  }

  /** Starts it, and waits until the store's timeline can be read. */
  async start(): Promise<void> {
    await this.launch();
    await until("the timeline is read", async () => (await this.timeline()).state === "Active");
  }

  /** Starts it. */
  async launch(): Promise<void> {
    const [pagePort, httpPort] = [await freePort(), await freePort()];
    await this.process.ask({ dataDir: this.dataDir, pagePort, httpPort });
    this.client = new Client(`http://127.0.0.1:${httpPort}`, TENANT);
    await until("it answers", async () => (await this.client.status()).state === "running");
  }

  timeline(): Promise<TimelineInfo> {
    return this.client.timeline(TIMELINE);
  }

  /** Takes the tenant over from its backup. */
  async attach(layers: "when-read" | "fetch"): Promise<void> {
    await this.done(await this.client.attachTenant(TENANT, layers === "fetch"));
  }

  /** Bytes of layers that came from object storage since the start. */
  async fetchedBytes(): Promise<number> {
    return (await this.client.status()).layers?.fetched_bytes ?? 0;
  }

  /** Reads one page as of now. */
  async page(page: { readonly rel: string; readonly block: number }): Promise<void> {
    await this.client.page(TIMELINE, page);
  }

  /** A compute without disks on the store's timeline; nothing of its pages is local. */
  async boot(settings: Readonly<Record<string, string>>): Promise<Booted> {
    const begun = performance.now();
    const job = await this.done(await this.client.startCompute({ timeline: TIMELINE, settings }));
    const { port } = job.result!.compute!;
    await query({ port }, "SELECT 1");
    return { port, seconds: (performance.now() - begun) / 1000, steps: job.steps };
  }

  /** Ends the compute; what it wrote is in the timeline. */
  async halt(): Promise<void> {
    await this.done(await this.client.stopCompute(TIMELINE));
  }

  private async done(started: Job): Promise<Job> {
    let job = started;
    while (job.state === "running") job = await this.client.job(started.id, 10_000);
    if (job.state !== "done") throw new Error(`${job.kind}: ${job.error}`);
    return job;
  }

  /** What the process holds in memory of its own, bytes: its files, mapped, are not counted. */
  memoryBytes(): number {
    const text = fs.readFileSync(`/proc/${this.process.pid}/status`, "utf8");
    return Number(/^RssAnon:\s+(\d+) kB$/m.exec(text)?.[1]) * 1024;
  }

  /** Ends everything, and removes its data. */
  async cleanup(): Promise<void> {
    const programs = await findPostgres({ major: 15, binDir: PG_BIN });
    for (const { dir } of await this.client.computes().catch(() => [])) {
      if ((await findCompute(dir)) !== undefined) {
        await stopCompute(dir, { programs, mode: "immediate" });
      }
    }
    await this.process.end();
    fs.rmSync(this.dataDir, { recursive: true, force: true, maxRetries: 3 });
  }
}

async function until(what: string, isSo: () => Promise<boolean>): Promise<void> {
  for (const end = performance.now() + READY_MS_MAX; performance.now() < end;) {
    if (await isSo().catch(() => false)) return;
    await new Promise((resolve) => setTimeout(resolve, POLL_MS));
  }
  throw new Error(`the page server does not come to where ${what}`);
}

const at = ({ port }: Sql): string[] => ["-h", "127.0.0.1", "-p", `${port}`, "-U", "postgres"];

export const query = (server: Sql, text: string): Promise<string> =>
  runPg("psql", [...at(server), "-AtqX", "-v", "ON_ERROR_STOP=1", "-c", text, "postgres"]);

/** pgbench for so long; transactions a second, without the time to connect. */
export async function pgbench(
  server: Sql,
  seconds: number,
  args: readonly string[],
): Promise<number> {
  const said = await runPg("pgbench", [
    ...at(server),
    ...["-n", "-M", "prepared", "-c", "8", "-j", "2", "-T", `${Math.ceil(seconds)}`],
    ...args,
    "postgres",
  ]);
  const tps = Number(/^tps = ([\d.]+)/m.exec(said)?.[1]);
  if (!(tps > 0)) throw new Error(`pgbench says: ${said}`);
  return tps;
}
