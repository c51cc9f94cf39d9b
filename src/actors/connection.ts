// One compute link. A chunk is handled where it arrives and an answer where it is given, without a
// turn through the mailbox: a turn costs as much as a page. What either throws ends this link only.
// Login is protocol/pg-handshake.ts, a message's meaning core/connection.ts, answers leave through
// outbox.ts, pages through page-stream.ts. Never restarted: the compute reconnects.

import { MalformedInput, unreachable } from "../core/assert.ts";
import { type Phase, decide } from "../core/connection.ts";
import {
  ANSWER_MS_MAX,
  CONNECTION_WATCH_MS,
  FRONTEND_MESSAGE_BYTES_MAX,
  HANDSHAKE_MS_MAX,
  SEND_STALL_MS_MAX,
} from "../core/limits.ts";
import type { FairShare } from "../core/fair-share.ts";
import type { TenantId } from "../core/ids.ts";
import { type LinkCounts, LinkPlace } from "../core/link-counts.ts";
import type { Claims } from "../core/permission.ts";
import { type Result, err } from "../core/result.ts";
import type { SlabPool } from "../core/slab-pool.ts";
import type { Link } from "../io/listener.ts";
import type { Log } from "../io/log.ts";
import { meters } from "../io/meters.ts";
import type { LinkTls } from "../io/tls.ts";
import { type ComputeOptions, parseComputeOptions } from "../protocol/compute-options.ts";
import type { PageServiceCommand } from "../protocol/page-service-command.ts";
import { Framer } from "../protocol/pg-frames.ts";
import { type Authenticate, Handshake, type HandshakeStep } from "../protocol/pg-handshake.ts";
import {
  SQLSTATE,
  type SqlState,
  copyBothResponse,
  errorResponse,
  frontendKind,
  readyForQuery,
} from "../protocol/pg-messages.ts";
import type { ServeBackup } from "./backup-copy.ts";
import { CommandRunner } from "./connection-commands.ts";
import { Outbox } from "./outbox.ts";
import { PageStream, type ResolveTimeline } from "./page-stream.ts";
import { type ActorRef, type Scope, after, spawn } from "./runtime.ts";

export type ConnectionMsg = {
  /** Time to look at the deadlines. */
  readonly kind: "watch";
};

/** How long a link may take for what, ms. */
export interface ConnectionDeadlines {
  readonly handshakeMs: number;
  readonly answerMs: number;
  readonly sendStallMs: number;
  readonly watchMs: number;
}

export const DEADLINES: ConnectionDeadlines = {
  handshakeMs: HANDSHAKE_MS_MAX,
  answerMs: ANSWER_MS_MAX,
  sendStallMs: SEND_STALL_MS_MAX,
  watchMs: CONNECTION_WATCH_MS,
};

export interface ConnectionDeps {
  readonly resolve: ResolveTimeline;
  readonly serveBackup: ServeBackup;
  readonly authenticate: Authenticate;
  readonly tls?: LinkTls | undefined;
  readonly log: Log;
  readonly slabs: SlabPool;
  readonly fair: FairShare;
  readonly links: LinkCounts;
  readonly onLoggedIn?: () => void;
  readonly deadlines: ConnectionDeadlines;
}

/** Spawns the actor of an accepted link; it stops when the link is closed, and then calls `onGone`. */
export function spawnConnection(
  parent: Scope,
  name: string,
  link: Link,
  deps: ConnectionDeps,
  onGone: () => void,
): ActorRef<ConnectionMsg> {
  return spawn<Connection, ConnectionMsg>(parent, {
    name,
    restart: { crashesMax: 0, windowMs: 1, backOffMs: 0, backOffMsMax: 0 },
    init: (self) => new Connection(self, link, deps),
    handle: (connection, msg) => {
      switch (msg.kind) {
        case "watch":
          connection.watch();
          return connection;
        default:
          return unreachable(msg.kind);
      }
    },
    afterStop: (connection) => {
      connection?.stop();
      onGone();
    },
  });
}

class Connection {
  private readonly self: ActorRef<ConnectionMsg>;
  private readonly link: Link;
  private readonly deps: ConnectionDeps;
  private log: Log;
  private readonly startedMs = Date.now();
  private phase: Phase = "commands";
  private compute: ComputeOptions = {};
  private handshake: Handshake | undefined;
  private readonly framer: Framer;
  private readonly outbox: Outbox;
  private readonly commands: CommandRunner;
  private stream: PageStream | undefined;
  private readonly place: LinkPlace;
  private checking = false;
  private proceeding = false;
  private ended = false;
  private cancelWatch: () => void;

