// The machine of the page server is lost: it is killed, and its whole data directory is gone. Another one
// attaches the tenant from object storage. Meanwhile pgbench runs on a primary that is followed and on a
// compute, branches come and go, layers are merged and history let go as fast as it goes. After each loss:
// nothing is below what was called uploaded, branches of which it was said are there, every commit that
// waited for it (remote_apply) is there, and pages at LSNs that were called uploaded are PostgreSQL's own.
// In one round two page servers have the tenant at once: the older one is fenced.
//
// The primary keeps no more WAL than it must: what is not uploaded is kept by its slot alone, and the new
// machine goes on from there. What it wrote before is in an archive of its own, to compare with.

import fs from "node:fs";
import path from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { Lsn } from "../../src/core/lsn.ts";
import type { ComputeInfo } from "../../src/protocol/api-work.ts";
import type { TimelineInfo } from "../../src/protocol/api.ts";
import { bootOn, dropCompute, valueOf } from "../support/computes.ts";
import {
  type TestPostgres,
  giveToPostgres,
  postgresTempDir,
  runPg,
  startPostgres,
} from "../support/postgres.ts";
import { shutdownEnd } from "../support/shutdown-end.ts";
import { type BackupPlace, MASTER_KEY, type PlaceKind, openPlace } from "./backup-place.ts";
import { type Look, type Truth, baseBackup, gatherWal, recoveredTo } from "./backup-truth.ts";
import { type Comparison, addComparison, compareCluster, noComparison } from "./compare.ts";
import { Journal, missingRows } from "./journal.ts";
import { Pgbench, initPgbench } from "./load.ts";
import { type Branch, Mischief } from "./mischief.ts";
import { at } from "./recover.ts";
import type { RoundsOptions } from "./rounds-program.ts";
import { ServerUnderTest } from "./server.ts";
import { UploadedWatch } from "./uploaded-watch.ts";

const FOLLOWED = "prod";
const SERVED = "main";
/** Transactions a second on each. */
const RATE = 200;
const BRANCHES_MAX = 3;
const WORK_MS = { from: 2_000, to: 5_000 };
const FENCED_MS_MAX = 60_000;
const POLL_MS = 50;
const NOTICED_MS = 300;
/** Its commits are not acknowledged before object storage has them. */
const UPLOADED_COMMITS = "?options=-c%20synchronous_commit%3Dremote_apply";
/** From this round on there is a master key: what the rounds before have left in the clear is read, what is new is encrypted. */
const ENCRYPTED_FROM = 3;

export interface BackupOptions extends RoundsOptions {
  /** pgbench's scale: 1,640 pages each. */
  readonly scale: number;
  readonly place: PlaceKind;
  /** "last": only at what was said last. */
  readonly looks?: "last";
  /** How long a server works before its machine is lost, ms. */
  readonly workMs?: { readonly from: number; readonly to: number };
}

export interface BackupReport extends Comparison {
  rounds: number;
  /** Rounds in which two servers had the tenant, and whose backup was encrypted. */
  fencings: number;
  encrypted: number;
  /** LSNs at which everything was compared, and those below the cutoff, where nothing is readable. */
  lsnsCompared: number;
  lsnsLetGo: number;
  branchesCompared: number;
  /** Timelines that came back with less than was called uploaded; branches that did not come back. */
  wentBack: number;
  wrongBranches: number;
  /** Commits that waited for object storage, and rows of them that were missing. */
  acknowledged: number;
  lostCommits: number;
  /** After the last loss, with everything fetched. */
  checkProblems: number;
  /** Answers that were neither success nor a refusal. */
  failures: number;
  /** By name: what was asked and done meanwhile. */
  done: Record<string, number>;
}

/** True when nothing was lost and nothing differs. */
export const isSound = (r: BackupReport): boolean =>
  r.compared > 0 &&
  r.acknowledged > 0 &&
  (r.rounds < ENCRYPTED_FROM || r.encrypted > 0) &&
  [r.different, r.wentBack, r.wrongBranches, r.lostCommits, r.checkProblems, r.failures].every(
    (count) => count === 0,
  );

