// A tenant's timelines under random writes, branches, leases, merges, moving cutoffs and crashes, with
// the real store, merge and retention code over real layer files. After every step random reads are
// compared with the model: what retention permits must be right, all else must be refused.

import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import { assert } from "../../src/core/assert.ts";
import { mergeAll, planMerge } from "../../src/core/compaction.ts";
import { Family, type Pin, nextCutoff } from "../../src/core/gc.ts";
import type { TimelineId } from "../../src/core/ids.ts";
import { KIND } from "../../src/core/key.ts";
import { LSN_INVALID, Lsn } from "../../src/core/lsn.ts";
import { PAGE_BYTES } from "../../src/core/page.ts";
import { planRead } from "../../src/core/request-lsn.ts";
import { Catalog } from "../../src/store/catalog.ts";
import type { TimelineEntry } from "../../src/store/catalog-entries.ts";
import { removeTimelineFiles } from "../../src/store/data-dir.ts";
import type { MergeJob, MergePoint } from "../../src/store/merge-job.ts";
import { OpenBudget } from "../../src/store/open-budget.ts";
import { PageCache } from "../../src/store/page-cache.ts";
import { PageReader, isRedo } from "../../src/store/read-page.ts";
import { MISSING } from "../../src/store/relations.ts";
import type { SealPoint } from "../../src/store/seal-job.ts";
import { OpenFiles } from "../../src/store/sealed-file.ts";
import { TimelineStore } from "../../src/store/timeline-store.ts";
import { BASE_LSN, Model } from "./model.ts";
import { Random } from "./random.ts";
import {
  BLOCKS_MAX,
  DBS,
  type Logged,
  RELS,
  SLRU_BLOCKS,
  SPC,
  VALUES,
  Workload,
  pageName,
  redo,
  slruName,
} from "./workload.ts";

const MERGE_POINTS: readonly MergePoint[] = [
  ...(["begun", "written", "synced", "renamed", "entered", "unlinked"] as const),
];
const SEAL_POINTS: readonly SealPoint[] = ["begun", "written", "synced", "renamed", "entered"];
const TIMELINES_MAX = 5;
const READS = 2;

class Crash extends Error {}

interface Line {
  readonly id: TimelineId;
  readonly model: Model;
  readonly log: Logged[];
  readonly workload: Workload;
  store: TimelineStore;
  reader: PageReader;
}

export interface SimulationResult {
  readonly reads: number;
  readonly refused: number;
  readonly merges: number;
  readonly crashes: number;
  readonly images: number;
}

export class Simulator {
  private readonly random: Random;
  private readonly directory: string;
  private readonly trace: (line: string) => void;
  private catalog: Catalog;
  private files = new OpenFiles(4);
  private budget = new OpenBudget();
  private cache = new PageCache(64 * PAGE_BYTES);
  private readonly lines = new Map<TimelineId, Line>();
  private job: { readonly line: Line; readonly job: MergeJob } | undefined;
  private crashAt: string | undefined;
  private nowMs = 0;
  private made = 0;
  private readonly counts = { reads: 0, refused: 0, merges: 0, crashes: 0, images: 0 };

  constructor(seed: number, trace: (line: string) => void) {
    this.random = new Random(seed);
    this.trace = trace;
    const root = fs.existsSync("/dev/shm") ? "/dev/shm" : os.tmpdir();
    this.directory = fs.mkdtempSync(path.join(root, "pageserver-sim-"));
    this.catalog = new Catalog(`${this.directory}/catalog`);
    this.addLine(new Model(), undefined);
  }

  async run(steps: number): Promise<SimulationResult> {
    try {
      for (let i = 0; i < steps; i++) {
        await this.step(i);
        this.verify();
      }
      await this.settle();
      return this.counts;
    } finally {
      this.files.closeAll();
      await this.catalog.close();
      fs.rmSync(this.directory, { recursive: true, force: true });
    }
  }

  private async step(i: number): Promise<void> {
    const { random } = this;
    const line = random.pick([...this.lines.values()]);
    const kind = random.below(100);
    const say = (what: string): void =>
      this.trace(`${i}: ${what} on ${line.id.slice(-2)}, at ${line.model.last}`);
    this.nowMs += random.below(1_000);
    if (kind < 35) {
      const changes = 1 + random.below(60);
      say(`${changes} changes`);
      return this.write(line, changes);
    }
    if (kind < 55) {
      say("freeze and seal");
      line.store.freeze(line.model.last as Lsn, LSN_INVALID);
      return this.crashable(SEAL_POINTS, () => this.seal(line));
    }
    if (kind < 62) return this.moveCutoff(line, say);
    if (kind < 66) return this.branch(line, say);
    if (kind < 68) return this.removeLine(line, say);
    if (kind < 73) return this.lease(line, say);
    if (kind < 75) {
      say("restart");
      return this.restart();
    }
    if (this.job === undefined) {
      say("begin a merge");
      this.beginMerge(line);
    }
    await this.crashable(MERGE_POINTS, () => this.mergeTurns(1 + random.below(20), say));
  }

