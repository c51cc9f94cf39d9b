// What a timeline actor has and hears: its dependencies, its messages, the state of one life, and
// what the rest of the program sees of it.

import type { ReadError } from "../core/errors.ts";
import type { TenantId, TimelineId } from "../core/ids.ts";
import { LSN_INVALID, Lsn } from "../core/lsn.ts";
import { LsnWaiters } from "../core/lsn-waiters.ts";
import type { Readable } from "../core/request-lsn.ts";
import type { RestartPolicy } from "../core/restart-budget.ts";
import type { Result } from "../core/result.ts";
import { type PhaseEvent, type TimelinePhase, nextPhase } from "../core/timeline.ts";
import type { Clock } from "../io/clock.ts";
import type { Log } from "../io/log.ts";
import type { Secret } from "../protocol/conninfo.ts";
import type { Catalog } from "../store/catalog.ts";
import type { CrashPoint } from "../store/crash-points.ts";
import type { LayerFiles } from "../store/layer-files.ts";
import type { OpenBudget } from "../store/open-budget.ts";
import type { PageCache } from "../store/page-cache.ts";
import type { Merged } from "../store/merge-order.ts";
import type { TimelineStore } from "../store/timeline-store.ts";
import type { LayerObject } from "../core/backup/manifest.ts";
import type { Backup } from "./backup.ts";
import type { TurnDone } from "./backup-turn.ts";
import type { Directory } from "./directory.ts";
import type { RedoPoolMsg } from "./redo-pool.ts";
import type { ActorRef, Reply } from "./runtime.ts";
import type { Merger } from "./merger.ts";
import type { Sealer } from "./sealer.ts";
import type { Loaded } from "./timeline-load.ts";
import type { TimelineMsg } from "./timeline-messages.ts";
import { TimelineBackup } from "./timeline-backup-state.ts";
import type { ReadFrom } from "./timeline-reads.ts";
import type { Bed } from "./timeline-sleep.ts";
import { Residence } from "./timeline-residence.ts";
import { Retention } from "./timeline-retention.ts";
import type { TimelineWal } from "./timeline-wal.ts";
import { WalInlet } from "./wal-inlet.ts";

export interface TimelineDeps {
  readonly tenantId: TenantId;
  readonly timelineId: TimelineId;
  readonly catalog: Catalog;
  readonly directory: Directory;
  /** Undefined: no backup is configured. */
  readonly backup?: Backup | undefined;
  /** Opens the timeline's store over its ancestor's, which is loaded. */
  readonly openStore: (ancestor: TimelineStore | undefined) => TimelineStore;
  readonly walDirectory: string;
  readonly layersDirectory: string;
  readonly files: LayerFiles;
  readonly cache: PageCache;
  readonly budget: OpenBudget;
  readonly redo: ActorRef<RedoPoolMsg>;
  /** Undefined: a timeline seals in turns of its own. */
  readonly sealer?: Sealer | undefined;
  readonly merger: Merger;
  readonly clock: Clock;
  readonly log: Log;
  readonly restart: RestartPolicy;
  readonly receiverRestart: RestartPolicy;
  /** Name under which WAL senders know us. */
  readonly applicationName: string;
  /** Shown to WAL sources that ask for a password and whose connection string has none. Never stored. */
  readonly walToken?: Secret | undefined;
  /** What is on disk is unknown: the process must stop. */
  readonly onFatal: (error: Error) => void;
  /** For verifications: store/crash-points.ts. */
  readonly crashPoint?: CrashPoint | undefined;
  /** Undefined: it never sleeps. */
  readonly bed?: Bed | undefined;
}