  constructor(self: ActorRef<ConnectionMsg>, link: Link, deps: ConnectionDeps) {
    this.self = self;
    this.link = link;
    this.deps = deps;
    this.place = new LinkPlace(deps.links);
    this.log = deps.log.child({ peer: link.peer });
    this.handshake = new Handshake(deps.authenticate, deps.tls?.policy);
    this.framer = new Framer(
      (type, body) => this.handle(type, body),
      FRONTEND_MESSAGE_BYTES_MAX,
      () => this.ready,
    );
    this.outbox = new Outbox(link, deps.slabs, () => this.guarded(() => this.proceed()));
    this.commands = new CommandRunner({
      outbox: this.outbox,
      deps,
      log: this.log,
      guarded: (work) => this.guarded(work),
      busy: () => (this.phase = "busy"),
      idle: () => {
        this.phase = "commands";
        this.proceed();
      },
      skip: () => {
        this.phase = "skipping";
        this.proceed();
      },
      admit: (tenant) => this.admit(tenant),
      stream: (command) => this.startStream(command),
      closeNow: (state, text) => this.closeNow(state, text),
    });
    link.start({
      onBytes: (chunk) => this.guarded(() => this.onBytes(chunk)),
      onEnd: () => this.guarded(() => this.onEnd()),
      onClosed: (error) => this.onClosed(error),
    });
    this.cancelWatch = after(deps.deadlines.watchMs, () => this.self.tell({ kind: "watch" }));
  }

  /** Runs what a callback brings; whatever it throws ends this link and nothing else. */
  private guarded(work: () => void): void {
    if (this.outbox.isClosed) return;
    try {
      work();
    } catch (error) {
      this.onThrown(error);
    }
  }

  /** Runs inside socket callbacks: what it throws would end the program. */
  private onThrown(error: unknown): void {
    try {
      if (error instanceof MalformedInput) return this.violation(error.message);
      this.log.error({ err: error }, "internal error; the connection is closed");
      this.closeNow(SQLSTATE.internalError, "internal error; see the server's log");
    } catch (second) {
      this.log.error({ err: second }, "internal error while closing; the link is cut");
      this.link.destroy();
    }
  }

  private onBytes(chunk: Uint8Array): void {
    if (this.phase === "closing") return;
    if (this.handshake !== undefined) this.onLoginStep(this.handshake.push(chunk));
    else this.framer.push(chunk);
    this.stream?.flush();
    this.adjustReading();
  }

  private onLoginStep(step: HandshakeStep): void {
    if (step.kind === "close") {
      if (step.reason !== undefined) this.log.error(step.reason);
      this.close(...step.bytes);
      return;
    }
    if (step.kind === "done" && "tenant" in step.claims && !this.admit(step.claims.tenant)) return;
    if (step.bytes.length > 0) this.outbox.send(...step.bytes);
    if (step.kind === "more") return;
    if (step.kind === "tls") return this.link.secure(this.deps.tls!.context, step);
    if (step.kind === "check") return this.awaitVerdict(step.verdict);
    this.handshake = undefined;
    this.commands.claims = step.claims;
    this.compute = parseComputeOptions(step.parameters);
    this.deps.onLoggedIn?.();
    const application = step.parameters.get("application_name");
    if (application !== undefined) this.log = this.log.child({ application });
    this.log.debug("connected");
    if (step.rest.length > 0) this.framer.push(step.rest);
  }

  /** Takes a place among the tenant's links; closes this one if there is none. */
  private admit(tenant: TenantId): boolean {
    const refusal = this.place.take(tenant);
    if (refusal === undefined) return true;
    meters.connectionsRefused++;
    this.log.warn(refusal);
    this.closeNow(SQLSTATE.tooManyConnections, refusal);
    return false;
  }

  /** Nothing is read while a token is being checked. */
  private awaitVerdict(verdict: Promise<Result<Claims, string>>): void {
    this.checking = true;
    const decided = (result: Result<Claims, string>): void =>
      this.guarded(() => {
        this.checking = false;
        if (this.phase === "closing") return;
        this.onLoginStep(this.handshake!.checked(result));
        this.proceed();
      });
    verdict.then(decided, (error: unknown) => {
      this.log.error({ err: error }, "a token could not be checked");
      decided(err("JWT authentication error"));
    });
  }

  /** Whether a message can be handled now. */
  private get ready(): boolean {
    if (this.checking || this.phase === "busy") return false;
    return this.stream === undefined ? this.outbox.room() > 0 : this.stream.hasRoom;
  }

  private handle(type: number, body: Uint8Array): void {
    if (this.phase === "busy") return;
    const kind = frontendKind(type);
    switch (decide(this.phase, kind)) {
      case "page-request":
        this.onRequest(body);
        return;
      case "do":
        this.commands.onMessage(kind, body);
        return;
      case "ignore":
        return;
      case "end-pagestream":
        this.endStream(`unexpected message ${kind} during COPY`);
        return;
      case "goodbye":
        this.stream?.flush();
        this.close();
        return;
      case "violation":
        throw new MalformedInput(
          `unexpected message ${kind === "unknown" ? `of type ${type}` : kind}`,
        );
    }
  }

