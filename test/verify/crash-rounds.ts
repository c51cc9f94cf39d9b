// The page server is killed in the middle of sealing, merging, letting history go, branching and deleting,
// while it follows a stock primary under pgbench: at random instants, and at named points around every step
// that changes what is on disk. After each kill: `check` finds nothing, branches that were acknowledged are
// there and deleted ones are not, and every branch reads as it did. At the end every page is compared with
// PostgreSQL's own, at the end and at the branch point of every branch that survived.

import fs from "node:fs";
import path from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { Lsn } from "../../src/core/lsn.ts";
import type { RelTag } from "../../src/core/page.ts";
import { CRASH_POINTS } from "../../src/store/crash-points.ts";
import { type TestPostgres, postgresTempDir, startPostgres } from "../support/postgres.ts";
import { shutdownEnd } from "../support/shutdown-end.ts";
import { type Comparison, compareCluster, noComparison } from "./compare.ts";
import { Pgbench, initPgbench, relationOf } from "./load.ts";
import { type Branch, Mischief } from "./mischief.ts";
import type { Random } from "./random.ts";
import { sumOfPages } from "./page-sums.ts";
import { at, must, recover } from "./recover.ts";
import { ServerUnderTest } from "./server.ts";

const FOLLOWED = "prod";
/** Transactions a second. */
const RATE = 300;
const BRANCHES_MAX = 4;
/** How long a server works before it is killed at a random instant, ms. */
const WORK_MS = { from: 100, to: 2_500 };
/** How long it is waited for a named point, ms; then it is killed wherever it is. */
const POINT_MS = 6_000;
/** A start takes about a second, ms. */
const LOAD_MS = { from: 300, to: 2_500 };
const TABLES = ["pgbench_accounts", "pgbench_tellers", "pgbench_history", "pgbench_accounts_pkey"];

export interface CrashOptions {
  readonly rounds: number;
  readonly random: Random;
  readonly say: (line: string) => void;
  /** pgbench's scale: 1,640 pages each. */
  readonly scale: number;
}

export interface CrashReport extends Comparison {
  rounds: number;
  /** Kills at random instants, at a point, of a server that was starting. */
  randomKills: number;
  pointKills: number;
  killsWhileLoading: number;
  /** By point: how often the process ended there. */
  readonly points: Record<string, number>;
  /** By name: what was asked and done meanwhile. */
  done: Record<string, number>;
  checkProblems: number;
  /** Branches that are not there, or are again. */
  wrongBranches: number;
  /** Branches that do not read as before. */
  changedHistory: number;
  branchesCompared: number;
  /** Answers that were neither success nor a refusal. */
  failures: number;
}

/** True when nothing was lost, came back or differs. */
export const isSound = (r: CrashReport): boolean =>
  r.compared > 0 &&
  [r.different, r.checkProblems, r.wrongBranches, r.changedHistory, r.failures].every(
    (count) => count === 0,
  );

export class CrashRounds {
  readonly report: CrashReport = {
    ...noComparison(),
    ...{ rounds: 0, randomKills: 0, pointKills: 0, killsWhileLoading: 0, points: {}, done: {} },
    ...{ checkProblems: 0, wrongBranches: 0, changedHistory: 0, branchesCompared: 0, failures: 0 },
  };
  private readonly options: CrashOptions;
  private readonly server = new ServerUnderTest(undefined, { CRASH_POINTS: "armed" });
  private readonly home = postgresTempDir("verify-crash-");
  private primary!: TestPostgres;
  private bench: Pgbench | undefined;
  private mischief!: Mischief;
  private rels: readonly RelTag[] = [];
  /** Sum of what a branch has at its branch point, when it was first looked at. */
  private readonly sums = new Map<string, string>();
  /** Points in the order in which they are tried. */
  private readonly points: string[];

  constructor(options: CrashOptions) {
    this.options = options;
    this.points = shuffled(CRASH_POINTS, options.random);
  }

  private get base(): string {
    return path.join(this.home, "base");
  }

  async begin(): Promise<void> {
    const { server } = this;
    const { say, scale, random } = this.options;
    this.primary = await startPostgres({
      settings: { checkpoint_timeout: "30s", max_wal_size: "4GB", wal_keep_size: "16GB" },
    });
    const { port } = this.primary;
    await initPgbench(port, scale);
    must("pg_basebackup", [...at(port), "-D", this.base, "-X", "none", "-c", "fast"]);
    await server.start();
    await server.done(await server.client.follow({ conninfo: this.primary.uri, name: FOLLOWED }));
    const found = TABLES.map((table) => relationOf((text) => this.primary.sql(text), table));
    this.rels = (await Promise.all(found)).map(({ rel }) => rel);
    const now = async (): Promise<Lsn> =>
      Lsn.parse((await this.primary.sql("SELECT pg_current_wal_insert_lsn()")).trim());
    this.mischief = new Mischief(server, FOLLOWED, now, random, BRANCHES_MAX);
    this.bench = new Pgbench(port, 2, RATE);
    say(`following "${FOLLOWED}", pgbench on it`);
  }

