// A tenant's timelines under random writes, branches, leases, merges, moving cutoffs, full disks and
// crashes between any two steps of a disk, with the real store, merge and retention code. After every
// step random reads are compared with the model: what retention permits must be right, all else must be
// refused. See law.ts. Longer than other files because each step may end in a crash, after which every
// part of what is known of a line is taken up again: its steps share that state.

import { assert } from "../../src/core/assert.ts";
import { type MergePlan, mergeAll, planMerge } from "../../src/core/compaction.ts";
import { Family, type Pin, nextCutoff } from "../../src/core/gc.ts";
import { holdPins, notKept } from "../../src/core/holds.ts";
import type { TimelineId } from "../../src/core/ids.ts";
import { type Group, KIND } from "../../src/core/key.ts";
import { LSN_INVALID, LSN_MAX, Lsn } from "../../src/core/lsn.ts";
import { PAGE_BYTES } from "../../src/core/page.ts";
import type { Readable } from "../../src/core/request-lsn.ts";
import type { CatalogChange } from "../../src/store/catalog.ts";
import type { TimelineEntry } from "../../src/store/catalog-entries.ts";
import { layersPath } from "../../src/store/data-dir.ts";
import { MergeJob } from "../../src/store/merge-job.ts";
import type { BegunMerge } from "../../src/store/merge-order.ts";
import type { Retained } from "../../src/store/merge-keep.ts";
import { OpenBudget } from "../../src/store/open-budget.ts";
import { PageCache } from "../../src/store/page-cache.ts";
import { PageReader } from "../../src/store/read-page.ts";
import type { SealJob } from "../../src/store/seal-job.ts";
import { StoreFailed, StoreFull } from "../../src/store/store-errors.ts";
import { TimelineStore } from "../../src/store/timeline-store.ts";
import { type Sealed, checkBounds, checkHistory } from "./bounds.ts";
import { type DiskKind, type Mounted, type SimDisk, openDisk } from "./disk.ts";
import { Crash, Faults } from "./faults.ts";
import { isPermitted, must, verifyAt } from "./law.ts";
import { BASE_LSN, Model } from "./model.ts";
import { Random } from "./random.ts";
import { type Logged, Workload, redo } from "./workload.ts";

const TIMELINES_MAX = 5;
/** More than any merge takes, and more merges than can be due. */
const TURNS_MAX = 1_000;
const MERGES_MAX = 10;
/** Timelines that are looked at after a step. */
const LOOKS = 2;
/** Steps of a disk from the beginning of something to the crash in it, at most. */
const CRASH_IN_MAX = 12;

export interface Line {
  readonly id: TimelineId;
  readonly model: Model;
  readonly log: Logged[];
  readonly workload: Workload;
  store: TimelineStore;
  reader: PageReader;
  /** LSNs that are read for long: base backups. They end with the process. */
  held: Lsn[];
  readonly sealed: Sealed;
}

interface Merging {
  readonly line: Line;
  readonly begun: BegunMerge;
  readonly job: MergeJob;
}

export interface SimulationResult {
  reads: number;
  refused: number;
  merges: number;
  images: number;
  crashes: number;
  full: number;
  failedSyncs: number;
  caughtUp: number;
}

export type Say = (what: string) => void;

export class Simulator {
  protected readonly random: Random;
  protected readonly trace: Say;
  protected readonly faults = new Faults();
  protected readonly disk: SimDisk;
  protected mounted: Mounted;
  private budget = new OpenBudget();
  private cache = new PageCache(64 * PAGE_BYTES);
  protected readonly lines = new Map<TimelineId, Line>();
  private job: Merging | undefined;
  protected nowMs = 0;
  private made = 0;
  protected readonly counts = { reads: 0, refused: 0, merges: 0, images: 0, caughtUp: 0 };

  constructor(seed: number, kind: DiskKind, trace: Say) {
    this.random = new Random(seed);
    this.trace = trace;
    this.disk = openDisk(kind, this.faults, this.random);
    this.mounted = this.disk.mount();
    this.addLine(new Model(), undefined);
  }

  async run(steps: number): Promise<SimulationResult> {
    try {
      for (let i = 0; i < steps; i++) {
        await this.step(i);
        this.verify();
      }
      await this.settle();
      const { crashes, full, failedSyncs } = this.faults.counts;
      return { ...this.counts, crashes, full, failedSyncs };
    } finally {
      await this.disk.unmount(this.mounted);
      this.disk.end();
    }
  }

