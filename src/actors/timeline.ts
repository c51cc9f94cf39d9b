// One timeline: answers page reads, takes in WAL, seals in turns. What it decides is in
// core/timeline.ts and core/request-lsn.ts; its state is a cache of the store, so after a crash it
// is loaded anew: sealed layers, then the WAL files behind them. Handlers never await.

import { unreachable } from "../core/assert.ts";
import type { ReadError } from "../core/errors.ts";
import type { TenantId, TimelineId } from "../core/ids.ts";
import { ANCESTOR_POLL_MS, LSN_WAITERS_MAX, WAIT_LSN_MS_MAX } from "../core/limits.ts";
import { LSN_INVALID, Lsn } from "../core/lsn.ts";
import { LsnWaiters } from "../core/lsn-waiters.ts";
import type { PageAnswer } from "../core/page-batch.ts";
import { type Readable, planRead } from "../core/request-lsn.ts";
import type { RestartPolicy } from "../core/restart-budget.ts";
import { err, ok } from "../core/result.ts";
import { type PhaseEvent, type TimelinePhase, nextPhase } from "../core/timeline.ts";
import type { Clock } from "../io/clock.ts";
import type { Log } from "../io/log.ts";
import type { Catalog } from "../store/catalog.ts";
import type { OpenBudget } from "../store/open-budget.ts";
import type { PageCache } from "../store/page-cache.ts";
import { PageReader } from "../store/read-page.ts";
import { type StoreFailed, errorText } from "../store/store-errors.ts";
import type { TimelineStore } from "../store/timeline-store.ts";
import type { Directory } from "./directory.ts";
import type { RedoPoolMsg } from "./redo-pool.ts";
import { type ActorRef, type ActorSpec, type Reply, after } from "./runtime.ts";
import { findBoundary } from "./timeline-boundary.ts";
import { putLease } from "./timeline-lease.ts";
import { type Loaded, loadTimeline, timelineEntryOf } from "./timeline-load.ts";
import type { TimelineMsg } from "./timeline-messages.ts";
import { type ReadFrom, answerBatch } from "./timeline-reads.ts";
import { backupSource } from "./timeline-source.ts";
import { TimelineWal } from "./timeline-wal.ts";
import { WalInlet } from "./wal-inlet.ts";

export interface TimelineDeps {
  readonly tenantId: TenantId;
  readonly timelineId: TimelineId;
  readonly catalog: Catalog;
  readonly directory: Directory;
  /** Opens the timeline's store over its ancestor's, which is loaded. */
  readonly openStore: (ancestor: TimelineStore | undefined) => TimelineStore;
  readonly walDirectory: string;
  readonly cache: PageCache;
  readonly budget: OpenBudget;
  readonly redo: ActorRef<RedoPoolMsg>;
  readonly clock: Clock;
  readonly log: Log;
  readonly restart: RestartPolicy;
  readonly receiverRestart: RestartPolicy;
  /** Name under which WAL senders know us. */
  readonly applicationName: string;
  /** What is on disk is unknown: the process must stop. */
  readonly onFatal: (error: StoreFailed) => void;
}

type OwnMsg =
  | { readonly kind: "boot" }
  | { readonly kind: "loaded"; readonly store: TimelineStore; readonly loaded: Loaded }
  | { readonly kind: "load-failed"; readonly error: unknown }
  | { readonly kind: "synced"; readonly upTo: Lsn }
  | { readonly kind: "seal-turn" }
  | { readonly kind: "sealed"; readonly error: unknown }
  | { readonly kind: "rewound"; readonly error: unknown }
  | { readonly kind: "receiver-changed" };

type Msg = TimelineMsg | OwnMsg;
type ReadMsg = Extract<TimelineMsg, { kind: "read" }>;
type BackupMsg = Extract<TimelineMsg, { kind: "backup-source" }>;