  // ---- writing

  private write(line: Line, changes: number): void {
    const from = line.log.length;
    for (let i = 0; i < changes; i++) line.workload.change();
    for (const { put } of line.log.slice(from)) put(line.store.sink);
  }

  private async seal({ store }: Line): Promise<void> {
    for (let job = store.beginSeal(this.nowMs); job !== undefined;) {
      while (job.step());
      await job.finish();
      job = store.beginSeal(this.nowMs);
    }
  }

  // ---- merging

  private beginMerge(line: Line): void {
    const { random } = this;
    const { tiers } = line.store;
    const family = this.family();
    const cutoff = family.cutoff(line.id);
    const to = random.below(Math.max(tiers.length, 1));
    const any = { from: random.below(to + 1), to, reason: "asked" } as const;
    const plan = random.pick([planMerge(tiers, cutoff), mergeAll(tiers), any]);
    if (plan === undefined || tiers.length === 0) return;
    const pins = family.pins(line.id, (id) => this.ownPins(id)).map(({ lsn }) => lsn);
    const { store, reader } = line;
    let ms = 0;
    const job = store.beginMerge({
      ...{ plan, reader, nowMs: this.nowMs },
      retained: { cutoff, pins },
      // Time passes with every look at the clock: turns end in the middle.
      steadyMs: () => (ms += random.below(3)),
    });
    this.job = { line, job };
  }

  private async mergeTurns(turns: number, say: (what: string) => void): Promise<void> {
    for (let i = 0; i < turns && this.job !== undefined; i++) {
      const { job } = this.job;
      const turn = job.step();
      if (turn.kind === "redo") job.give(turn.requests.map(redo));
      else if (turn.kind === "close") await job.closeLayer();
      else if (turn.kind === "written") {
        this.job = undefined;
        job.enter();
        this.counts.merges++;
        this.counts.images += job.counts.images;
        say(`merged ${JSON.stringify(job.counts)}`);
      }
    }
  }

  /** Runs it, sometimes with a crash at one of the points. */
  private async crashable(points: readonly string[], work: () => Promise<void>): Promise<void> {
    const { random } = this;
    this.crashAt = random.below(4) === 0 ? random.pick(points) : undefined;
    try {
      await work();
    } catch (error) {
      if (!(error instanceof Crash)) throw error;
      this.trace(`   crash when ${this.crashAt}`);
      this.counts.crashes++;
      await this.restart();
    } finally {
      this.crashAt = undefined;
    }
  }

  private readonly fault = (point: string): void => {
    if (point === this.crashAt) throw new Crash(point);
  };

  // ---- retention

  private family(): Family<TimelineEntry> {
    return new Family(this.catalog.timelines());
  }

  private ownPins(id: TimelineId): readonly Pin[] {
    return this.catalog
      .leases(id)
      .filter(({ expiresAtMs }) => expiresAtMs > this.nowMs)
      .map(({ lsn, owner, expiresAtMs }) => ({
        lsn,
        reason: { kind: "lease" as const, owner, expiresAtMs },
      }));
  }

  private moveCutoff(line: Line, say: (what: string) => void): void {
    const entry = this.catalog.timeline(line.id)!;
    const cutoff = nextCutoff({
      cutoff: this.family().cutoff(line.id),
      atWindowStart: this.someLsn(line),
      sealed: entry.sealedLsn,
      visible: line.model.last as Lsn,
      walBytes: this.random.below(500),
    });
    say(`the cutoff moves to ${cutoff}`);
    this.catalog.change((change) => change.putTimeline({ ...entry, cutoff }));
  }

  private lease(line: Line, say: (what: string) => void): void {
    const lsn = this.someLsn(line);
    if (!this.permitted(line, lsn)) return;
    say(`lease of ${lsn}`);
    const expiresAtMs = this.nowMs + this.random.below(30_000);
    this.catalog.change((change) =>
      change.putLease({ timeline: line.id, lsn, owner: "sim", expiresAtMs }),
    );
  }

  private branch(line: Line, say: (what: string) => void): void {
    const lsn = this.someLsn(line);
    if (this.lines.size >= TIMELINES_MAX || !this.permitted(line, lsn)) return;
    say(`branch at ${lsn}`);
    this.addLine(line.model.branch(lsn), { id: line.id, lsn });
  }

