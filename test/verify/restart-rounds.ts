// The page server is killed again and again while it follows a stock primary and serves a compute, both
// under load. After each kill: where it goes on is not below what it had acknowledged, a branch made
// there has every acknowledged commit, and its store is clean. At the end every page is compared.
// Chance comes from one seed; what the load does meanwhile is PostgreSQL's business.

import fs from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { Lsn } from "../../src/core/lsn.ts";
import { findPostgres } from "../../src/io/postgres.ts";
import { stopCompute } from "../../src/io/compute.ts";
import type { ComputeInfo } from "../../src/protocol/api-work.ts";
import type { TimelineInfo } from "../../src/protocol/api.ts";
import { bootOn, dropCompute, haltOn } from "../support/computes.ts";
import { PG_BIN, type TestPostgres, startPostgres } from "../support/postgres.ts";
import { redoProcessesOf } from "../support/processes.ts";
import { shutdownEnd } from "../support/shutdown-end.ts";
import { type Comparison, compareCluster, noComparison } from "./compare.ts";
import { type Account, Journal, missingRows } from "./journal.ts";
import { PageReaderLoad, Pgbench, initPgbench, relationOf } from "./load.ts";
import type { Random } from "./random.ts";
import { ServerUnderTest } from "./server.ts";
import { Upstream } from "./upstream.ts";

const FOLLOWED = "prod";
const SERVED = "main";
/** Transactions a second on each. */
const RATE = 200;
/** How long a server works before it is killed, ms. */
const WORK_MS = { from: 200, to: 1_500 };
/** Between the request to seal and the kill, ms: a seal of a second's changes takes tens of them. */
const SEAL_MS = { from: 0, to: 80 };
/** A start takes about a second, of which a part is reading WAL again, ms. */
const LOAD_MS = { from: 500, to: 2_500 };
/** What the log says of a redo process that we have killed. */
const SHOT = "redo process ended by SIGKILL";
/** pino's level "error". */
const LEVEL_ERROR = 50;

export interface RestartOptions {
  readonly rounds: number;
  readonly random: Random;
  readonly say: (line: string) => void;
  /** pgbench's scale: 1,640 pages each. */
  readonly scale: number;
}

export interface RestartReport extends Comparison {
  /** Rounds that were gone through. */
  rounds: number;
  /** Commits whose client had been told, and rows of them that a branch did not have. */
  acknowledged: number;
  lostCommits: number;
  /** Times streaming went on below what had been reported as flushed. */
  wentBack: number;
  checkProblems: number;
  /** Pages read while all this went on, and reads that failed although the server lived. */
  pagesRead: number;
  readErrors: number;
  redoKills: number;
  connectionKills: number;
  /** Kills that were preceded by a request to seal. */
  killsWhileSealing: number;
  /** Kills of a server that had just been started after a kill. */
  killsWhileLoading: number;
  /** Lines of the server's log at level error. */
  serverErrors: number;
}

/** True when nothing was lost and nothing differs. */
export const isGood = (r: RestartReport): boolean =>
  r.compared > 0 &&
  r.acknowledged > 0 &&
  [r.different, r.lostCommits, r.wentBack, r.checkProblems, r.readErrors, r.serverErrors].every(
    (count) => count === 0,
  );

export class RestartRounds {
  readonly report: RestartReport = {
    ...noComparison(),
    rounds: 0,
    acknowledged: 0,
    lostCommits: 0,
    wentBack: 0,
    checkProblems: 0,
    pagesRead: 0,
    readErrors: 0,
    redoKills: 0,
    connectionKills: 0,
    killsWhileSealing: 0,
    killsWhileLoading: 0,
    serverErrors: 0,
  };
  private readonly options: RestartOptions;
  private readonly server = new ServerUnderTest();
  private primary!: TestPostgres;
  private compute!: ComputeInfo;
  /** Where each timeline's WAL comes from. */
  private upstreams!: ReadonlyMap<string, Upstream>;
  private journal!: Journal;
  private benches: Pgbench[] = [];
  private readonly readers: PageReaderLoad[] = [];
  private readonly directories = new Set<string>();
  /** Branches whose compute outlives a kill of the page server. */
  private lingering: ComputeInfo[] = [];

  constructor(options: RestartOptions) {
    this.options = options;
  }

  /** Starts everything and the load. */
  async begin(): Promise<void> {
    const { say, scale } = this.options;
    const { server } = this;
    this.primary = await startPostgres({
      // One checkpoint in a run or two: each is followed by images of all pages again.
      settings: { checkpoint_timeout: "2min", max_wal_size: "4GB" },
    });
    await initPgbench(this.primary.port, scale);
    await server.start();
    await server.done(await server.client.follow({ conninfo: this.primary.uri, name: FOLLOWED }));
    await server.client.createTimeline({ name: SERVED });
    this.compute = await this.boot(SERVED, "synchronous", "full-copy");
    await initPgbench(this.compute.port, scale);
    this.upstreams = new Map([
      [FOLLOWED, await Upstream.connect(this.primary.uri, this.primary.logFile)],
      [SERVED, await Upstream.connect(this.compute.uri, this.compute.log)],
    ]);
    this.journal = await Journal.start(this.compute.uri, 2);
    this.benches = [
      new Pgbench(this.primary.port, 2, RATE),
      new Pgbench(this.compute.port, 2, RATE),
    ];
    say(`following "${FOLLOWED}", compute on "${SERVED}", pgbench on both`);
  }