  /** Mischief, a kill, a start, a look. */
  async round(number: number): Promise<void> {
    const { server, mischief, report } = this;
    const { random, say } = this.options;
    mischief.begin();
    const how = random.chance(0.75) ? await this.killAtPoint() : await this.killSometime();
    await mischief.stop();
    if (random.chance(0.2)) await this.killWhileLoading();
    await server.start();
    this.bench?.assertRuns();
    await server.reached(FOLLOWED, ({ source }) => source.connection === "streaming");
    const names = (await server.client.timelines()).map(({ name }) => name);
    for (const wrong of mischief.settle(names)) {
      report.wrongBranches++;
      this.note(wrong);
    }
    const { problems } = await server.client.check();
    report.checkProblems += problems.length;
    problems.forEach((problem) => this.note(`check: ${problem}`));
    for (const branch of this.survivors()) await this.lookAt(branch);
    report.rounds++;
    say(`round ${number}: killed ${how}; ${this.survivors().length} branches`);
  }

  private async killSometime(): Promise<string> {
    const { random } = this.options;
    const ms = random.between(WORK_MS.from, WORK_MS.to);
    await sleep(ms);
    await this.server.kill();
    this.report.randomKills++;
    return `after ${ms} ms`;
  }

  private async killAtPoint(): Promise<string> {
    const { random } = this.options;
    const { report, server } = this;
    const point = this.points.shift()!;
    this.points.push(point);
    const times = random.between(1, 4);
    server.arm({ point, times });
    if (await server.hasEnded(POINT_MS)) {
      report.pointKills++;
      report.points[point] = (report.points[point] ?? 0) + 1;
      return `at ${point}`;
    }
    await server.kill();
    report.randomKills++;
    return `waiting for ${point} (${times})`;
  }

  private async killWhileLoading(): Promise<void> {
    const starting = this.server.start().catch(() => undefined);
    await sleep(this.options.random.between(LOAD_MS.from, LOAD_MS.to));
    await this.server.kill();
    await starting;
    this.report.killsWhileLoading++;
  }

  private survivors(): readonly Branch[] {
    return [...this.mischief.branches.values()].filter(({ known }) => known === "there");
  }

  /** A branch has what it had. */
  private async lookAt(branch: Branch): Promise<void> {
    const sum = await this.sumOf(branch);
    const known = this.sums.get(branch.name);
    this.sums.set(branch.name, sum);
    if (known === undefined || known === sum) return;
    this.report.changedHistory++;
    this.note(`branch "${branch.name}" at ${Lsn.format(branch.lsn)} reads otherwise than before`);
  }

  private async sumOf({ name, lsn }: Branch): Promise<string> {
    const { tenant_id, timeline_id } = await this.server.reached(
      name,
      ({ state }) => state === "Active",
    );
    const served = { port: this.server.port, tenant: tenant_id, timeline: timeline_id };
    return sumOfPages(served, this.rels, lsn);
  }

  /** Ends the load and compares everything with PostgreSQL's own. */
  async end(): Promise<void> {
    const { server, report, primary, mischief } = this;
    report.done = mischief.done;
    report.failures = mischief.failures.length;
    mischief.failures.forEach((failure) => this.note(failure));
    await this.bench?.stop();
    await primary.stop();
    const end = await shutdownEnd(primary.dataDir);
    await server.reached(FOLLOWED, ({ positions }) => Lsn.parse(positions.durable) >= end);
    await this.compare(FOLLOWED, primary.dataDir, end);
    const archive = path.join(primary.dataDir, "pg_wal");
    for (const { name, lsn } of this.survivors()) {
      await this.compare(name, await recover(this.base, archive, lsn, this.home), lsn);
      report.branchesCompared++;
    }
    const { problems } = await server.client.check();
    report.checkProblems += problems.length;
    await server.stop();
  }

  private async compare(timeline: string, dir: string, lsn: Lsn): Promise<void> {
    const { server, report } = this;
    const info = await server.client.timeline(timeline);
    const served = { port: server.port, tenant: info.tenant_id, timeline: info.timeline_id };
    const before = report.compared;
    await compareCluster(dir, served, lsn, report);
    const pages = report.compared - before;
    this.options.say(`"${timeline}" at ${Lsn.format(lsn)}: ${pages} pages compared`);
  }

  private note(text: string): void {
    this.report.examples.push(text);
    this.options.say(`  ${text}`);
  }

  /** How the server is, for when a round fails. */
  describe(): string {
    return this.server.tail();
  }

  /** Whatever happened: nothing is left running, nothing on disk. */
  async cleanup(): Promise<void> {
    this.bench?.abandon();
    await this.server.cleanup();
    await this.primary?.cleanup();
    fs.rmSync(this.home, { recursive: true, force: true });
  }
}

function shuffled(list: readonly string[], random: Random): string[] {
  const left = [...list];
  return list.map(() => left.splice(random.between(0, left.length), 1)[0]!);
}