export interface TimelineActorState {
  readonly self: ActorRef<Msg>;
  phase: TimelinePhase;
  /** No more messages of this life count: files are closed. */
  gone: boolean;
  readFrom: ReadFrom | undefined;
  wal: TimelineWal | undefined;
  readonly waiters: LsnWaiters<ReadMsg | BackupMsg>;
  /** The connection that WAL comes from. */
  readonly inlet: WalInlet;
  sealWaiters: Reply<ReturnType<typeof ok<undefined>> | ReturnType<typeof err<string>>>[];
  readable: Readable;
}

type State = TimelineActorState;

/** Spec of a timeline actor; spawned by its tenant. */
export function timelineActor(deps: TimelineDeps): ActorSpec<State, Msg> {
  return {
    name: `timeline-${deps.timelineId}`,
    restart: deps.restart,
    init: (self) => {
      const nowhere = { last: LSN_INVALID, cutoff: LSN_INVALID, readableFrom: LSN_INVALID };
      const state: State = {
        self,
        phase: { kind: "loading" },
        gone: false,
        readFrom: undefined,
        wal: undefined,
        waiters: new LsnWaiters(),
        inlet: new WalInlet(deps, self, () => self.tell({ kind: "receiver-changed" })),
        sealWaiters: [],
        readable: nowhere,
      };
      self.tell({ kind: "boot" });
      return state;
    },
    handle: (state, msg) => {
      new Turn(state, deps).handle(msg);
      return state;
    },
    afterStop: (state) => {
      if (state !== undefined) shut(state, deps);
    },
    onBroken: (reason) => {
      deps.directory.publish(deps.tenantId, deps.timelineId, {
        store: undefined,
        boundary: undefined,
        readFrom: undefined,
      });
      deps.log.error({ reason }, "the timeline is broken: it crashed too often");
    },
  };
}

function shut(state: State, deps: TimelineDeps): Promise<void> {
  if (state.gone) return Promise.resolve();
  state.gone = true;
  state.inlet.stop();
  deps.directory.publish(deps.tenantId, deps.timelineId, {
    store: undefined,
    boundary: undefined,
    readFrom: undefined,
  });
  for (const { who } of state.waiters.drain()) refuse(who, { kind: "shutting-down" });
  for (const reply of state.sealWaiters.splice(0)) reply.answer(err("the timeline stops"));
  return state.wal?.close() ?? Promise.resolve();
}

/** One message. */
class Turn {
  private readonly state: State;
  private readonly deps: TimelineDeps;

  constructor(state: State, deps: TimelineDeps) {
    this.state = state;
    this.deps = deps;
  }

  handle(msg: Msg): void {
    const { state } = this;
    switch (msg.kind) {
      case "read":
        return this.read(msg);
      case "backup-source":
        return this.backup(msg);
      case "lease":
        return msg.reply.answer(this.lease(msg.lsn));
      case "wal":
        return this.afterWal(state.inlet.offer(state.wal, msg, this.deps.clock.nowMs()));
      case "wal-attach":
        return this.attach(msg);
      case "synced":
        if (state.wal?.synced(msg.upTo) === true) this.progressed();
        return;
      case "seal-turn":
        return state.wal?.sealTurn();
      case "sealed":
        return this.sealed(msg.error);
      case "rewound":
        return this.rewound(msg.error);
      case "tick":
        return this.tick();
      case "boot":
        return this.boot();
      case "loaded":
        return this.loaded(msg.store, msg.loaded);
      case "load-failed":
        return this.loadFailed(msg.error);
      case "source-changed":
        return this.connect();
      case "receiver-changed":
        return this.publish();
      case "seal-now":
        return this.sealNow(msg.reply);
      case "stop":
        this.move({ kind: "stop" });
        void shut(state, this.deps).then(() => {
          msg.reply.answer(undefined);
          state.self.stop();
        });
        return;
      default:
        return unreachable(msg);
    }
  }

  // ---- loading