  protected get catalog() {
    return this.mounted.catalog;
  }

  private async step(i: number): Promise<void> {
    const { random, faults } = this;
    const line = random.pick([...this.lines.values()]);
    const say: Say = (what) =>
      this.trace(`${i}: ${what} on ${line.id.slice(-2)}, at ${line.model.last}`);
    this.nowMs += random.below(1_000);
    if (faults.full ? random.below(3) === 0 : random.below(40) === 0) {
      faults.full = !faults.full;
      say(faults.full ? "the disk is full" : "the disk has room again");
    }
    if (random.below(4) === 0) faults.crashIn = random.below(CRASH_IN_MAX);
    if (random.below(30) === 0) faults.failSyncIn = random.below(3);
    try {
      await this.act(line, random.below(100), say);
    } catch (error) {
      await this.afterFault(error);
    }
    faults.crashIn = faults.failSyncIn = undefined;
  }

  protected async act(line: Line, kind: number, say: Say): Promise<void> {
    const { random } = this;
    if (kind < 35) {
      const changes = 1 + random.below(60);
      say(`${changes} changes`);
      return this.write(line, changes);
    }
    if (kind < 53) {
      say("freeze and seal");
      line.store.freeze(line.model.last as Lsn, LSN_INVALID);
      return this.seal(line);
    }
    if (kind < 60) return this.moveCutoff(line, say);
    if (kind < 64) return this.branch(line, say);
    if (kind < 66) return this.removeLine(line, say);
    if (kind < 70) return this.keep(line, say);
    if (kind < 72) return this.release(line, say);
    if (kind < 74) return this.hold(line, say);
    if (kind < 76) {
      say("restart");
      return this.restart();
    }
    if (kind < 80) return this.catchUp(line, say);
    if (this.job === undefined) {
      say("begin a merge");
      await this.beginMerge(line);
    }
    await this.mergeTurns(1 + random.below(20), say);
  }

  /** What a process does with an error of its disk. */
  private async afterFault(error: unknown): Promise<void> {
    if (error instanceof StoreFull) return this.trace("   refused: the disk is full");
    const ends = error instanceof Crash || error instanceof StoreFailed;
    if (!ends) throw error;
    this.trace(`   the process ends: ${error.message}`);
    await this.restart();
  }

  // ---- writing

  private write(line: Line, changes: number): void {
    const from = line.log.length;
    for (let i = 0; i < changes; i++) line.workload.change();
    for (const { put } of line.log.slice(from)) put(line.store.sink);
  }

  private async seal(line: Line): Promise<void> {
    const { store } = line;
    let job: SealJob | undefined;
    while ((job = store.beginSeal(this.nowMs)) !== undefined) {
      try {
        while (job.step());
        await job.finish();
      } catch (error) {
        if (error instanceof StoreFull) await job.abandon();
        throw error;
      }
      this.noteChains(line);
    }
  }

  private noteChains({ id, sealed }: Line): void {
    const chains = this.catalog.layers(id).map(({ chainRecords }) => chainRecords ?? 0);
    sealed.longestChain = Math.max(sealed.longestChain, ...chains);
  }

  // ---- merging

  private async beginMerge(line: Line): Promise<void> {
    const { random } = this;
    const { tiers } = line.store;
    const family = this.family();
    const cutoff = family.cutoff(line.id);
    const to = random.below(Math.max(tiers.length, 1));
    const any = { from: random.below(to + 1), to, reason: "asked" } as const;
    const plan = random.pick([planMerge(tiers, cutoff), mergeAll(tiers), any]);
    if (plan !== undefined && tiers.length > 0) await this.startMerge(line, plan);
  }

  private async startMerge(line: Line, plan: MergePlan): Promise<void> {
    const { random } = this;
    await this.sealAncestors(line);
    const family = this.family();
    const cutoff = family.cutoff(line.id);
    const pins = family.pins(line.id, (id) => this.ownPins(id)).map(({ lsn }) => lsn);
    let ms = 0;
    // Time passes with every look at the clock: turns end in the middle.
    const steadyMs = (): number => (ms += random.below(3));
    this.begin(line, plan, { cutoff, pins }, steadyMs);
    // A layer that was sealed, and the process died.
    this.noteChains(line);
    line.sealed.mergedAtOnce = Math.max(line.sealed.mergedAtOnce, plan.to - plan.from + 1);
  }

