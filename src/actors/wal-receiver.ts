// One connection to a WAL source, kept up for as long as the actor lives: performs what
// core/wal-receiver.ts decides. Socket callbacks only queue and tell; WAL goes on to the timeline
// by message, and what the timeline says is durable goes upstream at once, for commits wait for it.
//
// A stream's messages queue in `inbox`, and one "arrived" message stands for all of them: many
// small WAL messages then travel to the timeline as one.

import { REPLICATION_CONNECT_MS_MAX, WAL_JOIN_BYTES } from "../core/limits.ts";
import { LSN_INVALID, type Lsn } from "../core/lsn.ts";
import type { RestartPolicy } from "../core/restart-budget.ts";
import type { Result } from "../core/result.ts";
import { stepReceiver, wakeAfterMs } from "../core/wal-receiver.ts";
import type { StreamEnd } from "../core/wal-receiver-failure.ts";
import {
  IDLE_RECEIVER,
  type ReceiverEffect,
  type ReceiverEvent,
  type ReceiverState,
} from "../core/wal-receiver-state.ts";
import type { EndHeard } from "../core/wal-lag.ts";
import type { Clock } from "../io/clock.ts";
import { type ReplicationConnection, connectReplication } from "../io/replication-client.ts";
import type { WalStream } from "../io/replication/streaming.ts";
import { type Conninfo, formatConninfo } from "../protocol/conninfo.ts";
import { ServerError } from "../protocol/replication.ts";
import { type ActorRef, type ActorSpec, type Reply, after } from "./runtime.ts";
import type { TimelineMsg, WalProgressMsg, WalStart } from "./timeline-messages.ts";

export interface WalReceiverOptions {
  readonly name: string;
  readonly restart: RestartPolicy;
  readonly conninfo: Conninfo;
  /**
   * Physical replication slot that keeps WAL for us; undefined: none (a safekeeper keeps its WAL by
   * itself).
   */
  readonly slot: string | undefined;
  /** "safekeeper" takes no timeline id with START_REPLICATION. */
  readonly source: "postgres" | "safekeeper";
  /** Shown in pg_stat_replication; what a primary's synchronous_standby_names matches. */
  readonly applicationName: string;
  readonly timeline: ActorRef<TimelineMsg>;
  readonly clock: Clock;
  /** Hears of every change of the connection; a log line. */
  readonly onChange: (status: WalReceiverStatus) => void;
}

export interface WalReceiverStatus {
  readonly connection: "connecting" | "streaming" | "backing-off" | "refused";
  /** Without password; undefined: it has not begun. */
  readonly conninfo: string | undefined;
  readonly reconnects: number;
  /** Of the current stream; Unix ms. */
  readonly streamingSinceMs: number | undefined;
  /** When the source was last heard, Unix ms. */
  readonly lastMessageMs: number | undefined;
  /** Handed to the timeline up to here. */
  readonly received: Lsn | undefined;
  readonly lagBytes: number | undefined;
  /** Ends of its WAL that are not durable here yet, at Unix ms. */
  readonly ends: readonly EndHeard[];
  /** Reported upstream as flush. */
  readonly flushed: Lsn;
  /** Why it is refused, backs off, or last did; gone when WAL has flowed again. */
  readonly reason: string | undefined;
}

export type WalReceiverMsg =
  | WalProgressMsg
  | { readonly kind: "describe"; readonly reply: Reply<WalReceiverStatus> }
  /** Do not wait for the back-off; also leaves "refused". */
  | { readonly kind: "connect-now" }
  | {
      readonly kind: "attached";
      readonly connection: number;
      readonly start: Result<WalStart, string>;
    }
  | {
      readonly kind: "connected";
      readonly connection: number;
      readonly link: ReplicationConnection;
      readonly identity: { readonly systemId: string; readonly tli: number; readonly xlogpos: Lsn };
    }
  /** The slot is there: START_REPLICATION may be sent. */
  | {
      readonly kind: "slot-ready";
      readonly connection: number;
      readonly from: Lsn;
      readonly tli: number;
    }
  | { readonly kind: "arrived"; readonly connection: number }
  | { readonly kind: "ended"; readonly connection: number; readonly end: StreamEnd }
  | { readonly kind: "tick" };

/** What a stream's callbacks have queued, in order. */
type Arrival =
  | { readonly kind: "started" }
  | { readonly kind: "wal"; readonly at: Lsn; readonly bytes: Uint8Array; readonly end: Lsn }
  | { readonly kind: "keepalive"; readonly end: Lsn; readonly replyRequested: boolean };