  private async boot(
    timeline: string,
    commits: "synchronous" | "asynchronous",
    pages: "diskless" | "full-copy" = "diskless",
  ) {
    const compute = await bootOn(this.server, timeline, commits, pages);
    this.directories.add(compute.dir);
    return compute;
  }

  private async halt(compute: ComputeInfo): Promise<void> {
    await haltOn(this.server, compute.timeline);
    this.directories.delete(compute.dir);
  }

  /** Work, kill, start, look. */
  async round(number: number): Promise<void> {
    const { report } = this;
    await this.work();
    await this.beforeKill();
    await this.server.kill();
    const flushed = new Map<string, Lsn>();
    await this.readFlushed(flushed);
    if (this.options.random.chance(0.25)) {
      await this.killWhileLoading();
      await this.readFlushed(flushed);
    }
    const accounts = this.journal.accounts();
    for (const upstream of this.upstreams.values()) upstream.mark();
    await this.server.start();
    const resumed = new Map<string, Lsn>();
    for (const [name, upstream] of this.upstreams) {
      const at = await upstream.resumedAt();
      const told = flushed.get(name)!;
      if (at < told) {
        report.wentBack++;
        this.note(`"${name}" went on at ${Lsn.format(at)}, but had reported ${Lsn.format(told)}`);
      }
      resumed.set(name, at);
    }
    for (const [name, at] of resumed) await this.untilMoving(name, at);
    await this.lookAtBranch(number, resumed.get(SERVED)!, accounts);
    const { problems } = await this.server.client.check();
    report.checkProblems += problems.length;
    problems.forEach((problem) => this.note(`check: ${problem}`));
    report.rounds++;
    this.sayRound(number, resumed, accounts);
  }

  /** What each sender was told is flushed, or was told before. */
  private async readFlushed(flushed: Map<string, Lsn>): Promise<void> {
    for (const [name, upstream] of this.upstreams) {
      const now = await upstream.flushed();
      flushed.set(name, Lsn.of(Math.max(now, flushed.get(name) ?? 0)));
    }
  }

  /** The next life ends before it has begun, or soon after. */
  private async killWhileLoading(): Promise<void> {
    const { random } = this.options;
    const starting = this.server.start().catch(() => undefined);
    await sleep(random.between(LOAD_MS.from, LOAD_MS.to));
    await this.server.kill();
    await starting;
    this.report.killsWhileLoading++;
  }

  private sayRound(
    number: number,
    resumed: ReadonlyMap<string, Lsn>,
    accounts: readonly Account[],
  ): void {
    const at = [...resumed].map(([name, lsn]) => `${name} at ${Lsn.format(lsn)}`).join(", ");
    const noted = accounts.reduce((sum, account) => sum + account.acknowledged, 0);
    this.report.acknowledged = noted;
    this.options.say(`round ${number}: went on with ${at}; ${noted} commits acknowledged`);
  }

  /** Lets the load run, reads pages, and shoots at parts. */
  private async work(): Promise<void> {
    const { random } = this.options;
    const info = await this.server.client.timeline(FOLLOWED);
    const { rel, blocks } = await relationOf((text) => this.primary.sql(text), "pgbench_accounts");
    const reader = new PageReaderLoad(this.served(info), rel, blocks, random);
    const workMs = random.between(WORK_MS.from, WORK_MS.to);
    const aim = random.next();
    await sleep(workMs / 2);
    if (aim < 0.4) await this.killRedo();
    else if (aim < 0.6) await this.cutConnections(FOLLOWED);
    else if (aim < 0.8) await this.cutConnections(SERVED);
    await sleep(workMs / 2);
    // Reads go on until the kill in half of the rounds; else they must end without an error.
    if (random.chance(0.5)) await reader.stop();
    this.readers.push(reader);
    for (const bench of this.benches) bench.assertRuns();
  }
  private async killRedo(): Promise<void> {
    const { random } = this.options;
    const { pid } = await this.server.client.status();
    const processes = redoProcessesOf(pid);
    const victim = processes[random.between(0, processes.length)];
    if (victim === undefined) return;
    process.kill(victim, "SIGKILL");
    this.report.redoKills++;
  }

  private async cutConnections(timeline: string): Promise<void> {
    this.report.connectionKills += await this.upstreams.get(timeline)!.terminateSenders();
  }