  private boot(): void {
    const { state, deps } = this;
    const entry = timelineEntryOf(deps.catalog, deps.timelineId);
    const above = entry.ancestor;
    let ancestor: TimelineStore | undefined;
    if (above !== undefined) {
      const handle = deps.directory.find(deps.tenantId, above.id);
      ancestor = handle?.store;
      const visible = handle?.facts.positions.visible ?? LSN_INVALID;
      if (ancestor === undefined || Lsn.normalize(visible) < above.lsn) {
        after(ANCESTOR_POLL_MS, () => state.self.tell({ kind: "boot" }));
        return;
      }
    }
    const store = deps.openStore(ancestor);
    loadTimeline({
      entry,
      store,
      walDirectory: deps.walDirectory,
      nowMs: deps.clock.nowMs,
      onDurable: (upTo) => state.self.tell({ kind: "synced", upTo }),
      onFatal: deps.onFatal,
      cancelled: () => state.gone,
    }).then(
      (loaded) => {
        if (state.gone) void loaded.files.close();
        else state.self.tell({ kind: "loaded", store, loaded });
      },
      (error: unknown) => state.self.tell({ kind: "load-failed", error }),
    );
  }

  private loaded(store: TimelineStore, loaded: Loaded): void {
    const { state, deps } = this;
    if (state.gone || state.wal !== undefined) return void loaded.files.close();
    const { files, intake } = loaded;
    state.wal = new TimelineWal({
      store,
      files,
      intake,
      budget: deps.budget,
      onSealTurn: () => state.self.tell({ kind: "seal-turn" }),
      onSealed: (error) => state.self.tell({ kind: "sealed", error }),
    });
    state.readFrom = { pages: new PageReader(store, deps.cache), redo: deps.redo };
    const entry = timelineEntryOf(deps.catalog, deps.timelineId);
    const { readableFrom } = entry;
    const cutoff = entry.ancestor === undefined ? readableFrom : this.rootCutoff();
    state.readable = { last: intake.visible, cutoff, readableFrom: cutoff };
    if (entry.ancestor === undefined) state.readable = { ...state.readable, readableFrom };
    this.move({ kind: "loaded" });
    deps.directory.publish(deps.tenantId, deps.timelineId, {
      entry,
      store,
      boundary: (lsn) => state.wal?.boundary(lsn),
      pendingCommits: () => state.wal?.intake.ingest.pendingCommits(),
      readFrom: state.readFrom,
    });
    const at = Lsn.format(intake.visible);
    deps.log.info({ lsn: at, walEnd: loaded.endReason }, `timeline loaded, at ${at}`);
    state.wal.beginSeal(deps.clock.nowMs());
    this.progressed();
    this.connect();
  }

  private loadFailed(error: unknown): void {
    if (this.state.gone) return;
    this.deps.log.error({ err: error }, "the timeline cannot be loaded");
    this.move({ kind: "failed", reason: errorText(error) });
    for (const { who } of this.state.waiters.drain()) refuse(who, this.brokenError());
  }

  /** A branch reads what its ancestors keep: down to the base of the eldest. */
  private rootCutoff(): Lsn {
    const { catalog, timelineId } = this.deps;
    let entry = timelineEntryOf(catalog, timelineId);
    while (entry.ancestor !== undefined) entry = timelineEntryOf(catalog, entry.ancestor.id);
    return entry.readableFrom;
  }

  private connect(): void {
    const { state, deps } = this;
    const entry = timelineEntryOf(deps.catalog, deps.timelineId);
    deps.directory.publish(deps.tenantId, deps.timelineId, { entry });
    if (state.phase.kind === "active") state.inlet.connect(entry.source);
    this.publish();
  }

  private move(event: PhaseEvent): void {
    const { state } = this;
    state.phase = nextPhase(state.phase, event);
    this.publish();
  }

  // ---- reads

