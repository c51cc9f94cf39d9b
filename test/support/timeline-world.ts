// A data directory with one tenant and one timeline, live: real catalog, layers, WAL files and actors;
// WAL made by hand (page images, so that no redo is needed), a receiver that a test drives, and a
// redo pool that a test answers for. Closed and opened again as a process would be.

import { randomBytes } from "node:crypto";
import { Backup } from "../../src/actors/backup.ts";
import { spawnUploader } from "../../src/actors/uploader.ts";
import type { ObjectStorage } from "../../src/core/object-storage.ts";
import { Directory, type TimelineHandle } from "../../src/actors/directory.ts";
import type { RedoPoolMsg } from "../../src/actors/redo-pool.ts";
import {
  type ActorRef,
  type ActorSystem,
  type CrashReport,
  ask,
  spawn,
  startSystem,
} from "../../src/actors/runtime.ts";
import { type OpenMergeThread, spawnMerger } from "../../src/actors/merger.ts";
import { type SealerDeps, spawnSealer } from "../../src/actors/sealer.ts";
import type { TenantMsg } from "../../src/actors/tenant.ts";
import type { TenantShared } from "../../src/actors/tenant-timelines.ts";
import { type TenantsMsg, spawnTenants } from "../../src/actors/tenants.ts";
import type { TimelineMsg, WalProgressMsg, WalStart } from "../../src/actors/timeline-messages.ts";
import { TimelineImport } from "../../src/app/import.ts";
import type { AdminError } from "../../src/core/admin-error.ts";
import { parseTenantId, parseTimelineId } from "../../src/core/ids.ts";
import { KIND } from "../../src/core/key.ts";
import { LSN_MAX, Lsn } from "../../src/core/lsn.ts";
import { PAGE_BYTES, type RelTag } from "../../src/core/page.ts";
import type { PageAnswer, PageRequest } from "../../src/core/page-batch.ts";
import type { RestartPolicy } from "../../src/core/restart-budget.ts";
import type { Result } from "../../src/core/result.ts";
import { systemClock } from "../../src/io/clock.ts";
import { createLog } from "../../src/io/log.ts";
import { buildCheckPoint } from "../../src/protocol/control-file.ts";
import { RM, XLOG } from "../../src/protocol/wal/rmgr.ts";
import type { RecordSpec } from "../../src/protocol/wal/writer.ts";
import { OpenBudget } from "../../src/store/open-budget.ts";
import { PageCache } from "../../src/store/page-cache.ts";
import { OpenFiles } from "../../src/store/sealed-file.ts";
import { CHECKPOINT } from "./control.ts";
import { mergeInPlace } from "./in-place-thread.ts";
import { until } from "./replication.ts";
import { WalBuilder } from "./wal-builder.ts";

export const TENANT = parseTenantId("a".repeat(32));
export const MAIN = parseTimelineId("b".repeat(32));
/** Behind the header of a segment's first page. */
export const BASE = Lsn.of(0x200_0028);
export const REL: RelTag = { spc: 1663, db: 5, rel: 16_384, fork: 0 };
const QUICK: RestartPolicy = { crashesMax: 3, windowMs: 60_000, backOffMs: 5, backOffMsMax: 5 };
const ASK_MS = 10_000;

/** A page full of `seed`; where PostgreSQL keeps the LSN it gets one when it is read. */
export const imageOf = (seed: number): Uint8Array => new Uint8Array(PAGE_BYTES).fill(seed & 255);

/** A record that restores a page. */
export const pageImage = (block: number, seed: number): RecordSpec => ({
  rmid: RM.XLOG,
  info: XLOG.FPI,
  blocks: [{ ...REL, block, image: { bytes: imageOf(seed) } }],
});

/** A sound record that says something that cannot be followed: it changes a free space map. */
export const unsupported: RecordSpec = {
  rmid: RM.BTREE,
  info: 0,
  blocks: [
    { ...REL, block: 0, image: { bytes: imageOf(66) } },
    { ...REL, fork: 1, block: 0, data: new Uint8Array(4) },
  ],
};

export interface WorldOptions {
  readonly budget?: OpenBudget;
  readonly clock?: Partial<TenantShared["clock"]>;
  readonly restart?: RestartPolicy;
  /** The thread that seals: without it timelines do it in turns of their own. */
  readonly sealer?: SealerDeps["open"];
  /** The thread that merges: without it the same work is done here. */
  readonly merger?: OpenMergeThread;
  /** Where backups go: none without it. */
  readonly storage?: ObjectStorage;
  /** How many timelines are kept loaded whether somebody uses them or not. */
  readonly timelinesAwake?: number;
}