  /** As another thread would do it: from plain values. */
  private begin(line: Line, plan: MergePlan, retained: Retained, steadyMs: () => number): void {
    const { store } = line;
    const begun = store.beginMerge({ plan, retained, nowMs: this.nowMs });
    const order = structuredClone(begun.order);
    const { files } = this.mounted;
    try {
      const job = new MergeJob({ order, files, steadyMs, fault: this.faults.point });
      this.job = { line, begun, job };
    } catch (error) {
      begun.giveUp();
      throw error;
    }
  }

  /** A merge looks at nothing that is not sealed. */
  private async sealAncestors({ store }: Line): Promise<void> {
    for (;;) {
      const ancestor = store.unsealedAncestor;
      if (ancestor === undefined) return;
      const above = this.lines.get(ancestor.id)!;
      above.store.freeze(above.model.last as Lsn, LSN_INVALID);
      await this.seal(above);
    }
  }

  /** Writes pause until compaction has caught up: then reads cost no more than they may. */
  private async catchUp(line: Line, say: Say): Promise<void> {
    say("compaction catches up");
    await this.mergeTurns(TURNS_MAX, say);
    line.store.freeze(line.model.last as Lsn, LSN_INVALID);
    await this.seal(line);
    for (let merges = 0; ; merges++) {
      const plan = planMerge(line.store.tiers, this.family().cutoff(line.id));
      if (plan === undefined) break;
      must(merges < MERGES_MAX, () => `compaction goes on for ever: ${plan.reason}`);
      await this.startMerge(line, plan);
      await this.mergeTurns(TURNS_MAX, say);
    }
    // A branch reads on in its ancestor, in the midst of what was not merged at its branch point.
    if (line.store.ancestor === undefined) {
      checkBounds(line.store, line.model);
      const at = this.someLsn(line);
      const isKept = at >= this.family().cutoff(line.id);
      if (isKept) checkHistory(line.store, line.model, at, line.sealed);
    }
    this.counts.caughtUp++;
  }

  private async mergeTurns(turns: number, say: Say): Promise<void> {
    try {
      for (let i = 0; i < turns && this.job !== undefined; i++) {
        const { job, begun } = this.job;
        const turn = job.step();
        if (turn.kind === "redo") job.give(turn.requests.map(redo));
        else if (turn.kind === "close") await job.closeLayer();
        else if (turn.kind === "written") {
          await begun.enter(structuredClone(turn.merged));
          this.job = undefined;
          this.counts.merges++;
          this.counts.images += job.counts.images;
          say(`merged ${JSON.stringify(job.counts)}`);
        }
      }
    } catch (error) {
      const { job, begun } = this.job!;
      this.job = undefined;
      if (error instanceof StoreFull) {
        await job.abandon();
        begun.giveUp();
      }
      throw error;
    }
  }

  // ---- retention

  private family(): Family<TimelineEntry> {
    return new Family(this.catalog.timelines());
  }

  private holdPins(id: TimelineId): readonly Pin[] {
    return holdPins(this.catalog.holds(id), this.nowMs);
  }

  private ownPins(id: TimelineId): readonly Pin[] {
    const held = this.lines.get(id)?.held ?? [];
    return [...this.holdPins(id), ...held.map((lsn): Pin => ({ lsn, reason: { kind: "reader" } }))];
  }

  private moveCutoff(line: Line, say: Say): void {
    const entry = this.catalog.timeline(line.id)!;
    const cutoff = nextCutoff({
      cutoff: this.family().cutoff(line.id),
      atWindowStart: this.someLsn(line),
      sealed: entry.sealedLsn,
      visible: line.model.last as Lsn,
      walBytes: this.random.below(500),
    });
    say(`the cutoff moves to ${cutoff}`);
    this.change((change) => change.putTimeline({ ...entry, cutoff }));
  }