  private onRequest(body: Uint8Array): void {
    try {
      this.stream!.request(body);
    } catch (error) {
      if (!(error instanceof MalformedInput)) throw error;
      this.endStream(error.message);
    }
  }

  private startStream(command: Extract<PageServiceCommand, { kind: "pagestream" }>): void {
    this.log = this.log.child({ tenant: command.tenant, timeline: command.timeline });
    this.outbox.send(copyBothResponse());
    this.phase = "pagestream";
    this.stream = new PageStream(command.version, {
      outbox: this.outbox,
      slabs: this.deps.slabs,
      fair: this.deps.fair,
      tenant: command.tenant,
      timeline: command.timeline,
      compute: this.compute,
      resolve: () => this.deps.resolve(command.tenant, command.timeline),
      guarded: (work) => this.guarded(work),
      onUnusable: (kind) =>
        kind === "shutting-down"
          ? this.closeNow(SQLSTATE.adminShutdown, "shutdown")
          : this.closeNow(SQLSTATE.connectionFailure, "reconnect"),
      onRoom: () => this.proceed(),
    });
  }

  private endStream(why: string): void {
    this.log.error(`pagestream ended: ${why}`);
    this.stream!.flush();
    this.stream = undefined;
    this.phase = "commands";
    this.outbox.send(errorResponse(SQLSTATE.internalError, why), readyForQuery());
  }

  /** Goes on with messages that were held back, then with reading. */
  private proceed(): void {
    // A command that ends at once says so from within this loop.
    if (this.proceeding) return;
    this.proceeding = true;
    this.framer.resume();
    this.proceeding = false;
    this.stream?.flush();
    if (this.ended && !this.framer.isHolding && this.ready) this.onEnd();
    this.adjustReading();
  }

  private adjustReading(): void {
    if (this.phase === "closing" || (!this.framer.isHolding && this.ready)) this.link.resume();
    else this.link.pause();
  }

  /** The client sends nothing more. What it asked for before is still answered. */
  private onEnd(): void {
    this.ended = true;
    if (this.phase === "closing") return;
    if (this.framer.isHolding || this.checking || this.phase === "busy") return;
    if (this.framer.pendingBytes > 0) {
      throw new MalformedInput("the client closed in the middle of a message");
    }
    this.close();
  }

  /** A message that may not come here, or cannot be read: an error behind the answers owed, then the end. */
  private violation(why: string): void {
    this.log.error(`malformed message: ${why}`);
    this.stream?.flush();
    this.close(errorResponse(SQLSTATE.protocolViolation, why));
  }

  /** Closes after all that is owed. What still comes in is read and thrown away. */
  private close(...bytes: readonly Uint8Array[]): void {
    if (this.phase === "closing") return;
    this.phase = "closing";
    this.outbox.finish(...bytes);
    this.link.resume();
  }

  /** Closes without what is owed: the client has to ask again elsewhere. */
  private closeNow(state: SqlState, text: string): void {
    if (this.outbox.isClosed) return;
    this.phase = "closing";
    this.outbox.finishNow(errorResponse(state, text));
    this.link.resume();
  }

  watch(): void {
    const now = Date.now();
    const { handshakeMs, answerMs, sendStallMs, watchMs } = this.deps.deadlines;
    this.cancelWatch = after(watchMs, () => this.self.tell({ kind: "watch" }));
    const stalled = this.outbox.stalledSinceMs;
    if (stalled !== undefined && now - stalled > sendStallMs) {
      this.log.warn(`the client took nothing for ${now - stalled} ms; the connection is closed`);
      this.link.destroy();
      return;
    }
    if (this.handshake !== undefined && now - this.startedMs > handshakeMs) {
      this.log.warn(`no login within ${handshakeMs} ms; the connection is closed`);
      this.link.destroy();
      return;
    }
    const waiting = this.outbox.oldestMs ?? this.commands.waitingSinceMs;
    if (waiting !== undefined && now - waiting > answerMs) {
      this.log.error(
        `the timeline did not answer within ${answerMs} ms; the client is told to reconnect`,
      );
      this.closeNow(SQLSTATE.connectionFailure, "reconnect");
    }
  }

  private onClosed(error: Error | undefined): void {
    this.log.debug({ err: error }, "disconnected");
    this.phase = "closing";
    this.self.stop();
  }

  /** The actor has stopped: because the link is closed, or because the server stops. */
  stop(): void {
    this.cancelWatch();
    this.guarded(() => this.closeNow(SQLSTATE.adminShutdown, "shutdown"));
    this.outbox.close(new Error("the link is closed"));
    this.link.endSoon();
    this.stream?.close();
    this.stream = undefined;
    this.place.leave();
  }
}