  /** In half of the rounds the kill comes while layers are being sealed. */
  private async beforeKill(): Promise<void> {
    const { random } = this.options;
    const { client } = this.server;
    if (!random.chance(0.5)) return;
    this.report.killsWhileSealing++;
    for (const name of this.upstreams.keys()) client.checkpoint(name).catch(() => undefined);
    await sleep(random.between(SEAL_MS.from, SEAL_MS.to));
  }

  private async untilMoving(timeline: string, from: Lsn): Promise<void> {
    await this.server.reached(
      timeline,
      ({ source, positions }) =>
        source.connection === "streaming" && Lsn.parse(positions.durable) > from,
    );
  }

  /** A branch where the timeline went on holds what was acknowledged before the kill. */
  private async lookAtBranch(number: number, at: Lsn, accounts: readonly Account[]): Promise<void> {
    const { server, report } = this;
    for (const compute of this.lingering.splice(0)) {
      await server.reached(compute.timeline, ({ source }) => source.connection === "streaming");
      await this.halt(compute);
    }
    const name = `after-${number}`;
    await server.client.createTimeline({
      name,
      ancestor_name: SERVED,
      ancestor_start_lsn: Lsn.format(at),
    });
    const compute = await this.boot(name, "asynchronous");
    const missing = await missingRows(compute.uri, accounts);
    report.lostCommits += missing;
    if (missing > 0) this.note(`branch "${name}": ${missing} acknowledged rows are missing`);
    if (this.options.random.chance(0.25)) this.lingering.push(compute);
    else await this.halt(compute);
  }

  /** Ends the load, stops the servers in order, compares every page. */
  async end(): Promise<void> {
    const { server, report } = this;
    for (const bench of this.benches) await bench.stop();
    await this.journal.stop();
    const accounts = this.journal.accounts();
    report.acknowledged = accounts.reduce((sum, account) => sum + account.acknowledged, 0);
    report.lostCommits += await missingRows(this.compute.uri, accounts);
    for (const upstream of this.upstreams.values()) await upstream.end();
    for (const compute of this.lingering.splice(0)) await this.halt(compute);
    await this.primary.stop();
    await this.compare(FOLLOWED, this.primary.dataDir, await shutdownEnd(this.primary.dataDir));
    const programs = await findPostgres({ major: 15, binDir: PG_BIN });
    const { how, endLsn } = await stopCompute(this.compute.dir, { programs });
    if (endLsn === undefined) throw new Error(`the compute did not stop cleanly: ${how}`);
    await this.compare(SERVED, this.compute.dir, endLsn);
    for (const reader of this.readers) {
      await reader.stop();
      report.pagesRead += reader.read;
      report.readErrors += reader.errors.length;
      reader.errors.forEach((error) => this.note(`read: ${error}`));
    }
    const { problems } = await server.client.check();
    report.checkProblems += problems.length;
    await server.stop();
    // What we shot ourselves is reported as it should be, and once.
    const shots = Array.from({ length: report.redoKills }, () => SHOT);
    const errors = errorLines(server.log).filter((line) => {
      const expected = line.includes(SHOT) && shots.pop() !== undefined;
      return !expected;
    });
    report.serverErrors = errors.length;
    errors.forEach((line) => this.note(`log: ${line}`));
  }

  private async compare(timeline: string, dir: string, end: Lsn): Promise<void> {
    const { server, report } = this;
    const info = await server.reached(
      timeline,
      ({ positions }) => Lsn.parse(positions.durable) >= end,
    );
    const before = report.compared;
    await compareCluster(dir, this.served(info), end, report);
    const pages = report.compared - before;
    this.options.say(`"${timeline}" at ${Lsn.format(end)}: ${pages} pages compared`);
  }

  private served(info: TimelineInfo) {
    return { port: this.server.port, tenant: info.tenant_id, timeline: info.timeline_id };
  }

  private note(text: string): void {
    this.report.examples.push(text);
    this.options.say(`  ${text}`);
  }

  /** How the server and its timelines are, for when a round fails. */
  async describe(): Promise<string> {
    const timelines = await this.server.client.timelines().catch((error: unknown) => String(error));
    return `${JSON.stringify(timelines)}\n${this.server.tail()}`;
  }

  /** Whatever happened: nothing is left running, nothing on disk. */
  async cleanup(): Promise<void> {
    for (const bench of this.benches) bench.abandon();
    this.journal?.abandon();
    for (const upstream of this.upstreams?.values() ?? []) upstream.abandon();
    for (const dir of this.directories) await dropCompute(dir);
    await this.server.cleanup();
    await this.primary?.cleanup();
  }
}

/** Messages of log lines at level error, with what went wrong. */
function errorLines(log: string): readonly string[] {
  return fs
    .readFileSync(log, "utf8")
    .split("\n")
    .filter((line) => line.startsWith("{"))
    .map((line) => JSON.parse(line) as { level: number; msg: string; err?: { message: string } })
    .filter((line) => line.level >= LEVEL_ERROR)
    .map((line) => [line.msg, line.err?.message].filter(Boolean).join(": "));
}