/** What a timeline tells itself. `life` is the state that began it: what an earlier life began is not for this one. */
type OwnMsg = { readonly life: TimelineState } & (
  | { readonly kind: "boot" }
  | { readonly kind: "loaded" }
  | { readonly kind: "load-failed"; readonly error: unknown }
  | { readonly kind: "synced"; readonly upTo: Lsn }
  | { readonly kind: "seal-turn" }
  | { readonly kind: "sealed"; readonly error: unknown }
  | { readonly kind: "rewound"; readonly error: unknown }
  | { readonly kind: "receiver-changed" }
  | { readonly kind: "merged"; readonly merged: Merged }
  | { readonly kind: "merge-over"; readonly merged: Merged }
  | { readonly kind: "merge-ready"; readonly error: unknown }
  | { readonly kind: "backed-up"; readonly done: TurnDone | undefined; readonly error: unknown }
  | {
      readonly kind: "layer-put";
      readonly file: string;
      readonly object: LayerObject | undefined;
      readonly error: unknown;
    }
  | { readonly kind: "merge-failed"; readonly error: unknown }
);
export type Msg = TimelineMsg | OwnMsg;
export type ReadMsg = Extract<TimelineMsg, { kind: "read" }>;
export type BackupMsg = Extract<TimelineMsg, { kind: "backup-source" }>;

/** Somebody who waits until all records that end at or below `upTo` are in sealed layers. */
export interface SealWaiter {
  readonly upTo: Lsn;
  readonly reply: Reply<Result<undefined, string>>;
}

/** One life of a timeline actor: from its start, or its restart after a crash, to its end. */
export class TimelineState {
  readonly deps: TimelineDeps;
  readonly self: ActorRef<Msg>;
  phase: TimelinePhase = { kind: "loading" };
  /** What loading waits for, when it is not its own work. */
  waitsFor: string | undefined;
  /** The load under way; never rejects. */
  loading: Promise<void> | undefined;
  loaded: Loaded | undefined;
  readFrom: ReadFrom | undefined;
  wal: TimelineWal | undefined;
  readable: Readable = { last: LSN_INVALID, cutoff: LSN_INVALID, readableFrom: LSN_INVALID };
  readonly waiters = new LsnWaiters<ReadMsg | BackupMsg>();
  /** The connection that WAL comes from. */
  readonly inlet: WalInlet;
  sealWaiters: SealWaiter[] = [];
  /** Those who wait until it is loaded, or cannot be. */
  loadWaiters: Reply<undefined>[] = [];
  /** When somebody last asked for something, steady ms. */
  usedMs: number;
  readonly retention = new Retention();
  readonly backup = new TimelineBackup();
  readonly residence = new Residence();
  /** Why the last seal failed; gone when one has not. */
  sealFailure: string | undefined;
  /** Set when this life ends: resolves when it touches no file any more. */
  ended: Promise<void> | undefined;

  constructor(deps: TimelineDeps, self: ActorRef<Msg>) {
    this.deps = deps;
    this.self = self;
    this.usedMs = deps.clock.steadyMs();
    this.inlet = new WalInlet(deps, self, () =>
      self.tell({ kind: "receiver-changed", life: this }),
    );
  }
}

/** The next phase, told to whoever looks. */
export function move(state: TimelineState, event: PhaseEvent): void {
  state.phase = nextPhase(state.phase, event);
  publish(state);
  for (const reply of state.loadWaiters.splice(0)) reply.answer(undefined);
}

/** Tells the directory how the timeline is. */
export function publish({ deps, phase, wal, inlet, sealFailure }: TimelineState): void {
  const none = { received: LSN_INVALID, visible: LSN_INVALID, durable: LSN_INVALID };
  deps.directory.publish(deps.tenantId, deps.timelineId, {
    asleep: undefined,
    facts: {
      phase,
      positions: wal?.positions ?? { ...none, uploaded: LSN_INVALID },
      prev: wal?.intake.prev ?? LSN_INVALID,
      receiver: inlet.status,
      stalled: inlet.stalled ?? sealFailure,
    },
  });
}

/** Why the timeline as a whole does not answer. */
export function unreadable({ phase, waitsFor }: TimelineState): ReadError {
  switch (phase.kind) {
    case "stopping":
      return { kind: "shutting-down" };
    case "broken":
      return { kind: "timeline-broken", reason: phase.reason };
    case "active":
    case "loading":
      return { kind: "timeline-loading", waitsFor };
  }
}