export class BackupRounds {
  readonly report: BackupReport = {
    ...noComparison(),
    ...{ rounds: 0, fencings: 0, encrypted: 0, lsnsCompared: 0, lsnsLetGo: 0, branchesCompared: 0 },
    ...{ wentBack: 0, wrongBranches: 0, acknowledged: 0, lostCommits: 0, checkProblems: 0 },
    ...{ failures: 0, done: {} },
  };
  private readonly options: BackupOptions;
  private readonly home = postgresTempDir("verify-backup-");
  private place!: BackupPlace;
  private server!: ServerUnderTest;
  private other: ServerUnderTest | undefined;
  private tenant = "";
  private primary!: TestPostgres;
  private primaryBench: Pgbench | undefined;
  private mischief!: Mischief;
  private primaryTruth!: Truth;
  // Of one life of the compute.
  private life = 0;
  private compute!: ComputeInfo;
  private computeTruth!: Truth;
  private computeBench: Pgbench | undefined;
  private journal: Journal | undefined;

  constructor(options: BackupOptions) {
    this.options = options;
  }

  async begin(): Promise<void> {
    const { say, scale, random, place } = this.options;
    this.place = await openPlace(place);
    this.server = new ServerUnderTest(undefined, this.place.environment);
    const { server } = this;
    const archive = path.join(this.home, "primary-wal");
    fs.mkdirSync(archive);
    giveToPostgres(archive);
    this.primary = await startPostgres({
      settings: {
        ...{ checkpoint_timeout: "30s", max_wal_size: "48MB", min_wal_size: "32MB" },
        ...{ wal_keep_size: "0", archive_mode: "on", archive_command: `cp %p ${archive}/%f` },
      },
    });
    await initPgbench(this.primary.port, scale);
    const base = await baseBackup(this.home, "primary", this.primary.port);
    this.primaryTruth = { base, archive, from: await this.endOf(this.primary.uri) };
    await server.start();
    await server.done(await server.client.follow({ conninfo: this.primary.uri, name: FOLLOWED }));
    await server.client.createTimeline({ name: SERVED });
    this.tenant = (await server.client.timeline(SERVED)).tenant_id;
    this.mischief = new Mischief(
      server,
      FOLLOWED,
      () => this.endOf(this.primary.uri),
      random,
      BRANCHES_MAX,
    );
    this.primaryBench = new Pgbench(this.primary.port, 2, RATE);
    await this.beginLife();
    say(`following "${FOLLOWED}", compute on "${SERVED}", pgbench on both`);
  }

  private async endOf(uri: string): Promise<Lsn> {
    return Lsn.parse(await valueOf(uri, "SELECT pg_current_wal_insert_lsn()"));
  }

  /** Boots a compute and puts load on it. */
  private async beginLife(): Promise<void> {
    this.life++;
    this.compute = await bootOn(this.server, SERVED, "synchronous", "full-copy");
    const { port, uri, dir } = this.compute;
    if (this.life === 1) await initPgbench(port, this.options.scale);
    const base = await baseBackup(this.home, "compute", port);
    this.computeTruth = { base, archive: path.join(dir, "pg_wal"), from: await this.endOf(uri) };
    const table = `journal_${this.life}`;
    this.journal = await Journal.start(uri + UPLOADED_COMMITS, 2, table);
    this.computeBench = new Pgbench(port, 2, RATE, "-c synchronous_commit=local");
  }