  /** A lease or a snapshot is made. */
  private keep(line: Line, say: Say): void {
    const lsn = this.someLsn(line);
    const readable = this.readable(line, this.family());
    const isKept = notKept(lsn, readable.cutoff, readable.pinned!, "") === undefined;
    must(isKept === isPermitted(readable, lsn), () => `${lsn} can be held exactly when it is read`);
    if (!isKept) return;
    const timeline = line.id;
    const isLease = this.random.below(2) === 0;
    say(`${isLease ? "lease" : "snapshot"} of ${lsn}`);
    const expiresAtMs = this.nowMs + this.random.below(30_000);
    const name = `at-${this.random.below(5)}`;
    this.change((change) => {
      if (isLease) change.putLease({ timeline, lsn, owner: "sim", expiresAtMs });
      else change.putSnapshot({ timeline, lsn, name, createdAtMs: this.nowMs });
    });
  }

  private release(line: Line, say: Say): void {
    const { leases, snapshots } = this.catalog.holds(line.id);
    if (leases.length + snapshots.length === 0) return;
    const lease = leases.length > 0 ? this.random.pick(leases) : undefined;
    const snapshot = snapshots.length > 0 ? this.random.pick(snapshots) : undefined;
    say(`released: ${lease?.lsn ?? "no lease"}, ${snapshot?.lsn ?? "no snapshot"}`);
    this.change((change) => {
      if (lease !== undefined) change.removeLease(lease);
      if (snapshot !== undefined) change.removeSnapshot(snapshot);
    });
  }

  /** A base backup begins, or all of them end. */
  private hold(line: Line, say: Say): void {
    const lsn = this.someLsn(line);
    if (line.held.length > 1) line.held = [];
    else if (isPermitted(this.readable(line, this.family()), lsn)) line.held.push(lsn);
    say(`${line.held.join(", ") || "nothing"} is held`);
  }

  private branch(line: Line, say: Say): void {
    const lsn = this.someLsn(line);
    if (this.lines.size >= TIMELINES_MAX) return;
    if (!isPermitted(this.readable(line, this.family()), lsn)) return;
    say(`branch at ${lsn}`);
    this.addLine(line.model.branch(lsn), { id: line.id, lsn });
  }

  private async removeLine(line: Line, say: Say): Promise<void> {
    const family = this.family();
    if (line === this.lines.values().next().value) return;
    if (family.childrenOf(line.id).length > 0) return;
    say("removed");
    if (this.job?.line === line) {
      const { job, begun } = this.job;
      this.job = undefined;
      await job.abandon();
      begun.giveUp();
    }
    this.change((change) => change.removeTimeline(line.id));
    line.store.close();
    this.lines.delete(line.id);
    if (this.random.below(2) === 0) this.disk.removeTimeline(line.id);
    else await this.restart(); // the crash between the two: an orphan directory
  }

  /** A change that a crash may follow: then it has happened, or it has not. */
  private change(edit: (change: CatalogChange) => void): void {
    this.catalog.change(edit);
  }

  private someLsn({ model }: Line): Lsn {
    return Lsn.of(BASE_LSN + this.random.below(model.last - BASE_LSN + 1));
  }

  private readable(line: Line, family: Family<TimelineEntry>): Readable {
    const last = line.model.last as Lsn;
    const pinned = this.holdPins(line.id).map(({ lsn }) => lsn);
    return { last, cutoff: family.cutoff(line.id), readableFrom: BASE_LSN as Lsn, pinned };
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
    const log: Logged[] = [];
    const workload = new Workload(this.random, model, log);
    const line = (): Line => {
      const store = this.open(entry);
      const reader = new PageReader(store, this.cache);
      const sealed = { longestChain: 0, mergedAtOnce: 1 };
      return { id, model, log, workload, store, reader, held: [], sealed };
    };
    try {
      this.change((change) => change.putTimeline(entry));
    } finally {
      // The process may die before the answer: the timeline is there all the same.
      if (this.catalog.timeline(id) !== undefined) this.lines.set(id, line());
    }
  }

  private open({ id, ancestor }: TimelineEntry): TimelineStore {
    const above = ancestor && this.lines.get(ancestor.id);
    return new TimelineStore({
      ...{ id, catalog: this.catalog, files: this.mounted.files, budget: this.budget },
      directory: this.disk.pathOf(id),
      ancestor: above && ancestor && { store: above.store, lsn: ancestor.lsn },
      sealFault: this.faults.point,
      mergeFault: this.faults.point,
    });
  }

