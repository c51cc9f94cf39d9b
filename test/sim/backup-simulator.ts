// The simulator with a backup: turns and uploads go on beside everything else, with faults between any two
// calls to object storage. Two laws. What was called uploaded is restorable: now and then the objects, and
// nothing else, become a tenant in an empty directory, by the code of `tenant attach`, and it reads as the
// model says. Nothing that is named is deleted or replaced: see watched-storage.ts. At the end another
// server takes the tenant over while this one works on: it loses nothing by that.

import fs from "node:fs";
import path from "node:path";
import { attachTenant } from "../../src/actors/backup-attach.ts";
import type { LocalFacts } from "../../src/actors/backup-turn.ts";
import { Backup, letGoBelow } from "../../src/actors/backup.ts";
import { Family } from "../../src/core/gc.ts";
import type { TimelineId } from "../../src/core/ids.ts";
import { LSN_MAX, Lsn, WAL_SEGMENT_BYTES } from "../../src/core/lsn.ts";
import { PAGE_BYTES } from "../../src/core/page.ts";
import type { MemoryStorage } from "../../src/io/objects/memory.ts";
import { Catalog } from "../../src/store/catalog.ts";
import type { TimelineEntry } from "../../src/store/catalog-entries.ts";
import { catalogPath, layersPath, timelinePath, walPath } from "../../src/store/data-dir.ts";
import { OpenBudget } from "../../src/store/open-budget.ts";
import { PageCache } from "../../src/store/page-cache.ts";
import { PageReader } from "../../src/store/read-page.ts";
import { OpenFiles } from "../../src/store/sealed-file.ts";
import { TimelineStore } from "../../src/store/timeline-store.ts";
import type { Fault } from "../support/faulty-storage.ts";
import { TENANT } from "../support/timeline-world.ts";
import { BackupLife } from "./backup-life.ts";
import { must, verifyAt } from "./law.ts";
import { BASE_LSN } from "./model.ts";
import { type Line, type Say, Simulator } from "./simulator.ts";
import { WatchedStorage } from "./watched-storage.ts";

/** Of 100: what a call to object storage meets. */
const FAULTS: readonly (readonly [Fault, number])[] = [
  ["fail-before", 6],
  ["fail-after", 12],
];
const DRAIN_MAX = 2_000;
const STALE_STEPS = 60;

export interface BackupCounts {
  restored: number;
  /** LSNs that were looked at in what was restored. */
  looks: number;
  turns: number;
  layers: number;
  failures: number;
  /** Calls of a process that was dead already. */
  late: number;
  takenOver: number;
}

export class BackupSimulator extends Simulator {
  readonly backed: BackupCounts = {
    ...{ restored: 0, looks: 0, turns: 0, layers: 0, failures: 0, late: 0, takenOver: 0 },
  };
  private readonly objects = new WatchedStorage(() => this.nowMs);
  private readonly histories = new Map<TimelineId, Line>();
  private readonly promised = new Map<TimelineId, Lsn>();
  private readonly walFrom = new Map<TimelineId, Lsn>();
  private dead: BackupLife[] = [];
  private lives = 0;
  private life = this.newLife();

  private newLife(): BackupLife {
    return new BackupLife({
      ...{ objects: this.objects, catalog: this.catalog, nowMs: () => this.nowMs },
      writer: (++this.lives).toString(16),
      local: (id, put) => this.local(id, put),
      copyWal: (id, from, to) => walOf(id, from, to, this.histories.get(id)!.model.last),
      pathOf: (layer) => this.lines.get(layer.timeline)!.store.map.pathOf(layer),
      onUploaded: (id, lsn) => this.onUploaded(id, lsn),
    });
  }

  private local(id: TimelineId, put: LocalFacts["put"]): LocalFacts | undefined {
    const timeline = this.catalog.timeline(id);
    if (timeline === undefined) return undefined;
    const { ancestor } = timeline;
    return {
      ...{ timeline, put, layers: this.catalog.layers(id), snapshots: this.catalog.snapshots(id) },
      walFrom: this.walFrom.get(id) ?? timeline.baseLsn,
      durable: this.histories.get(id)!.model.last as Lsn,
      archiveFrom: this.random.below(2) === 0 ? LSN_MAX : (timeline.cutoff ?? timeline.baseLsn),
      purge: [],
      ancestorUploaded: ancestor && (this.promised.get(ancestor.id) ?? Lsn.of(0)),
    };
  }

  private onUploaded(id: TimelineId, lsn: Lsn): void {
    const before = this.promised.get(id) ?? 0;
    must(lsn >= before, () => `uploaded goes back: ${before}, ${lsn}`);
    this.promised.set(id, lsn);
    const entry = this.catalog.timeline(id);
    if (entry !== undefined) this.letGo(entry, letGoBelow(entry.sealedLsn, lsn));
  }