  private async removeLine(line: Line, say: (what: string) => void): Promise<void> {
    const family = this.family();
    if (line.model === this.first.model || family.childrenOf(line.id).length > 0) return;
    say("removed");
    if (this.job?.line === line) {
      const { job } = this.job;
      this.job = undefined;
      await job.abandon();
    }
    this.catalog.change((change) => change.removeTimeline(line.id));
    line.store.close();
    this.lines.delete(line.id);
    if (this.random.below(2) === 0) removeTimelineFiles(this.pathOf(line.id));
    else await this.restart(); // the crash between the two: an orphan directory
  }

  private get first(): Line {
    return this.lines.values().next().value!;
  }

  private someLsn({ model }: Line): Lsn {
    return Lsn.of(BASE_LSN + this.random.below(model.last - BASE_LSN + 1));
  }

  private readable(line: Line): Parameters<typeof planRead>[1] {
    const cutoff = this.family().cutoff(line.id);
    const last = line.model.last as Lsn;
    const pinned = this.ownPins(line.id).map(({ lsn }) => lsn);
    return { last, cutoff, readableFrom: BASE_LSN as Lsn, pinned };
  }

  private permitted(line: Line, lsn: Lsn): boolean {
    const request = { lsn, notModifiedSince: Math.min(lsn, line.model.last) as Lsn };
    return planRead(request, this.readable(line)).kind === "read";
  }

  // ---- life

  private addLine(model: Model, ancestor: TimelineEntry["ancestor"]): void {
    const id = (++this.made).toString(16).padStart(32, "0") as TimelineId;
    const at = (ancestor?.lsn ?? BASE_LSN) as Lsn;
    const entry: TimelineEntry = {
      id,
      name: `line-${this.made}`,
      ...(ancestor !== undefined && { ancestor }),
      ...{ pgVersion: 15, tli: 1, systemId: "1", state: "active", createdAtMs: 0 },
      ...{ baseLsn: at, readableFrom: at, sealedLsn: at, sealedPrev: LSN_INVALID },
    };
    this.catalog.change((change) => change.putTimeline(entry));
    const store = this.open(entry);
    const log: Logged[] = [];
    const workload = new Workload(this.random, model, log);
    const reader = new PageReader(store, this.cache);
    this.lines.set(id, { id, model, log, workload, store, reader });
  }

  private pathOf(id: TimelineId): string {
    return `${this.directory}/timelines/${id}`;
  }

  private open({ id, ancestor }: TimelineEntry): TimelineStore {
    const above = ancestor && this.lines.get(ancestor.id);
    return new TimelineStore({
      id,
      directory: this.pathOf(id),
      catalog: this.catalog,
      files: this.files,
      budget: this.budget,
      ancestor: above && ancestor && { store: above.store, lsn: ancestor.lsn },
      sealFault: this.fault,
      mergeFault: this.fault,
    });
  }

  /** Forgets all that is in memory, as a crash does; what was not sealed comes again. */
  private async restart(): Promise<void> {
    this.job = undefined;
    this.files.closeAll();
    await this.catalog.close();
    this.catalog = new Catalog(`${this.directory}/catalog`);
    this.files = new OpenFiles(4);
    this.budget = new OpenBudget();
    this.cache = new PageCache(64 * PAGE_BYTES);
    for (const name of fs.readdirSync(`${this.directory}/timelines`)) {
      if (this.catalog.timeline(name as TimelineId) === undefined) {
        fs.rmSync(`${this.directory}/timelines/${name}`, { recursive: true });
      }
    }
    for (const line of this.lines.values()) {
      const entry = this.catalog.timeline(line.id)!;
      line.store = this.open(entry);
      line.reader = new PageReader(line.store, this.cache);
      for (const { lsn, put } of line.log) if (lsn > entry.sealedLsn) put(line.store.sink);
      this.checkFiles(line);
    }
  }

  /** Only what the catalog names lies there. */
  private checkFiles(line: Line): void {
    const known = new Set(this.catalog.layers(line.id).map(({ file }) => file));
    const found = fs
      .readdirSync(`${this.pathOf(line.id)}/layers`)
      .filter((name) => !name.endsWith("-lock"));
    assert(found.length === known.size, `orphans: ${found.join(" ")}`);
    for (const name of found) assert(known.has(name), `orphan ${name}`);
  }

  // ---- the law

  private verify(): void {
    for (const line of this.lines.values()) {
      for (let i = 0; i < READS; i++) this.verifyAt(line, this.someLsn(line));
      this.verifyAt(line, line.model.last as Lsn);
      const pins = this.ownPins(line.id);
      if (pins.length > 0) this.verifyAt(line, this.random.pick(pins).lsn);
    }
  }

