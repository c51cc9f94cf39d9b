// The address of a timeline, whether its actor is there or not. One that nobody uses sleeps: it is an entry of
// the catalog and this address, without actor, store or open file. Whoever tells it something wakes it; what it
// is told meanwhile waits in the actor's mailbox until it is loaded, as after a start.
//
//   asleep ──(anything but a tick)──► awake ──(nobody used it for long)──► asleep

import { TIMELINE_LOOK_MS } from "../core/limits.ts";
import type { ActorRef, ActorSpec, Scope } from "./runtime.ts";
import { spawn } from "./runtime.ts";
import type { TimelineMsg } from "./timeline-messages.ts";
import type { Msg, TimelineState } from "./timeline-state.ts";

export interface TimelineActor {
  readonly spec: ActorSpec<TimelineState, Msg>;
  /** Ends the life that is, if one is; resolves when it touches no file any more. Stop the actor first. */
  readonly closed: () => Promise<void>;
}

export interface AddressParts {
  /** Of the actor of its tenant. */
  readonly parent: Scope;
  readonly name: string;
  readonly make: () => TimelineActor;
  /** Its tenant's life is over: it comes to life no more. */
  readonly isOver: () => boolean;
  /** Told of what nobody will handle. */
  readonly refuse: (msg: TimelineMsg) => void;
  readonly steadyMs: () => number;
  /** From 0 to 1. */
  readonly chance: () => number;
}

export class TimelineAddress implements ActorRef<TimelineMsg> {
  private readonly parts: AddressParts;
  private made: TimelineActor | undefined;
  private actor: ActorRef<TimelineMsg> | undefined;
  private ended = false;
  /** Steady ms of the next look; undefined: it has nothing that time changes. */
  private lookMs: number | undefined;

  constructor(parts: AddressParts) {
    this.parts = parts;
  }

  get path(): string {
    return `${this.parts.parent.path}/${this.parts.name}`;
  }

  get scope(): Scope {
    return this.awake().scope;
  }

  get isAwake(): boolean {
    return this.actor !== undefined;
  }

  tell(msg: TimelineMsg): void {
    if (msg.kind === "stop") this.ended = true;
    if (this.actor !== undefined) return this.actor.tell(msg);
    if (msg.kind === "stop") return void this.closed().then(() => msg.reply.answer(undefined));
    if (msg.kind === "tick") return this.look();
    if (this.stopped()) return this.parts.refuse(msg);
    const actor = this.awake();
    if (msg.kind === "read" || msg.kind === "backup-source" || msg.kind === "wake") actor.tell(msg);
    // All else does not wait by itself until it is loaded.
    else actor.tell({ kind: "wake", reply: { answer: () => actor.tell(msg) } });
  }

  stop(): void {
    this.ended = true;
    this.actor?.stop();
  }

  stopped(): boolean {
    return this.ended || this.parts.isOver() || this.actor?.stopped() === true;
  }

  /** The actor; spawned now if there is none. */
  awake(): ActorRef<TimelineMsg> {
    this.made ??= this.parts.make();
    return (this.actor ??= spawn(this.parts.parent, this.made.spec));
  }

  /** Begins asleep, or goes to sleep: its life has ended by itself. `looks`: it is woken now and then. */
  sleep(looks: boolean): void {
    const { steadyMs, chance } = this.parts;
    this.lookMs = looks ? steadyMs() + TIMELINE_LOOK_MS * (0.5 + chance() / 2) : undefined;
    const { actor, made } = this;
    this.actor = undefined;
    actor?.stop();
    // Whoever wakes it before its files are closed has the same maker, which waits for that.
    void made?.closed().then(() => {
      if (this.actor === undefined && this.made === made) this.made = undefined;
    });
  }

  /** Tells once more what the actor that went to sleep did not handle; false: it lives no more. */
  again(msg: TimelineMsg): boolean {
    if (this.stopped()) return false;
    this.tell(msg);
    return true;
  }

  /** Resolves when nothing of it touches a file. */
  closed(): Promise<void> {
    return this.made?.closed() ?? Promise.resolve();
  }

  /** What depends on time (history that may go) is looked at by the timeline itself. */
  private look(): void {
    if (this.lookMs === undefined || this.parts.steadyMs() < this.lookMs || this.stopped()) return;
    this.lookMs = undefined;
    this.awake();
  }
}
