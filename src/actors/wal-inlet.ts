// A timeline's side of its WAL connection: which receiver counts, WAL that must wait for memory or
// disk, and what is told back. Receivers that were replaced are ignored and told to close.

import { MalformedInput } from "../core/assert.ts";
import { Lsn } from "../core/lsn.ts";
import {
  type Conninfo,
  parseConninfo,
  safekeeperOptions,
  withPassword,
} from "../protocol/conninfo.ts";
import type { WalSource } from "../store/catalog-entries.ts";
import { type ActorRef, spawn } from "./runtime.ts";
import type { TimelineMsg, ToldPositions, WalProgressMsg } from "./timeline-messages.ts";
import type { TimelineDeps } from "./timeline-state.ts";
import type { Taken, TimelineWal } from "./timeline-wal.ts";
import {
  type WalReceiverMsg,
  type WalReceiverStatus,
  refusedStatus,
  walReceiver,
} from "./wal-receiver.ts";

type WalMsg = Extract<TimelineMsg, { kind: "wal" }>;

export type InletDeps = Pick<
  TimelineDeps,
  "tenantId" | "timelineId" | "receiverRestart" | "applicationName" | "clock" | "log" | "walToken"
>;

export class WalInlet {
  /** Of the receiver, as it last told. */
  status: WalReceiverStatus | undefined;
  /** Why WAL waits. */
  stalled: string | undefined;
  /** Where WAL comes from; undefined: from nowhere. */
  source: WalSource["kind"] | undefined;
  private readonly deps: InletDeps;
  private readonly timeline: ActorRef<TimelineMsg>;
  private readonly onChange: () => void;
  private child: ActorRef<WalReceiverMsg> | undefined;
  private spawned = 0;
  private receiver: ActorRef<WalProgressMsg> | undefined;
  private attaching: (() => void) | undefined;
  private waiting: WalMsg[] = [];

  constructor(deps: InletDeps, timeline: ActorRef<TimelineMsg>, onChange: () => void) {
    this.deps = deps;
    this.timeline = timeline;
    this.onChange = onChange;
  }

  /** Nobody sends WAL. */
  get isIdle(): boolean {
    return this.child === undefined && this.receiver === undefined;
  }

  /** Connects to `source` in the place of what it was; undefined: to nothing. */
  connect(source: WalSource | undefined): void {
    this.stop();
    this.source = source?.kind;
    if (source === undefined) return;
    const { deps, timeline } = this;
    let conninfo: Conninfo;
    try {
      conninfo = conninfoOf(source, deps);
    } catch (error) {
      if (!(error instanceof MalformedInput)) throw error;
      this.stalled = `its WAL source cannot be used: ${error.message}; set it anew`;
      deps.log.error({ reason: error.message }, "the WAL source cannot be used");
      return;
    }
    const spec = walReceiver({
      name: `wal-receiver-${++this.spawned}`,
      restart: deps.receiverRestart,
      conninfo,
      slot: source.slot,
      source: source.kind === "safekeeper" ? "safekeeper" : "postgres",
      applicationName: deps.applicationName,
      timeline,
      clock: deps.clock,
      onChange: (status) => {
        this.status = status;
        deps.log.info({ connection: status.connection, reason: status.reason }, "WAL connection");
        this.onChange();
      },
    });
    this.child = spawn(timeline.scope, spec);
  }

  /** Ends the connection for good, or begins none: upstream hears no more of what is durable here. */
  end(source: WalSource | undefined, reason: string): void {
    const { status } = this;
    this.receiver?.tell({ kind: "wal-refused", reason, retry: false });
    this.stop();
    this.source = source?.kind;
    if (source !== undefined) this.status = refusedStatus(status, reason);
  }

  /** Ends the connection; what has waited is forgotten (it will be sent again). */
  stop(): void {
    this.child?.stop();
    this.child = undefined;
    this.receiver = undefined;
    this.attaching = undefined;
    this.status = undefined;
    this.stalled = undefined;
    this.waiting = [];
  }

  /**
   * A receiver announces itself; `then` runs when the WAL files are rewound, unless another has
   * announced itself meanwhile. False: it has been stopped already, and does not count.
   */
  attach(receiver: ActorRef<WalProgressMsg>, then: () => void): boolean {
    if (receiver.stopped()) return false;
    if (this.receiver !== undefined && this.receiver !== receiver) {
      const reason = "another WAL connection has taken over";
      this.receiver.tell({ kind: "wal-refused", reason, retry: false });
    }
    this.receiver = receiver;
    this.stalled = undefined;
    this.waiting = [];
    this.attaching = then;
    return true;
  }

  rewound(): void {
    const then = this.attaching;
    this.attaching = undefined;
    then?.();
  }

  /** Takes WAL in, or keeps it while it must wait; undefined when nothing was done. */
  offer(wal: TimelineWal | undefined, msg: WalMsg): Taken | undefined {
    if (wal === undefined || msg.receiver !== this.receiver || this.attaching !== undefined) {
      return undefined;
    }
    this.waiting.push(msg);
    return this.retry(wal);
  }

  /** Goes on with what has waited, as far as it may. */
  retry(wal: TimelineWal): Taken | undefined {
    let last: Taken | undefined;
    while (this.waiting.length > 0 && !wal.mustWait && this.attaching === undefined) {
      const msg = this.waiting[0]!;
      if (msg.at !== wal.intake.position) {
        const [came, expected] = [msg.at, wal.intake.position].map(Lsn.format);
        return this.refuse({ kind: "refused", reason: `WAL came at ${came}, not at ${expected}` });
      }
      last = wal.take(msg.bytes);
      this.stalled = last.kind === "stalled" ? last.reason : undefined;
      if (last.kind === "stalled") return last;
      if (last.kind !== "taken") return this.refuse(last);
      this.waiting.shift();
    }
    return last;
  }

  progress(positions: ToldPositions): void {
    this.receiver?.tell({ kind: "progress", positions });
  }

  private refuse(outcome: Extract<Taken, { kind: "refused" | "broken" }>): Taken {
    this.waiting = [];
    const { reason, kind } = outcome;
    this.receiver?.tell({ kind: "wal-refused", reason, retry: kind === "refused" });
    this.receiver = undefined;
    return outcome;
  }
}

/** Throws MalformedInput. */
function conninfoOf(source: WalSource, of: InletDeps): Conninfo {
  const given = parseConninfo(source.conninfo);
  // A compute of ours asks for nothing, and whatever else listens on its port is to learn nothing.
  if (source.kind === "compute") return given;
  const conninfo = withPassword(given, of.walToken);
  // Options that somebody wrote into it name a timeline of their own.
  if (source.kind !== "safekeeper" || conninfo.options !== undefined) return conninfo;
  return {
    ...conninfo,
    options: safekeeperOptions({ tenant: of.tenantId, timeline: of.timelineId }),
  };
}