  private read(msg: ReadMsg): void {
    const { state, deps } = this;
    const { readFrom } = state;
    if (readFrom === undefined) return this.early(msg);
    const plans: (Lsn | ReadError)[] = [];
    let until = LSN_INVALID;
    for (const request of msg.batch.requests) {
      const plan = planRead(request, state.readable);
      if (plan.kind === "wait") until = Math.max(until, plan.until) as Lsn;
      else plans.push(plan.kind === "read" ? plan.at : plan.error);
    }
    if (until === LSN_INVALID) return answerBatch(readFrom, msg.batch, plans, msg.reply);
    if (state.phase.kind === "broken") return refuse(msg, this.brokenError());
    this.park(msg, until, deps.clock.nowMs());
  }

  private park(who: ReadMsg | BackupMsg, until: Lsn, nowMs: number): void {
    const deadlineMs = nowMs + WAIT_LSN_MS_MAX;
    if (this.state.waiters.park({ until, parkedMs: nowMs, deadlineMs, who })) return;
    refuse(who, { kind: "too-many-waiters", limit: LSN_WAITERS_MAX });
  }

  /** Asked while the timeline is loading: parked until it is loaded, which any LSN wakes. */
  private early(msg: ReadMsg | BackupMsg): void {
    if (this.state.phase.kind !== "loading") return refuse(msg, this.brokenError());
    this.park(msg, Lsn.of(1), this.deps.clock.nowMs());
  }

  private backup(msg: BackupMsg): void {
    const { state, deps } = this;
    const { readFrom } = state;
    if (readFrom === undefined) return this.early(msg);
    const lsn = msg.lsn ?? state.readable.last;
    const plan = planRead({ lsn, notModifiedSince: lsn }, state.readable);
    if (plan.kind === "wait") return this.park(msg, plan.until, deps.clock.nowMs());
    if (plan.kind === "refused") return msg.reply.answer(err(plan.error));
    const boundary = findBoundary(deps.directory, deps.tenantId, deps.timelineId, plan.at);
    if (boundary === undefined) {
      const message = `no record boundary is known at or below ${Lsn.format(plan.at)}`;
      return msg.reply.answer(err({ kind: "bad-request", message }));
    }
    const entry = timelineEntryOf(deps.catalog, deps.timelineId);
    msg.reply.answer(ok(backupSource(readFrom, boundary, entry)));
  }

  private lease(lsn: Lsn): number | undefined {
    const { deps, state } = this;
    if (lsn < state.readable.cutoff || state.readFrom === undefined) return undefined;
    return putLease(deps.catalog, deps.timelineId, lsn, deps.clock.nowMs());
  }

  private brokenError(): ReadError {
    const { phase } = this.state;
    const reason = phase.kind === "broken" ? phase.reason : "it is loading; retry in a moment";
    return phase.kind === "stopping"
      ? { kind: "shutting-down" }
      : { kind: "timeline-broken", reason };
  }

  // ---- WAL

  private attach(msg: Extract<TimelineMsg, { kind: "wal-attach" }>): void {
    const { state, deps } = this;
    if (state.wal === undefined || state.phase.kind !== "active") {
      return msg.reply.answer(err("the timeline does not take in WAL now"));
    }
    const { wal, self } = state;
    state.inlet.attach(msg.receiver, (inlet) => {
      const { tli, systemId } = timelineEntryOf(deps.catalog, deps.timelineId);
      msg.reply.answer(ok({ lsn: wal.intake.position, tli, systemId }));
      inlet.progress(wal.positions);
    });
    wal.rewind().then(
      () => self.tell({ kind: "rewound", error: undefined }),
      (error: unknown) => self.tell({ kind: "rewound", error }),
    );
  }

  private rewound(error: unknown): void {
    if (error === undefined) return this.state.inlet.rewound();
    this.deps.log.error({ err: error }, "WAL files cannot be rewound");
    this.move({ kind: "failed", reason: errorText(error) });
  }

