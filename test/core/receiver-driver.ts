// Drives the state machine of a WAL receiver (core/wal-receiver.ts) by hand: events in, what it wants done out.

import { Lsn } from "../../src/core/lsn.ts";
import { ok } from "../../src/core/result.ts";
import { stepReceiver } from "../../src/core/wal-receiver.ts";
import {
  IDLE_RECEIVER,
  type ReceiverEffect,
  type ReceiverEvent,
  type ReceiverState,
  type StartPoint,
} from "../../src/core/wal-receiver-state.ts";

export const START = Lsn.parse("0/3000100");
export const POINT: StartPoint = { lsn: START, tli: 1, systemId: "77" };
export const IDENTITY = { systemId: "77", tli: 1, xlogpos: Lsn.parse("1/0") };
export const at = (offset: number): Lsn => Lsn.of(START + offset);

/** Drives a machine and keeps what it wanted done. */
export class Driver {
  state: ReceiverState = IDLE_RECEIVER;
  nowMs = 0;
  chance = 0;

  send(event: ReceiverEvent): readonly ReceiverEffect[] {
    const [state, effects] = stepReceiver(this.state, event, this);
    this.state = state;
    return effects;
  }
  tickAfter(ms: number): readonly ReceiverEffect[] {
    this.nowMs += ms;
    return this.send({ kind: "tick" });
  }
  get connection(): number {
    return this.state.connection;
  }
  get phase(): string {
    return this.state.phase.kind;
  }
  connected(): readonly ReceiverEffect[] {
    return this.send({ kind: "connected", connection: this.connection, identity: IDENTITY });
  }
  attached(start = ok(POINT) as ReturnType<typeof ok<StartPoint>>): readonly ReceiverEffect[] {
    return this.send({ kind: "attached", connection: this.connection, start });
  }
  stream(): this {
    this.send({ kind: "connect-now" });
    this.connected();
    this.attached();
    this.send({ kind: "started", connection: this.connection });
    return this;
  }
  wal(offset: number, bytes: number): readonly ReceiverEffect[] {
    const { connection } = this;
    return this.send({ kind: "wal", connection, at: at(offset), bytes, end: at(offset + bytes) });
  }
  progress(received: number, visible = received, durable = received): readonly ReceiverEffect[] {
    return this.send({
      kind: "progress",
      received: at(received),
      visible: at(visible),
      durable: at(durable),
    });
  }
  /** All is durable, and object storage has it up to `uploaded`. */
  backedUp(durable: number, uploaded: number): readonly ReceiverEffect[] {
    const told = { flushed: at(uploaded), applied: at(uploaded) };
    const [received, visible] = [at(durable), at(durable)];
    return this.send({ kind: "progress", received, visible, durable: at(durable), ...told });
  }
  /** The source asks where we are; what it is told as flush. */
  asked(): Lsn | undefined {
    const { connection } = this;
    const end = at(1000);
    const effects = this.send({ kind: "keepalive", connection, end, replyRequested: true });
    const report = effects.find((effect) => effect.do === "report");
    return report?.do === "report" ? report.positions.flush : undefined;
  }
  lost(): readonly ReceiverEffect[] {
    const { connection } = this;
    return this.send({ kind: "ended", connection, end: { kind: "lost", message: "cut" } });
  }
}

export const kinds = (effects: readonly ReceiverEffect[]): string[] => effects.map((e) => e.do);
