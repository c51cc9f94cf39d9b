// Load that runs while servers are killed: pgbench as a process that must not end by itself, and a
// reader that asks the page service for random pages, so that WAL redo is at work at any moment.

import { type ChildProcess, spawn } from "node:child_process";
import path from "node:path";
import { FORK_MAIN, PAGE_BYTES, type RelTag, SPC_DEFAULT } from "../../src/core/page.ts";
import { PageClient, RequestError } from "../support/page-client.ts";
import { PG_BIN, runPg } from "../support/postgres.ts";
import type { Random } from "./random.ts";
import type { Served } from "./compare.ts";

const at = (port: number): string[] => ["-h", "127.0.0.1", "-p", String(port), "-U", "postgres"];

export async function initPgbench(port: number, scale: number): Promise<void> {
  await runPg("pgbench", [...at(port), "-i", "-q", "-s", String(scale), "postgres"]);
}

/** pgbench until stop(). */
export class Pgbench {
  private readonly child: ChildProcess;
  private readonly ended: Promise<string>;
  private output = "";
  private stopping = false;

  /**
   * `rate`: transactions a second at most, so that a server that stands still is not flooded later.
   * `settings`: of its sessions, as PGOPTIONS has them.
   */
  constructor(port: number, clients: number, rate: number, settings = "") {
    const args = [...at(port), "-n", "-T", "36000", "-c", `${clients}`, "-R", `${rate}`];
    this.child = spawn(path.join(PG_BIN, "pgbench"), [...args, "postgres"], {
      stdio: ["ignore", "pipe", "pipe"],
      env: { ...process.env, PGOPTIONS: settings },
    });
    this.child.stdout?.on("data", (text: Buffer) => (this.output += text.toString()));
    this.child.stderr?.on("data", (text: Buffer) => (this.output += text.toString()));
    this.ended = new Promise((resolve) => {
      this.child.on("error", (error) => resolve(error.message));
      this.child.on("close", (code, signal) => resolve(signal ?? `status ${code}`));
    });
    void this.ended.then((how) => {
      if (!this.stopping) this.output += `\nended by itself: ${how}`;
    });
  }

  /** Throws when it has ended. */
  assertRuns(): void {
    if (this.child.exitCode === null && this.child.signalCode === null) return;
    throw new Error(`pgbench does not run: ${this.output.slice(-2_000)}`);
  }

  async stop(): Promise<void> {
    if (!this.stopping) this.assertRuns();
    this.abandon();
    await this.ended;
  }

  abandon(): void {
    this.stopping = true;
    this.child.kill("SIGKILL");
  }
}

/** pd_pagesize_version of a page that is not new (PageGetPageSize | PG_PAGE_LAYOUT_VERSION). */
const SIZE_AND_VERSION = PAGE_BYTES | 4;
const READ_AHEAD = 16;

/** Reads random blocks of one relation at the newest LSN until the server dies or stop(). */
export class PageReaderLoad {
  read = 0;
  /** Refused reads and pages that are none. */
  readonly errors: string[] = [];
  private stopping = false;
  private readonly loop: Promise<void>;

  constructor(served: Served, rel: RelTag, blocks: number, random: Random) {
    this.loop = this.run(served, rel, blocks, random).catch((error: unknown) => {
      // The connection ends with the server.
      if (error instanceof RequestError) this.errors.push(error.message);
    });
  }

  private async run(served: Served, rel: RelTag, blocks: number, random: Random): Promise<void> {
    const client = await PageClient.connect({ port: served.port });
    const stream = await client.pagestream(served.tenant, served.timeline);
    while (!this.stopping) {
      const wanted = Array.from({ length: READ_AHEAD }, () => random.between(0, blocks));
      const pages = await Promise.all(wanted.map((block) => stream.getPage(rel, block)));
      pages.forEach((page, i) => this.look(page, wanted[i]!));
    }
    await client.close();
  }

  private look(page: Uint8Array, block: number): void {
    this.read++;
    const found = page[18]! | (page[19]! << 8);
    if (found !== SIZE_AND_VERSION) this.errors.push(`block ${block}: not a page (${found})`);
  }

  async stop(): Promise<void> {
    this.stopping = true;
    await this.loop;
  }
}

/** Where a table's pages are, and how many it has. */
export async function relationOf(
  sql: (text: string) => Promise<string>,
  table: string,
): Promise<{ readonly rel: RelTag; readonly blocks: number }> {
  const found = await sql(
    `SELECT (SELECT oid FROM pg_database WHERE datname = current_database()),
            pg_relation_filenode('${table}'), pg_relation_size('${table}') / ${PAGE_BYTES}`,
  );
  const [db, rel, blocks] = found.split("|").map(Number);
  if (db === undefined || rel === undefined || blocks === undefined) {
    throw new Error(`no table ${table}: ${found}`);
  }
  return { rel: { spc: SPC_DEFAULT, db, rel, fork: FORK_MAIN }, blocks };
}