interface State {
  readonly self: ActorRef<WalReceiverMsg>;
  readonly options: WalReceiverOptions;
  machine: ReceiverState;
  link: ReplicationConnection | undefined;
  stream: WalStream | undefined;
  inbox: Arrival[];
  cancelWake: () => void;
}

/** The actor's spec; spawn it under its timeline. */
export function walReceiver(options: WalReceiverOptions): ActorSpec<State, WalReceiverMsg> {
  // Connection numbers go on across restarts, so that nothing said to a crashed state is taken for
  // ours.
  let connectionsBefore = 0;
  return {
    name: options.name,
    restart: options.restart,
    init: (self) => {
      const state: State = {
        self,
        options,
        machine: { ...IDLE_RECEIVER, connection: connectionsBefore },
        link: undefined,
        stream: undefined,
        inbox: [],
        cancelWake: () => {},
      };
      self.tell({ kind: "connect-now" });
      return state;
    },
    handle: (state, msg) => {
      const before = state.machine;
      handle(state, msg);
      if (before.phase.kind !== state.machine.phase.kind) {
        armWake(state);
        options.onChange(describe(state));
      }
      return state;
    },
    afterStop: (state) => {
      if (state === undefined) return;
      connectionsBefore = state.machine.connection;
      state.cancelWake();
      state.link?.close();
    },
  };
}

function handle(state: State, msg: WalReceiverMsg): void {
  switch (msg.kind) {
    case "describe":
      return msg.reply.answer(describe(state));
    case "connected":
      // An abandoned attempt may still succeed: nobody would close it then.
      if (msg.connection !== state.machine.connection) return msg.link.close();
      return step(state, msg);
    case "slot-ready":
      if (msg.connection === state.machine.connection) startStream(state, msg.from, msg.tli);
      return;
    case "arrived":
      if (msg.connection === state.machine.connection) takeArrivals(state);
      return;
    case "progress":
      return step(state, { kind: "progress", ...msg.positions });
    case "tick":
      step(state, msg);
      return armWake(state);
    default:
      return step(state, msg);
  }
}

/** One decision, and all it wants done but delivery, which `takeArrivals` does. */
function step(state: State, event: ReceiverEvent): void {
  for (const effect of decide(state, event)) perform(state, effect);
}

function decide(state: State, event: ReceiverEvent): readonly ReceiverEffect[] {
  const { clock } = state.options;
  const moment = { nowMs: clock.steadyMs(), chance: clock.chance() };
  const [machine, effects] = stepReceiver(state.machine, event, moment);
  state.machine = machine;
  return effects;
}

function perform(state: State, effect: ReceiverEffect): void {
  switch (effect.do) {
    case "connect":
      return connect(state, effect.connection);
    case "attach":
      return attach(state);
    case "stream":
      return prepareSlot(state, effect.lsn, effect.tli);
    case "report":
      state.stream?.sendStatus(
        { ...effect.positions, replyRequested: effect.ask },
        state.options.clock.nowMs(),
      );
      return;
    case "pause":
      return state.stream?.pause();
    case "resume":
      return state.stream?.resume();
    case "close":
      state.link?.close();
      state.link = undefined;
      state.stream = undefined;
      state.inbox = [];
      return;
    case "deliver":
      return; // only a WAL event leads to it: takeArrivals has the bytes
  }
}

function connect(state: State, connection: number): void {
  const { self, options } = state;
  const { conninfo, applicationName } = options;
  const failed = (cause: unknown): void =>
    self.tell({ kind: "ended", connection, end: endOf(cause) });
  connectReplication(conninfo, { applicationName, timeoutMs: REPLICATION_CONNECT_MS_MAX }).then(
    (link) => {
      // Whoever stops the actor must find the connection, even before the message below is handled.
      if (self.stopped() || state.machine.connection !== connection) return link.close();
      state.link = link;
      return link
        .identify()
        .then((identity) => self.tell({ kind: "connected", connection, link, identity }), failed);
    },
    failed,
  );
}

function attach({ self, options, machine }: State): void {
  const { connection } = machine;
  options.timeline.tell({
    kind: "wal-attach",
    receiver: self,
    reply: { answer: (start) => self.tell({ kind: "attached", connection, start }) },
  });
}