  /** WAL files below go: whole segments. */
  private letGo({ id, baseLsn }: TimelineEntry, below: Lsn): void {
    const segment = Math.floor(below / WAL_SEGMENT_BYTES) * WAL_SEGMENT_BYTES;
    const from = Math.max(this.walFrom.get(id) ?? baseLsn, segment);
    this.walFrom.set(id, from as Lsn);
  }

  protected override async act(line: Line, kind: number, say: Say): Promise<void> {
    this.remember();
    const what = this.random.below(100);
    if (what < 30) return super.act(line, kind, say);
    if (what < 40) {
      say("a turn begins");
      this.life.beginTurn(line.id);
      return this.life.quiet();
    }
    if (what < 50) {
      say("a layer goes up");
      this.life.beginLayer(line.id);
      return this.life.quiet();
    }
    if (what < 52) return this.dropWaitingWal(line, say);
    if (what < 56) return this.restore(this.objects.fork(), say);
    if (what < 60) return this.comesLate(say);
    if (what < 63) {
      say("killed");
      return this.restart();
    }
    for (let i = 1 + this.random.below(8); i > 0; i--) await this.letOneGo(this.someFault(), say);
  }

  /** Of each timeline there ever was. */
  private remember(): void {
    for (const one of this.lines.values()) this.histories.set(one.id, one);
  }

  private someFault(): Fault {
    let at = this.random.below(100);
    return FAULTS.find(([, chance]) => (at -= chance) < 0)?.[0] ?? "none";
  }

  private async letOneGo(fault: Fault, say: Say): Promise<void> {
    const { life, random } = this;
    if (life.waiting.length === 0) return;
    say(await life.release(random.below(life.waiting.length), fault));
    must(this.objects.violations.length === 0, () => this.objects.violations.join("; "));
    must(life.fenced === undefined, () => `fenced: ${life.fenced?.message}`);
    if (life.fatal !== undefined) throw life.fatal;
  }

  /** So much WAL waits for object storage that it goes, though it is not there: layers have it. */
  private dropWaitingWal(line: Line, say: Say): void {
    const entry = this.catalog.timeline(line.id)!;
    say("WAL that waited too long goes");
    this.letGo(entry, entry.sealedLsn);
  }

  /** A call of a process that died is done now. */
  private async comesLate(say: Say): Promise<void> {
    const life = this.dead.find(({ waiting }) => waiting.length > 0);
    if (life === undefined) return;
    this.backed.late++;
    say(`late: ${await life.release(this.random.below(life.waiting.length), "lost")}`);
    must(this.objects.violations.length === 0, () => this.objects.violations.join("; "));
  }

  protected override async restart(): Promise<void> {
    this.add(this.life);
    this.dead.push(this.life);
    await super.restart();
    this.life = this.newLife();
  }

  private add({ counts }: BackupLife): void {
    for (const name of ["turns", "layers", "failures"] as const) this.backed[name] += counts[name];
  }

  protected override async settle(): Promise<void> {
    await super.settle();
    this.remember();
    await this.drain();
    await this.restore(this.objects.fork(), this.trace);
    await this.takeOver();
    this.add(this.life);
  }

  /** Without faults all that there is gets uploaded. */
  private async drain(): Promise<void> {
    const isDone = ({ id, model }: Line): boolean => (this.promised.get(id) ?? 0) >= model.last;
    for (let i = 0; ![...this.lines.values()].every(isDone); i++) {
      must(i < DRAIN_MAX, () => "the backup does not come to its end");
      for (const { id } of this.lines.values()) {
        this.life.beginTurn(id);
        this.life.beginLayer(id);
      }
      await this.life.quiet();
      await this.letOneGo("none", this.trace);
    }
  }

  /** Another server attaches; this one goes on as if nothing had happened, until it finds out. */
  private async takeOver(): Promise<void> {
    const { life, random } = this;
    for (const line of this.lines.values()) line.workload.change();
    for (const { id } of this.lines.values()) life.beginTurn(id);
    await life.quiet();
    for (let i = random.below(8); i > 0; i--) await this.letOneGo("none", this.trace);
    const { dataDir } = await this.attach(this.objects);
    for (const line of this.lines.values()) line.workload.change();
    for (let i = 0; i < STALE_STEPS; i++) {
      for (const { id } of this.lines.values()) life.beginTurn(id);
      for (const { id } of this.lines.values()) life.beginLayer(id);
      await life.quiet();
      if (life.waiting.length > 0) {
        this.trace(`stale: ${await life.release(random.below(life.waiting.length), "none")}`);
      }
    }
    const { violations } = this.objects;
    must(violations.length === 0, () => violations.join("; "));
    must(life.fenced !== undefined, () => "the server that was replaced does not find out");
    // Whatever it called uploaded before that, the other one has.
    fs.rmSync(dataDir, { recursive: true, force: true });
    await this.restore(this.objects.fork(), this.trace);
    this.backed.takenOver++;
  }

  // ---- the law

