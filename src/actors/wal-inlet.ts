// A timeline's side of its WAL connection: which receiver counts, WAL that must wait for memory or
// disk, and what is told back. Receivers that were replaced are ignored and told to close.

import type { WalSource } from "../store/catalog-entries.ts";
import { parseConninfo } from "../protocol/conninfo.ts";
import { systemClock } from "../io/clock.ts";
import type { TimelineDeps } from "./timeline.ts";
import type { ActorRef } from "./runtime.ts";
import { spawn } from "./runtime.ts";
import type { Positions, TimelineMsg, WalProgressMsg } from "./timeline-messages.ts";
import type { Taken, TimelineWal } from "./timeline-wal.ts";
import { type WalReceiverMsg, type WalReceiverStatus, walReceiver } from "./wal-receiver.ts";

type WalMsg = Extract<TimelineMsg, { kind: "wal" }>;

export class WalInlet {
  /** Of the receiver, as it last told. */
  status: WalReceiverStatus | undefined;
  /** Why WAL waits. */
  stalled: string | undefined;
  private readonly deps: TimelineDeps;
  private readonly timeline: ActorRef<TimelineMsg>;
  private readonly onChange: () => void;
  private child: ActorRef<WalReceiverMsg> | undefined;
  private spawned = 0;
  private receiver: ActorRef<WalProgressMsg> | undefined;
  private attaching: ((inlet: WalInlet) => void) | undefined;
  private waiting: WalMsg[] = [];

  constructor(deps: TimelineDeps, timeline: ActorRef<TimelineMsg>, onChange: () => void) {
    this.deps = deps;
    this.timeline = timeline;
    this.onChange = onChange;
  }

  /** Connects to `source` in the place of what it was; undefined: to nothing. */
  connect(source: WalSource | undefined): void {
    this.stop();
    if (source === undefined) return;
    const { deps, timeline } = this;
    const spec = walReceiver({
      name: `wal-receiver-${++this.spawned}`,
      restart: deps.receiverRestart,
      conninfo: parseConninfo(source.conninfo),
      slot: source.slot,
      source: source.kind === "safekeeper" ? "safekeeper" : "postgres",
      applicationName: deps.applicationName,
      timeline,
      clock: deps.clock ?? systemClock,
      onChange: (status) => {
        this.status = status;
        deps.log.info({ connection: status.connection, reason: status.reason }, "WAL connection");
        this.onChange();
      },
    });
    this.child = spawn(timeline.scope, spec);
  }

  /** Ends the connection; what has waited is forgotten (it will be sent again). */
  stop(): void {
    this.child?.stop();
    this.child = undefined;
    this.receiver = undefined;
    this.attaching = undefined;
    this.status = undefined;
    this.waiting = [];
  }

  /** A receiver announces itself; `then` runs when the WAL files are rewound. */
  attach(receiver: ActorRef<WalProgressMsg>, then: (inlet: WalInlet) => void): void {
    if (this.receiver !== undefined && this.receiver !== receiver) {
      const reason = "another WAL connection has taken over";
      this.receiver.tell({ kind: "wal-refused", reason, retry: false });
    }
    this.receiver = receiver;
    this.waiting = [];
    this.attaching = then;
  }

  rewound(): void {
    const then = this.attaching;
    this.attaching = undefined;
    then?.(this);
  }

  /** Takes WAL in, or keeps it while it must wait; undefined when nothing was done. */
  offer(wal: TimelineWal | undefined, msg: WalMsg, nowMs: number): Taken | undefined {
    if (wal === undefined || msg.receiver !== this.receiver || this.attaching !== undefined) {
      return undefined;
    }
    this.waiting.push(msg);
    return this.retry(wal, nowMs);
  }

  /** Goes on with what has waited, as far as it may. */
  retry(wal: TimelineWal, nowMs: number): Taken | undefined {
    let last: Taken | undefined;
    while (this.waiting.length > 0 && !wal.mustWait && this.attaching === undefined) {
      const msg = this.waiting[0]!;
      if (msg.at !== wal.intake.position) {
        const reason = `WAL came at ${msg.at}, expected at ${wal.intake.position}`;
        return this.refuse({ kind: "refused", reason }, "again");
      }
      last = wal.take(msg.bytes, nowMs);
      this.stalled = last.kind === "stalled" ? last.reason : undefined;
      if (last.kind === "stalled") return last;
      if (last.kind !== "taken") {
        return this.refuse(last, last.kind === "refused" ? "again" : "never");
      }
      this.waiting.shift();
    }
    return last;
  }

  progress(positions: Positions): void {
    this.receiver?.tell({ kind: "progress", positions });
  }

  private refuse(outcome: Extract<Taken, { reason: string }>, retry: "again" | "never"): Taken {
    this.waiting = [];
    const { reason } = outcome;
    this.receiver?.tell({ kind: "wal-refused", reason, retry: retry === "again" });
    this.receiver = undefined;
    return outcome;
  }
}