function prepareSlot(state: State, from: Lsn, tli: number): void {
  const { self, options, machine, link } = state;
  const { connection } = machine;
  const ready = { kind: "slot-ready", connection, from, tli } as const;
  if (options.slot === undefined) return self.tell(ready);
  link?.ensureSlot(options.slot).then(
    () => self.tell(ready),
    (cause: unknown) => self.tell({ kind: "ended", connection, end: endOf(cause) }),
  );
}

function startStream(state: State, lsn: Lsn, tli: number): void {
  const { self, options, machine, link } = state;
  const { connection } = machine;
  const arrive = (arrival: Arrival): void => {
    if (state.machine.connection !== connection) return;
    state.inbox.push(arrival);
    if (state.inbox.length === 1) self.tell({ kind: "arrived", connection });
  };
  state.stream = link?.startReplication(
    { slot: options.slot, lsn, tli: options.source === "safekeeper" ? undefined : tli },
    {
      onStart: () => arrive({ kind: "started" }),
      onData: (at, bytes, end) => arrive({ kind: "wal", at, bytes, end }),
      onKeepalive: (end, replyRequested) => arrive({ kind: "keepalive", end, replyRequested }),
      onEnd: (end) => self.tell({ kind: "ended", connection, end }),
    },
  );
}

/** Takes everything that has arrived; neighbouring WAL goes to the timeline joined. */
function takeArrivals(state: State): void {
  const arrivals = state.inbox;
  state.inbox = [];
  const { connection } = state.machine;
  let run: { readonly at: Lsn; readonly parts: Uint8Array[]; bytes: number } | undefined;
  const flush = (): void => {
    if (run === undefined) return;
    const bytes = run.parts.length === 1 ? run.parts[0]! : Buffer.concat(run.parts, run.bytes);
    const { self, options } = state;
    options.timeline.tell({ kind: "wal", receiver: self, at: run.at, bytes });
    run = undefined;
  };
  for (const arrival of arrivals) {
    const event =
      arrival.kind === "wal"
        ? { ...arrival, connection, bytes: arrival.bytes.length }
        : { ...arrival, connection };
    for (const effect of decide(state, event)) {
      if (effect.do !== "deliver" || arrival.kind !== "wal") {
        perform(state, effect);
        continue;
      }
      const bytes = arrival.bytes.subarray(effect.skip);
      if (run !== undefined && run.bytes + bytes.length > WAL_JOIN_BYTES) flush();
      run ??= { at: effect.at, parts: [], bytes: 0 };
      run.parts.push(bytes);
      run.bytes += bytes.length;
    }
  }
  flush();
}

function armWake(state: State): void {
  state.cancelWake();
  const ms = wakeAfterMs(state.machine, state.options.clock.steadyMs());
  if (ms === undefined) return;
  state.cancelWake = after(Math.ceil(ms), () => state.self.tell({ kind: "tick" }));
}

function endOf(cause: unknown): StreamEnd {
  if (cause instanceof ServerError) {
    return { kind: "server-error", code: cause.code, message: cause.message };
  }
  return { kind: "lost", message: cause instanceof Error ? cause.message : String(cause) };
}

function describe({ machine, options }: State): WalReceiverStatus {
  const { phase } = machine;
  const streaming = phase.kind === "streaming" ? phase : undefined;
  const { clock, conninfo } = options;
  const unix = (steadyMs: number | undefined): number | undefined =>
    steadyMs === undefined ? undefined : clock.nowMs() - (clock.steadyMs() - steadyMs);
  return {
    connection:
      phase.kind === "streaming" || phase.kind === "refused" || phase.kind === "backing-off"
        ? phase.kind
        : "connecting",
    conninfo: formatConninfo(conninfo),
    reconnects: machine.reconnects,
    streamingSinceMs: unix(streaming?.sinceMs),
    lastMessageMs: unix(streaming?.heardAtMs),
    received: streaming?.next,
    ends: streaming?.ends.map(({ atMs, end }) => ({ atMs: unix(atMs)!, end })) ?? [],
    lagBytes: streaming && Math.max(0, streaming.sourceEnd - streaming.next),
    flushed: machine.reported.flush,
    reason: phase.kind === "refused" ? phase.reason : machine.lastError,
  };
}

/** Of a source that is not to be connected to any more, after what was known of it. */
export const refusedStatus = (
  before: WalReceiverStatus | undefined,
  reason: string,
): WalReceiverStatus => ({
  ...{ conninfo: undefined, reconnects: 0, lastMessageMs: undefined },
  ...{ received: undefined, flushed: LSN_INVALID, ...before },
  ...{ connection: "refused", streamingSinceMs: undefined, lagBytes: undefined, ends: [], reason },
});
