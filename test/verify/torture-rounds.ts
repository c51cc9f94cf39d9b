// A compute without disks, with hardly any memory, under the load of torture-client.ts; it, the page
// server, or both are killed at random, or another compute takes its place. After each of these nothing acknowledged may be missing, nothing may be
// there that was never tried, and the sum of all balances is what it was.

import { setTimeout as sleep } from "node:timers/promises";
import { findCompute } from "../../src/io/compute.ts";
import type { ComputeInfo } from "../../src/protocol/api-work.ts";
import { removeServer, rowsOf, valueOf } from "../support/computes.ts";
import type { Random } from "./random.ts";
import { Random as Chance } from "./random.ts";
import { ServerUnderTest } from "./server.ts";
import { SETUP, TOTAL, TortureClient } from "./torture-client.ts";

const VICTIMS = ["compute", "page server", "both", "place"] as const;
export type Victim = (typeof VICTIMS)[number];
const CLIENTS = 4;
const POLL_MS = 20;
/** Pages leave the buffers, and the store, all the time. */
const SETTINGS = {
  shared_buffers: "1MB",
  "pageserver.page_store_size": "1MB",
  autovacuum_naptime: "1s",
};

export interface TortureReport {
  rounds: number;
  transactions: number;
  acknowledged: number;
  computeKills: number;
  serverKills: number;
  /** Another compute was started while it ran. */
  replacements: number;
  readonly problems: string[];
}

export class TortureRounds {
  readonly report: TortureReport = {
    ...{ rounds: 0, transactions: 0, acknowledged: 0, computeKills: 0, serverKills: 0 },
    replacements: 0,
    problems: [],
  };
  private readonly random: Random;
  private readonly say: (line: string) => void;
  private readonly server = new ServerUnderTest();
  private readonly clients: readonly TortureClient[];
  private compute!: ComputeInfo;

  constructor(random: Random, say: (line: string) => void) {
    this.random = random;
    this.say = say;
    this.clients = Array.from(
      { length: CLIENTS },
      (_, writer) => new TortureClient(writer, new Chance(random.seed + writer + 1)),
    );
  }

  async begin(): Promise<void> {
    await this.server.start();
    await this.server.client.createTimeline({ name: "main" });
    await this.boot();
    for (const text of SETUP) await rowsOf(this.compute.uri, text);
    await rowsOf(this.compute.uri, "CREATE EXTENSION amcheck");
    // Booted anew: from now on these relations are the page server's.
    await this.stop();
    await this.boot();
  }

  private async boot(replace = false): Promise<void> {
    const request = { timeline: "main", settings: SETTINGS, replace };
    const job = await this.server.done(await this.server.client.startCompute(request));
    this.compute = job.result!.compute!;
  }

  private async stop(): Promise<void> {
    await this.server.done(await this.server.client.stopCompute("main"));
  }

  /** Load for `ms`, then one kill (of whom, is left to chance otherwise), and what must hold. */
  async round(
    ms: number,
    victim: Victim = VICTIMS[this.random.between(0, VICTIMS.length)]!,
  ): Promise<void> {
    const ofServer = victim === "page server" || victim === "both";
    const ofCompute = victim === "compute" || victim === "both";
    let down = false;
    const work = this.clients.map((client) => client.work(this.compute.uri, () => down));
    await sleep(ms);
    if (ofServer) {
      await this.server.kill();
      this.report.serverKills++;
      await sleep(this.random.between(0, 500));
    }
    if (victim !== "page server") down = true;
    if (ofCompute) {
      process.kill((await findCompute(this.compute.dir))!.pid, "SIGKILL");
      this.report.computeKills++;
    }
    if (ofServer) await this.server.start();
    if (victim === "place") {
      this.report.replacements++;
      await this.boot(true);
    }
    if (victim === "page server") {
      // The queries that waited go on.
      await sleep(ms / 2);
      for (const client of this.clients) client.stop();
    }
    await Promise.all(work);
    if (ofCompute) {
      while ((await findCompute(this.compute.dir)) !== undefined) await sleep(POLL_MS);
      await this.stop();
      await this.boot();
    }
    await this.check(`after the loss of ${victim}`);
    this.report.rounds++;
    this.say(`round ${this.report.rounds}: ${victim} lost after ${ms} ms; ${this.describe()}`);
  }

  private async check(when: string): Promise<void> {
    const { problems } = this.report;
    const { uri } = this.compute;
    for (const client of this.clients) {
      const { writer, acknowledged, attempted } = client;
      const [[count, last]] = (await rowsOf(
        uri,
        `SELECT count(*), coalesce(max(n), 0) FROM ledger WHERE writer = ${writer}`,
      )) as [[string, string]];
      const there = Number(last);
      if (Number(count) !== there || there < acknowledged || there > attempted) {
        problems.push(
          `${when}: writer ${writer} has ${count} rows up to ${there}; ` +
            `${acknowledged} were acknowledged, ${attempted} tried`,
        );
      }
      // The one whose answer was lost.
      client.acknowledged = there;
      problems.push(...client.problems.splice(0).map((problem) => `${when}: ${problem}`));
    }
    const sum = await valueOf(uri, "SELECT sum(balance) FROM accounts");
    if (sum !== String(TOTAL)) problems.push(`${when}: the balances sum to ${sum}`);
  }

  /** Every index and table, of this compute and of one booted anew; and the page server's own check. */
  async end(): Promise<void> {
    await this.checkAll("at the end");
    await this.stop();
    await this.boot();
    await this.check("booted anew");
    await this.checkAll("booted anew");
    await this.stop();
    const { problems } = await this.server.client.check();
    this.report.problems.push(...problems.map((problem) => `check: ${JSON.stringify(problem)}`));
    this.report.acknowledged = this.clients.reduce((sum, one) => sum + one.acknowledged, 0);
    this.report.transactions = this.clients.reduce((sum, one) => sum + one.transactions, 0);
  }

  private async checkAll(when: string): Promise<void> {
    const checks = [
      `SELECT bt_index_parent_check(indexrelid, true, true) FROM pg_index
        JOIN pg_class ON pg_class.oid = indexrelid JOIN pg_am ON pg_am.oid = relam
        WHERE amname = 'btree' AND indisvalid AND relpersistence = 'p'`,
      `DO $$ DECLARE t regclass; r record; BEGIN
         FOR t IN SELECT oid FROM pg_class WHERE relkind IN ('r', 't') AND relpersistence = 'p' LOOP
           FOR r IN SELECT * FROM verify_heapam(t) LOOP RAISE 'table %: %', t, r; END LOOP;
         END LOOP; END $$`,
    ];
    for (const text of checks) {
      await rowsOf(this.compute.uri, text).catch((error: unknown) => {
        this.report.problems.push(`${when}: ${String(error)}`);
      });
    }
  }

  private describe(): string {
    return this.clients.map((one) => one.acknowledged).join(" + ") + " commits";
  }

  async cleanup(): Promise<void> {
    for (const client of this.clients) client.stop();
    await removeServer(this.server);
  }
}