export class TimelineWorld {
  readonly system: ActorSystem;
  readonly shared: TenantShared;
  readonly tenants: ActorRef<TenantsMsg>;
  readonly crashes: CrashReport[] = [];
  readonly fatal: Error[] = [];
  readonly lines: { level: number; msg: string; reason?: string }[] = [];
  /** What timelines asked of WAL redo. */
  readonly redo: Extract<RedoPoolMsg, { kind: "redo" }>[] = [];

  constructor(dataDir: string, options: WorldOptions = {}) {
    this.system = startSystem("world", (report) => this.crashes.push(report));
    const log = createLog({
      level: "info",
      to: { write: (line) => this.lines.push(JSON.parse(line) as (typeof this.lines)[number]) },
      pretty: false,
    });
    const restart = options.restart ?? QUICK;
    const redo: ActorRef<RedoPoolMsg> = {
      path: "redo",
      scope: this.system.root,
      tell: (msg) => void (msg.kind === "redo" && this.redo.push(msg)),
      stop: () => {},
      stopped: () => false,
    };
    const uploader = spawnUploader(this.system.root, QUICK);
    const { storage, sealer: open } = options;
    const files = new OpenFiles();
    const backup =
      storage &&
      new Backup(
        {
          ...{ storage, urgent: storage, intervalMs: 10, archive: true, purgeAgeMs: 3_600_000 },
          sourceKeeps: "uploaded",
          warmUpBytes: 0,
          nowMs: systemClock.nowMs,
          ready: () => Promise.resolve(),
          resting: () => undefined,
          counts: () => ({ calls: 0, retries: 0, failures: 0, bytesUp: 0, bytesDown: 0 }),
          randomWord: () => randomBytes(8).toString("hex"),
        },
        uploader,
        files,
      );
    this.shared = {
      backup,
      sealer: open && spawnSealer(this.system.root, { restart: QUICK, open }),
      merger: spawnMerger(this.system.root, {
        ...{ restart: QUICK, open: options.merger ?? mergeInPlace },
      }),
      ...{ dataDir, log, redo, directory: new Directory(), applicationName: "test" },
      ...{ tenantRestart: restart, timelineRestart: restart, receiverRestart: restart },
      files,
      cache: new PageCache(),
      budget: options.budget ?? new OpenBudget(),
      clock: { ...systemClock, ...options.clock },
      timelinesAwake: options.timelinesAwake,
      onFatal: (error) => this.fatal.push(error),
    };
    this.tenants = spawnTenants(this.system.root, QUICK, this.shared);
  }

  /** A new data directory: tenant, and a timeline of nothing but a checkpoint. */
  static async create(dataDir: string, options: WorldOptions = {}): Promise<TimelineWorld> {
    const world = new TimelineWorld(dataDir, options);
    await ask<TenantsMsg, unknown>(
      world.tenants,
      (reply) => ({ kind: "create", id: TENANT, reply }),
      ASK_MS,
    );
    const made = new TimelineImport(world.shared, world.tenant, {
      id: MAIN,
      name: "main",
      pgVersion: 15,
      tli: 1,
      systemId: String(newWal().identity.systemId),
      baseLsn: BASE,
    });
    const { sink } = made;
    const group = sink.groups.id(KIND.CHECKPOINT, 0, 0, 0, 0);
    sink.putValue(group, 0, BASE, buildCheckPoint(CHECKPOINT, 15));
    await made.finish({ readableFrom: BASE });
    await world.adopt();
    await world.loaded();
    return world;
  }

  get tenant() {
    return this.shared.directory.tenants.get(TENANT)!;
  }

  get main(): TimelineHandle {
    return this.tenant.timelines.get(MAIN)!;
  }

  private async adopt(): Promise<void> {
    await ask<TenantMsg, Result<TimelineHandle, AdminError>>(
      this.tenant.ref,
      (reply) => ({ kind: "adopt", timeline: MAIN, reply }),
      ASK_MS,
    );
  }

  /** Waits until the timeline is not loading (any more, or again). */
  loaded(id = MAIN): Promise<TimelineHandle> {
    return until(`timeline ${id} is loaded`, () => {
      const handle = this.tenant?.timelines.get(id);
      return handle !== undefined && handle.facts.phase.kind !== "loading" && handle;
    });
  }

  /** As the program stops; the data directory may then be opened by another world. */
  async close(): Promise<void> {
    await ask<TenantsMsg, undefined>(this.tenants, (reply) => ({ kind: "stop", reply }), ASK_MS);
    this.system.stop();
    this.shared.files.closeAll();
  }

  /** Reads pages of REL in one batch: the fill of each, or its error. */
  async read(blocks: readonly number[], at: ReadAt = {}): Promise<readonly PageAnswer[]> {
    const { answers } = await this.batch(blocks, at);
    return answers;
  }