  private async attach(objects: MemoryStorage) {
    const dataDir = this.disk.pathOf(`restored-${++this.backed.restored}`);
    fs.mkdirSync(path.join(dataDir, "tenants"), { recursive: true });
    const files = new OpenFiles(4);
    const backup = new Backup(
      {
        ...{ storage: objects, urgent: objects, intervalMs: 1, archive: true, purgeAgeMs: 0 },
        sourceKeeps: "uploaded",
        warmUpBytes: 0,
        nowMs: () => this.nowMs,
        ready: () => Promise.resolve(),
        resting: () => undefined,
        counts: () => ({ calls: 0, retries: 0, failures: 0, bytesUp: 0, bytesDown: 0 }),
        randomWord: () => "abc",
      },
      // Attaching uploads nothing.
      undefined as never,
      files,
    );
    await attachTenant({ backup, dataDir, tenant: TENANT, warmUpBytes: 0, onProgress: () => {} });
    return { dataDir, backup, files };
  }

  /** Makes a tenant of `objects` alone, and compares it with the model. */
  private async restore(objects: MemoryStorage, say: Say): Promise<void> {
    if (!objects.names.some((name) => name.endsWith("tenant.json"))) return;
    say("restored");
    const { dataDir, backup, files } = await this.attach(objects);
    const catalog = new Catalog(catalogPath(dataDir, TENANT));
    const open = new Map<TimelineId, TimelineStore>();
    try {
      const family = new Family(catalog.timelines());
      for (const entry of ancestorsFirst(catalog.timelines())) {
        const directory = timelinePath(dataDir, TENANT, entry.id);
        for (const layer of catalog.layers(entry.id)) {
          const to = path.join(layersPath(directory), layer.file);
          await backup.fetcher.fetch({ tenant: TENANT, path: to, entry: layer }, "urgent");
        }
        const above = entry.ancestor && open.get(entry.ancestor.id);
        const store = new TimelineStore({
          ...{ id: entry.id, catalog, files, budget: new OpenBudget(), directory },
          ancestor: above && entry.ancestor && { store: above, lsn: entry.ancestor.lsn },
        });
        open.set(entry.id, store);
        this.compare(entry, store, directory, family);
      }
      for (const [id, lsn] of this.promised) {
        const isHere = open.has(id) || this.catalog.timeline(id) === undefined;
        must(isHere, () => `${id} is not restored, though ${lsn} of it was called uploaded`);
      }
    } finally {
      for (const store of open.values()) store.close();
      files.closeAll();
      await catalog.close();
      fs.rmSync(dataDir, { recursive: true, force: true });
    }
  }

  private compare(
    entry: TimelineEntry,
    store: TimelineStore,
    directory: string,
    family: Family<TimelineEntry>,
  ): void {
    const { id, sealedLsn } = entry;
    const { model, log } = this.histories.get(id)!;
    const reached = walEnd(id, walPath(directory), sealedLsn, model.last);
    const promised = this.promised.get(id) ?? entry.baseLsn;
    const name = `restored ${id.slice(-2)}`;
    must(reached >= promised, () => `${name} is at ${reached}, not ${promised}`);
    for (const { lsn, put } of log) if (lsn > sealedLsn && lsn <= reached) put(store.sink);
    const cutoff = family.cutoff(id);
    must(cutoff <= reached, () => `${name} is at ${reached}, and keeps nothing below ${cutoff}`);
    const reader = new PageReader(store, new PageCache(16 * PAGE_BYTES));
    const readable = { last: reached, cutoff, readableFrom: BASE_LSN as Lsn, pinned: [] };
    const between = Lsn.of(cutoff + this.random.below(reached - cutoff + 1));
    for (const at of [reached, promised, between]) {
      if (verifyAt({ name, model, reader, readable }, at, this.random)) this.backed.looks++;
    }
  }
}

function ancestorsFirst(entries: readonly TimelineEntry[]): readonly TimelineEntry[] {
  return [...entries].sort((x, y) => (x.id < y.id ? -1 : 1));
}

/** Stands for a timeline's WAL: each byte says whose it is and where, and none is 0. */
function walOf(id: TimelineId, from: Lsn, to: Lsn, last: number): Uint8Array {
  const bytes = new Uint8Array(to - from);
  const end = Math.min(to, last);
  for (let at = Math.max(from, BASE_LSN); at < end; at++) bytes[at - from] = byteAt(id, at);
  return bytes;
}

const byteAt = (id: TimelineId, lsn: number): number =>
  1 + ((lsn * 7 + (lsn >> 8) * 13 + parseInt(id.slice(-4), 16) * 31) % 255);

/** How far WAL files hold the timeline's WAL without a gap, from its layers on. */
function walEnd(id: TimelineId, directory: string, from: Lsn, last: number): Lsn {
  let at: number = from;
  for (const name of fs.readdirSync(directory).sort()) {
    if (!/^[0-9A-F]{24}$/.test(name)) continue;
    const bytes = fs.readFileSync(path.join(directory, name));
    const begin = parseInt(name.slice(16), 16) * WAL_SEGMENT_BYTES;
    while (at < last && at >= begin && bytes[at - begin] === byteAt(id, at)) at++;
  }
  return Lsn.of(at);
}