  /** Forgets all that is in memory, as a crash does; what was not sealed comes again. */
  protected async restart(): Promise<void> {
    this.job = undefined;
    this.faults.crashIn = this.faults.failSyncIn = undefined;
    await this.disk.unmount(this.mounted);
    this.mounted = this.disk.mount();
    this.budget = new OpenBudget();
    this.cache = new PageCache(64 * PAGE_BYTES);
    for (const line of this.lines.values()) {
      const entry = this.catalog.timeline(line.id);
      if (entry === undefined) {
        this.lines.delete(line.id); // deleted, and killed before anyone was told
        this.disk.removeTimeline(line.id);
        continue;
      }
      line.held = [];
      line.store = this.open(entry);
      line.reader = new PageReader(line.store, this.cache);
      for (const { lsn, put } of line.log) if (lsn > entry.sealedLsn) put(line.store.sink);
      this.checkFiles(line);
    }
  }

  /** Only what the catalog names lies there. */
  private checkFiles(line: Line): void {
    const known = new Set(this.catalog.layers(line.id).map(({ file }) => file));
    const found = this.disk.names(layersPath(this.disk.pathOf(line.id)));
    must(found.length === known.size, () => `orphans: ${found.join(" ")}`);
    for (const name of found) must(known.has(name), () => `orphan ${name}`);
  }

  // ---- the law

  private verify(): void {
    const family = this.family();
    const lines = [...this.lines.values()];
    for (let i = 0; i < LOOKS; i++) {
      const line = this.random.pick(lines);
      const subject = {
        ...{ name: line.id.slice(-2), model: line.model, reader: line.reader },
        readable: this.readable(line, family),
      };
      const { pinned = [] } = subject.readable;
      const lsns = [this.someLsn(line), line.model.last as Lsn];
      if (pinned.length > 0) lsns.push(this.random.pick(pinned));
      // A backup reads on, whatever became of the cutoff.
      const held = line.held.map((lsn) => ({
        ...subject,
        readable: { ...subject.readable, cutoff: lsn },
      }));
      for (const each of held) verifyAt(each, each.readable.cutoff, this.random);
      for (const at of lsns) {
        if (verifyAt(subject, at, this.random)) this.counts.reads++;
        else this.counts.refused++;
      }
    }
  }

  /** Once writes stop, space converges: one tier, no superseded version, and every read still right. */
  protected async settle(): Promise<void> {
    this.faults.full = false;
    if (this.job !== undefined) await this.mergeTurns(TURNS_MAX, () => undefined);
    this.nowMs += 1_000_000; // all leases have ended
    for (const line of [...this.lines.values()].reverse()) {
      line.held = [];
      line.store.freeze(line.model.last as Lsn, LSN_INVALID);
      await this.seal(line);
      const entry = this.catalog.timeline(line.id)!;
      const { snapshots } = this.catalog.holds(line.id);
      this.change((change) => {
        change.putTimeline({ ...entry, cutoff: line.model.last as Lsn });
        for (const snapshot of snapshots) change.removeSnapshot(snapshot);
      });
    }
    const family = this.family();
    for (const line of this.lines.values()) {
      const plan = mergeAll(line.store.tiers);
      if (plan === undefined) continue;
      const pins = family.pins(line.id, () => []).map(({ lsn }) => lsn);
      const retained = { cutoff: family.cutoff(line.id), pins };
      this.begin(line, plan, retained, () => 0);
      await this.mergeTurns(TURNS_MAX, () => undefined);
      assert(this.job === undefined, "a merge ends");
      this.checkSpace(line, pins);
    }
    this.verify();
    await this.restart();
    this.verify();
  }

  private checkSpace({ store }: Line, pins: readonly Lsn[]): void {
    const [tier] = store.tiers;
    // A copy of a database reads its source at its own moment.
    let copies = 0;
    const databases: Group[] = [];
    store.scan(KIND.DB_COPY, undefined, undefined, (group) => databases.push(group));
    for (const group of databases) {
      store.visit(group, 0, LSN_MAX, LSN_INVALID, () => ++copies > 0);
    }
    const readers = new Set(pins).size + 1 + copies;
    // A chain of one image and a few records for each reader of a key; 64 native operations.
    const most = (tier?.keys ?? 0) * readers * 65;
    must((tier?.versions ?? 0) <= most, () => `space converges: ${tier?.versions} versions`);
    const problems: string[] = [];
    for (const { layer } of store.map.layers) {
      layer.check((...found) => problems.push(found.join(" ")));
    }
    must(problems.length === 0, () => problems.join("\n"));
  }
}