  private verifyAt(line: Line, at: Lsn): void {
    const readable = this.readable(line);
    const may = at >= readable.cutoff || readable.pinned!.includes(at);
    assert(this.permitted(line, at) === may, `a read at ${at} is permitted exactly when it may be`);
    if (!may) {
      this.counts.refused++;
      return;
    }
    this.counts.reads++;
    const { model, reader } = line;
    const page = new Uint8Array(PAGE_BYTES);
    const where = `${line.id.slice(-2)} at ${at}`;
    for (const db of DBS) {
      for (const rel of RELS) {
        const tag = { spc: SPC, db, rel, fork: 0 };
        const size = model.size(`${db}/${rel}`, at);
        const found = reader.relations.relSize(tag, at);
        assert(found === (size < 0 ? MISSING : size), `size of ${db}/${rel}, ${where}: ${found}`);
        if (size < 0) continue;
        const block = this.random.below(BLOCKS_MAX);
        const read = reader.readPage(tag, block, at, page, 0);
        let got: Uint8Array = page;
        if (read !== undefined) {
          assert(isRedo(read), `page ${db}/${rel}/${block}, ${where}: ${JSON.stringify(read)}`);
          const made = redo(read);
          assert(made.ok, "the simulator's redo does not fail");
          got = made.page;
          reader.remember(tag, block, read, got);
        }
        const truth =
          block < size ? model.page(pageName(db, rel, block), at) : new Uint8Array(PAGE_BYTES);
        assert(Buffer.compare(got, truth) === 0, `page ${db}/${rel}/${block} differs, ${where}`);
      }
    }
    this.verifyNative(line, at, where);
  }

  private verifyNative({ model, reader }: Line, at: Lsn, where: string): void {
    const blocks = model.size("slru", at);
    assert(reader.relations.slruSize(0, 0, at) === blocks, `SLRU size, ${where}`);
    if (blocks > 0) {
      const read = reader.readSlruSegment(0, 0, at);
      assert(read.ok, `SLRU, ${where}: ${JSON.stringify(read)}`);
      for (let block = 0; block < Math.min(blocks, SLRU_BLOCKS); block++) {
        const page = read.value.subarray(block * PAGE_BYTES, (block + 1) * PAGE_BYTES);
        const truth = model.page(slruName(block), at);
        assert(Buffer.compare(page, truth) === 0, `SLRU block ${block} differs, ${where}`);
      }
    }
    for (const key of VALUES) {
      const group = { kind: KIND.TWO_PHASE, a: 0, b: 0, c: key, d: 0 };
      const value = reader.store.value(group, 0, at)?.value;
      const text = value && Buffer.from(value).toString();
      assert(text === model.value(key, at), `value ${key}, ${where}: ${text}`);
    }
  }

  /** Once writes stop, space converges: one tier, no superseded version, and every read still right. */
  private async settle(): Promise<void> {
    if (this.job !== undefined) await this.mergeTurns(1_000, () => undefined);
    this.nowMs += 1_000_000; // all leases have ended
    for (const line of [...this.lines.values()].reverse()) {
      line.store.freeze(line.model.last as Lsn, LSN_INVALID);
      await this.seal(line);
      const entry = this.catalog.timeline(line.id)!;
      this.catalog.change((change) =>
        change.putTimeline({ ...entry, cutoff: line.model.last as Lsn }),
      );
    }
    const family = this.family();
    for (const line of this.lines.values()) {
      const plan = mergeAll(line.store.tiers);
      if (plan === undefined) continue;
      const pins = family.pins(line.id, () => []).map(({ lsn }) => lsn);
      const retained = { cutoff: family.cutoff(line.id), pins };
      const { store, reader } = line;
      const job = store.beginMerge({ plan, reader, retained, nowMs: 0, steadyMs: () => 0 });
      this.job = { line, job };
      await this.mergeTurns(1_000, () => undefined);
      assert(this.job === undefined, "a merge ends");
      const [tier] = line.store.tiers;
      const readers = new Set(pins).size + 1;
      // A chain of one image and at most 16 records for each reader of a key; 64 native operations.
      const most = (tier?.keys ?? 0) * readers * 65;
      assert((tier?.versions ?? 0) <= most, `space converges: ${tier?.versions} versions`);
      const problems: string[] = [];
      for (const { layer } of store.map.layers)
        layer.check((...found) => problems.push(found.join(" ")));
      assert(problems.length === 0, problems.join("\n"));
    }
    this.verify();
    await this.restart();
    this.verify();
  }
}