  /** What the inlet made of WAL that was offered, or of what had waited. */
  private afterWal(outcome: ReturnType<WalInlet["offer"]>): void {
    const { state, deps } = this;
    if (outcome === undefined || state.wal === undefined) return;
    state.wal.maybeFreeze(deps.clock.nowMs(), "if-due");
    if (outcome.kind === "broken") {
      deps.log.error({ err: outcome.error }, `WAL cannot be taken in: ${outcome.reason}`);
      this.move({ kind: "failed", reason: outcome.reason });
    } else if (outcome.kind !== "taken") deps.log.warn({ reason: outcome.reason }, "WAL waits");
    this.progressed();
  }

  /** Positions moved: wake readers, tell the source and whoever looks. */
  private progressed(): void {
    const { state } = this;
    if (state.wal === undefined) return;
    const { positions } = state.wal;
    state.readable = { ...state.readable, last: positions.visible };
    for (const { who } of state.waiters.ready(positions.visible)) {
      if (who.kind === "read") this.read(who);
      else this.backup(who);
    }
    state.inlet.progress(positions);
    this.publish();
  }

  // ---- sealing and time

  private sealNow(reply: State["sealWaiters"][number]): void {
    const { wal } = this.state;
    if (wal === undefined) return reply.answer(err("the timeline is not loaded"));
    wal.maybeFreeze(this.deps.clock.nowMs(), "now");
    if (wal.store.isSealing) this.state.sealWaiters.push(reply);
    else reply.answer(ok(undefined));
  }

  private sealed(error: unknown): void {
    const { state, deps } = this;
    const { wal } = state;
    if (wal === undefined || state.gone) return;
    const entry = timelineEntryOf(deps.catalog, deps.timelineId);
    deps.directory.publish(deps.tenantId, deps.timelineId, { entry });
    if (error !== undefined) {
      // The layer stays frozen and in memory; a full disk may have room again at the next tick.
      deps.log.error({ err: error }, "a layer could not be sealed; it is tried again");
    } else {
      wal.letGo(entry.sealedLsn);
      wal.beginSeal(deps.clock.nowMs());
    }
    if (!wal.store.isSealing || error !== undefined) {
      const answer = error === undefined ? ok(undefined) : err(errorText(error));
      for (const reply of state.sealWaiters.splice(0)) reply.answer(answer);
    }
    this.afterWal(state.inlet.retry(wal, deps.clock.nowMs()));
  }

  private tick(): void {
    const { state, deps } = this;
    const nowMs = deps.clock.nowMs();
    const { last } = state.readable;
    for (const { who, until, parkedMs } of state.waiters.expired(nowMs)) {
      refuse(who, { kind: "lsn-timeout", asked: until, last, waitedMs: nowMs - parkedMs });
    }
    const { wal } = state;
    if (wal === undefined || state.phase.kind === "stopping") return;
    if (state.phase.kind === "active") wal.maybeFreeze(nowMs, "if-due");
    wal.beginSeal(nowMs);
    this.afterWal(state.inlet.retry(wal, nowMs));
  }

  private publish(): void {
    const { state, deps } = this;
    const none = { received: LSN_INVALID, visible: LSN_INVALID, durable: LSN_INVALID };
    deps.directory.publish(deps.tenantId, deps.timelineId, {
      facts: {
        phase: state.phase,
        positions: state.wal?.positions ?? { ...none, uploaded: LSN_INVALID },
        prev: state.wal?.intake.prev ?? LSN_INVALID,
        receiver: state.inlet.status,
        stalled: state.inlet.stalled,
      },
    });
  }
}

function refuse(who: ReadMsg | BackupMsg, error: ReadError): void {
  if (who.kind === "backup-source") return who.reply.answer(err(error));
  const answer: PageAnswer = { kind: "error", error };
  who.reply.answer(who.batch.requests.map(() => answer));
}