  /** Work, a loss, another machine, a look. */
  async round(number: number): Promise<void> {
    const { random, say, rounds } = this.options;
    const { mischief, report } = this;
    if (number >= ENCRYPTED_FROM) {
      this.server.environment = { ...this.place.environment, ...MASTER_KEY };
      report.encrypted++;
    }
    // The second one, or the only one.
    const isFencing = number === Math.min(2, rounds);
    const watch = new UploadedWatch(this.server, random);
    mischief.begin(this.server);
    const { from, to } = this.options.workMs ?? WORK_MS;
    const ms = random.between(from, to);
    await sleep(ms);
    this.primaryBench!.assertRuns();
    this.computeBench!.assertRuns();
    if (isFencing) await this.takeOverAlive();
    else await this.server.kill();
    await mischief.stop();
    await watch.stop();
    const accounts = await this.endLife();
    await this.server.lose();
    if (this.other !== undefined) {
      await this.server.cleanup();
      this.server = this.other;
      this.other = undefined;
    } else {
      await this.server.start();
      await this.attach(this.server, random.chance(0.3) ? "fetch" : "when-read");
    }
    // Links to it that were idle have ended meanwhile: that is noticed first.
    await sleep(NOTICED_MS);
    await this.settle(watch);
    await this.look(watch);
    await this.beginLife();
    report.acknowledged += accounts.reduce((sum, one) => sum + one.acknowledged, 0);
    const lost = await missingRows(this.compute.uri, accounts, `journal_${this.life - 1}`);
    report.lostCommits += lost;
    if (lost > 0) this.note(`round ${number}: ${lost} commits are lost`);
    report.rounds++;
    const how = isFencing ? "two servers had the tenant" : "lost";
    say(`round ${number}: ${how} after ${ms} ms; ${this.survivors().length} branches`);
  }

  private async attach(server: ServerUnderTest, layers: "fetch" | "when-read"): Promise<void> {
    await server.done(await server.client.attachTenant(this.tenant, layers === "fetch"));
  }

  /** Another server attaches while the first one works: that one finds out, and says so. */
  private async takeOverAlive(): Promise<void> {
    const { server, report } = this;
    this.other = new ServerUnderTest(undefined, this.place.environment);
    await this.other.start();
    await this.attach(this.other, "when-read");
    const fenced = (info: TimelineInfo): boolean => info.backup?.state === "fenced";
    const end = Date.now() + FENCED_MS_MAX;
    let timelines = await server.client.timelines();
    while (!timelines.some(fenced) && Date.now() < end) {
      await sleep(POLL_MS);
      timelines = await server.client.timelines();
    }
    if (timelines.some(fenced)) report.fencings++;
    else this.note("the server that was replaced is not fenced");
    // It lets go of the primary's slot, alive as it is.
    await this.other.reached(FOLLOWED, ({ source }) => source.connection === "streaming");
    await server.kill();
  }

  /** Its machine is lost with it; what it wrote is kept, to compare with. */
  private async endLife() {
    // Something behind whatever was uploaded: recovery stops at a record.
    const behind = "SET synchronous_commit = local; SELECT pg_switch_wal()";
    await runPg("psql", [...at(this.compute.port), "-d", "postgres", "-XAtq", "-c", behind]);
    const accounts = this.journal!.accounts();
    this.computeBench!.abandon();
    this.journal!.abandon();
    await dropCompute(this.compute.dir);
    const archive = path.join(this.home, "compute-wal");
    await fs.promises.rm(archive, { recursive: true, force: true });
    await fs.promises.cp(this.computeTruth.archive, archive, { recursive: true });
    giveToPostgres(archive);
    this.computeTruth = { ...this.computeTruth, archive };
    return accounts;
  }

  /** Timelines are there, as far as was said. */
  private async settle(watch: UploadedWatch): Promise<void> {
    const { mischief, report, server } = this;
    const timelines = await server.client.of(this.tenant).timelines();
    const names = timelines.map(({ name }) => name).filter((name) => name !== SERVED);
    // A deletion counts when it is acknowledged; a branch with its first manifest.
    const lasts = ({ name, known }: Branch): boolean =>
      known === "gone" || watch.of(name) !== undefined;
    for (const wrong of mischief.settle(names, lasts)) {
      report.wrongBranches++;
      this.note(wrong);
    }
    for (const { name, positions } of timelines) {
      const promised = watch.of(name);
      if (promised === undefined || Lsn.parse(positions.received) >= promised.last) continue;
      report.wentBack++;
      this.note(`"${name}" is at ${positions.received}, not ${Lsn.format(promised.last)}`);
    }
  }