  async batch(
    blocks: readonly number[],
    { lsn = LSN_MAX, since = lsn === LSN_MAX ? Lsn.of(1) : lsn, id = MAIN }: ReadAt,
  ): Promise<{ readonly answers: readonly PageAnswer[]; readonly slab: Uint8Array }> {
    const requests = blocks.map((block): PageRequest => ({
      kind: "get-page",
      rel: REL,
      block,
      lsn,
      notModifiedSince: since,
    }));
    const slab = new Uint8Array(requests.length * PAGE_BYTES);
    const pageOffsets = Int32Array.from(requests, (_, i) => i * PAGE_BYTES);
    const answers = await this.ask<readonly PageAnswer[]>(
      (reply) => ({ kind: "read", batch: { requests, slab, pageOffsets }, reply }),
      id,
    );
    return { answers, slab };
  }

  /** What fills a page as of an LSN. Throws with the error that was answered. */
  async fill(block: number, at: ReadAt = {}): Promise<number> {
    const { answers, slab } = await this.batch([block], at);
    const [answer] = answers;
    if (answer?.kind !== "page") throw new Error(JSON.stringify(answer));
    return slab[PAGE_BYTES - 1]!;
  }

  async ask<T>(
    build: (reply: { answer(value: T): void }) => TimelineMsg,
    id = MAIN,
    timeoutMs = ASK_MS,
  ): Promise<T> {
    const ref = this.tenant.timelines.get(id)!.ref;
    const answer = await ask<TimelineMsg, T>(ref, build, timeoutMs);
    if (answer === "timed-out") throw new Error("the timeline did not answer");
    return answer;
  }

  /** Makes the timeline's handler throw, as a bug would. */
  crash(id = MAIN): void {
    let told = false;
    this.tenant.timelines.get(id)!.ref.tell({
      kind: "lease",
      lsn: LSN_MAX,
      reply: {
        answer: () => {
          if (told) return;
          told = true;
          throw new Error("told to crash");
        },
      },
    });
  }

  /** Crashes it, and waits for its next life. */
  async crashAndReload(id = MAIN): Promise<void> {
    const before = this.crashes.length;
    this.crash(id);
    await until("the crash", () => this.crashes.length > before);
    await until("it loads", () => this.tenant.timelines.get(id)?.facts.phase.kind === "loading");
    await this.loaded(id);
  }
}

export interface ReadAt {
  readonly lsn?: Lsn;
  readonly since?: Lsn;
  readonly id?: typeof MAIN;
}

/** WAL that begins at BASE. */
export const newWal = (): WalBuilder => new WalBuilder({ start: BASE });

/** A WAL receiver that a test drives. */
export class TestReceiver {
  readonly told: WalProgressMsg[] = [];
  readonly ref: ActorRef<WalProgressMsg>;
  private readonly world: TimelineWorld;
  private static made = 0;

  constructor(world: TimelineWorld) {
    this.world = world;
    const { told } = this;
    this.ref = spawn<null, WalProgressMsg>(world.system.root, {
      name: `receiver-${++TestReceiver.made}`,
      restart: QUICK,
      init: () => null,
      handle: (state, msg) => {
        told.push(msg);
        return state;
      },
    });
  }

  attach(): Promise<Result<WalStart, string>> {
    return this.world.ask((reply) => ({ kind: "wal-attach", receiver: this.ref, reply }));
  }

  /** Attaches, and throws unless streaming starts at `at`. */
  async attachAt(at: Lsn): Promise<void> {
    const start = await this.attach();
    if (!start.ok) throw new Error(start.error);
    if (start.value.lsn !== at) {
      throw new Error(`streaming starts at ${Lsn.format(start.value.lsn)}, not ${Lsn.format(at)}`);
    }
  }

  send(at: Lsn, bytes: Uint8Array): void {
    this.world.main.ref.tell({ kind: "wal", receiver: this.ref, at, bytes });
  }

  /** Sends what `wal` holds from `at` on. */
  sendFrom(wal: WalBuilder, at: Lsn = wal.start): void {
    this.send(at, wal.bytes().subarray(at - wal.start));
  }

  get refused(): Extract<WalProgressMsg, { kind: "wal-refused" }> | undefined {
    return this.told.find((msg) => msg.kind === "wal-refused");
  }

  /** The last durable position it was told. */
  get durable(): Lsn {
    const last = this.told.findLast((msg) => msg.kind === "progress");
    return last?.kind === "progress" ? last.positions.durable : Lsn.of(0);
  }

  untilDurable(lsn: Lsn): Promise<unknown> {
    return until(`durable up to ${Lsn.format(lsn)}`, () => this.durable >= lsn);
  }

  untilRefused(): Promise<Extract<WalProgressMsg, { kind: "wal-refused" }>> {
    return until("the WAL is refused", () => this.refused);
  }
}