  /** The two clusters side by side: each recovers PostgreSQL's own account of one. */
  private async look(watch: UploadedWatch): Promise<void> {
    const { random, looks } = this.options;
    await gatherWal(this.primary, this.primaryTruth.archive);
    const primary = this.toLookAt(watch, FOLLOWED, this.primaryTruth);
    const compute = this.toLookAt(watch, SERVED, this.computeTruth);
    const there = this.survivors();
    if (there.length > 0 && looks === undefined) {
      primary.push({ ...random.pick(there), truth: this.primaryTruth });
      this.report.branchesCompared++;
    }
    const each = async (all: readonly Look[]): Promise<void> => {
      for (const { name, truth, lsn } of all) await this.compare(name, truth, lsn);
    };
    await Promise.all([each(primary), each(compute)]);
  }

  /** What was called uploaded last, and one moment before. */
  private toLookAt(watch: UploadedWatch, name: string, truth: Truth): Look[] {
    const { random, looks } = this.options;
    const { last, sample } = watch.of(name) ?? { sample: [] };
    if (last === undefined) this.note(`"${name}": nothing was called uploaded`);
    const lsns = last === undefined ? [] : [last];
    if (sample.length > 0 && looks === undefined) lsns.push(random.pick(sample));
    return lsns.filter((lsn) => lsn >= truth.from).map((lsn) => ({ name, truth, lsn }));
  }

  private survivors(): readonly Branch[] {
    return [...this.mischief.branches.values()].filter(({ known }) => known === "there");
  }

  private async compare(timeline: string, truth: Truth, lsn: Lsn): Promise<void> {
    const { report } = this;
    const { min_readable_lsn: cutoff } = await this.served(timeline);
    if (lsn < Lsn.parse(cutoff)) {
      report.lsnsLetGo++;
      return;
    }
    await this.compareWith(await recoveredTo(truth, lsn), timeline, lsn);
  }

  private async compareWith(dir: string, timeline: string, lsn: Lsn): Promise<void> {
    const { report, server } = this;
    const { tenant_id: tenant, timeline_id: id } = await this.served(timeline);
    const found = noComparison();
    await compareCluster(dir, { port: server.port, tenant, timeline: id }, lsn, found);
    addComparison(report, found);
    report.lsnsCompared++;
    const { compared, different } = found;
    const where = `"${timeline}" at ${Lsn.format(lsn)}`;
    this.options.say(`${where}: ${compared} pages compared, ${different} different`);
  }

  private served(timeline: string): Promise<TimelineInfo> {
    return this.server.client.of(this.tenant).timeline(timeline);
  }

  /** Ends the load; once more the machine is lost, now with everything uploaded: all is compared. */
  async end(): Promise<void> {
    const { report, primary, mischief, server } = this;
    report.done = mischief.done;
    report.failures = mischief.failures.length;
    mischief.failures.forEach((failure) => this.note(failure));
    await this.primaryBench!.stop();
    await this.endLife();
    await primary.stop();
    const end = await shutdownEnd(primary.dataDir);
    await server.reached(FOLLOWED, ({ positions }) => Lsn.parse(positions.uploaded) >= end);
    await server.lose();
    await server.start();
    await this.attach(server, "fetch");
    await this.compareWith(primary.dataDir, FOLLOWED, end);
    const { problems } = await server.client.check();
    report.checkProblems += problems.length;
    problems.forEach((problem) => this.note(`check: ${problem}`));
    await server.stop();
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
    this.primaryBench?.abandon();
    this.computeBench?.abandon();
    this.journal?.abandon();
    if (this.compute !== undefined) await dropCompute(this.compute.dir);
    await this.server?.cleanup();
    await this.other?.cleanup();
    await this.primary?.cleanup();
    await this.place?.end();
    fs.rmSync(this.home, { recursive: true, force: true });
  }
}
