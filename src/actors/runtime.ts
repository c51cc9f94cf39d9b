// The only importer of nact. What nact lacks is added here: refs that carry their message type,
// replies that are objects (nact's query marks an asker with 31 random bits and can hand one
// asker another's answer), restart budgets with back-off, a register of the live tree, stopping
// what is below (nact's stop of an actor leaves its children running), and word of every message
// that will never be handled, so that nobody waits for an answer in vain.
//
// A handler is synchronous and returns the next state. It never awaits: nact would hold the
// mailbox. It starts work and the outcome comes back as a message.

import * as nact from "nact";
import {
  NO_CRASHES,
  type RestartHistory,
  type RestartPolicy,
  onCrash,
} from "../core/restart-budget.ts";

/** An actor's address. What is told to a stopped actor goes to its spec's `refuse`. */
export interface ActorRef<Msg> {
  readonly path: string;
  readonly tell: (msg: Msg) => void;
  readonly stop: () => void;
  /** True from the moment that the actor is stopped for good. */
  readonly stopped: () => boolean;
  /** For spawning children; opaque. */
  readonly scope: Scope;
}

/** Where an actor can be spawned: the system or another actor. */
export interface Scope {
  readonly path: string;
  readonly ref: unknown;
}

/** Answered exactly once; a second answer is ignored. */
export interface Reply<T> {
  answer(value: T): void;
}

export interface ActorSpec<State, Msg> {
  readonly name: string;
  readonly restart: RestartPolicy;
  /**
   * Builds the state, also after a crash. Children are spawned from `self.scope`; they die with the
   * state. What it throws is a crash like a handler's.
   */
  readonly init: (self: ActorRef<Msg>) => State;
  readonly handle: (state: State, msg: Msg, self: ActorRef<Msg>) => State;
  /** Called once when the actor has stopped, and with the old state before a restart. Must not throw. */
  readonly afterStop?: (state: State | undefined) => void;
  /** Called when the restart budget is used up; the actor has stopped. */
  readonly onBroken?: (reason: string) => void;
  /**
   * Hears of every message that will never be handled: the one that a handler threw at, those that
   * waited when the actor stopped, those told to it later. `why` is the last crash; undefined when
   * the actor was stopped. Answers whoever asked; must not throw. Never called from within `tell`.
   */
  readonly refuse?: (msg: Msg, why: string | undefined) => void;
}

export interface TreeNode {
  readonly path: string;
  readonly state: "running" | "backing-off" | "broken";
  readonly restarts: number;
  readonly lastCrash: string | undefined;
  readonly sinceMs: number;
  /** Messages told and not handled yet. */
  readonly queued: number;
}

export interface CrashReport {
  readonly path: string;
  readonly error: unknown;
  readonly decision: "restart" | "give-up";
  readonly afterMs: number;
}

/** One tree of actors. */
export interface ActorSystem {
  readonly root: Scope;
  readonly tree: () => readonly TreeNode[];
  readonly stop: () => void;
}

interface Entry {
  path: string;
  state: TreeNode["state"];
  restarts: number;
  lastCrash: string | undefined;
  sinceMs: number;
  queued: number;
}

/** What a Scope's `ref` is. */
interface Place {
  readonly actor: nact.Ref<unknown>;
  readonly system: SystemState;
}

interface SystemState {
  readonly nodes: Map<string, Entry>;
  /** Path of a parent to its live children: path and how to stop it. */
  readonly children: Map<string, Map<string, () => void>>;
  readonly onCrash: (report: CrashReport) => void;
}

/** Stops all that was spawned below `path`, the youngest first, each after its own children. */
function stopBelow(system: SystemState, path: string): void {
  const children = system.children.get(path);
  system.children.delete(path);
  for (const stop of [...(children?.values() ?? [])].reverse()) stop();
}

/** Starts a tree. `onCrash` hears of every crash (a log line); nothing crashes silently. */
export function startSystem(name: string, onCrash: (report: CrashReport) => void): ActorSystem {
  const actor = nact.start() as nact.Ref<unknown>;
  const system: SystemState = { nodes: new Map(), children: new Map(), onCrash };
  const place: Place = { actor, system };
  return {
    root: { path: name, ref: place },
    tree: () => [...system.nodes.values()].map((node) => ({ ...node })),
    stop: () => {
      stopBelow(system, name);
      nact.stop(actor);
    },
  };
}

/** What spawn's callbacks share: one actor over all its restarts. */
interface Life<State, Msg> {
  readonly spec: ActorSpec<State, Msg>;
  readonly system: SystemState;
  readonly node: Entry;
  /** The parent's entry of `SystemState.children`. */
  readonly siblings: Map<string, () => void>;
  /**
   * Told and not handled yet, in order; kept only for a spec that wants to refuse. No set: what a set
   * has let go of lives on in its former tables until a full collection.
   */
  readonly waiting: Msg[];
  history: RestartHistory;
  live: boolean;
  current: State | undefined;
  /** `init` threw this: the next message is met by it. */
  stillborn: { readonly error: unknown } | undefined;
}

/** Makes an actor whose `init` threw crash, though nobody has told it anything. */
const STILLBORN = Symbol("stillborn");

/** Spawns an actor. Throws if the parent has a child of that name. */
export function spawn<State, Msg>(parent: Scope, spec: ActorSpec<State, Msg>): ActorRef<Msg> {
  const path = `${parent.path}/${spec.name}`;
  const { actor: above, system } = parent.ref as Place;
  const life: Life<State, Msg> = {
    spec,
    system,
    node: {
      ...{ path, state: "running", restarts: 0, lastCrash: undefined },
      ...{ sinceMs: Date.now(), queued: 0 },
    },
    siblings: system.children.get(parent.path) ?? new Map(),
    waiting: [],
    history: NO_CRASHES,
    live: true,
    current: undefined,
    stillborn: undefined,
  };
  const holder: { self?: ActorRef<Msg> } = {};
  const stopSelf = (): void => holder.self?.stop();
  const refTo = (actor: nact.Ref<unknown>): ActorRef<Msg> =>
    makeRef(life, path, { actor, system }, () => {
      life.live = false;
      stopBelow(system, path);
      if (life.siblings.get(path) === stopSelf) life.siblings.delete(path);
      nact.stop(actor);
    });

  const actor = nact.spawn(
    above,
    (_state: unknown, msg: Msg | typeof STILLBORN) => handled(life, msg, holder.self!),
    spec.name,
    {
      initialStateFunc: (ctx: { self: nact.Ref<unknown> }) => {
        holder.self ??= refTo(ctx.self);
        born(life, holder.self, () => nact.dispatch(ctx.self, STILLBORN));
      },
      onCrash: (msg: Msg | typeof STILLBORN, error: unknown, ctx: CrashContext) =>
        crashed(life, msg, error, ctx),
      afterStop: () => ended(life),
    } as unknown as nact.ActorProps<void, Msg | typeof STILLBORN, nact.Ref<unknown>>,
  ) as nact.Ref<unknown>;
  system.nodes.set(path, life.node);
  life.siblings.set(path, stopSelf);
  system.children.set(parent.path, life.siblings);
  return (holder.self ??= refTo(actor));
}

/** Builds the state. nact would go on with messages after a throw, and have no state for them. */
function born<State, Msg>(
  life: Life<State, Msg>,
  self: ActorRef<Msg>,
  crashSoon: () => void,
): void {
  life.stillborn = undefined;
  try {
    life.current = life.spec.init(self);
  } catch (error) {
    life.stillborn = { error };
    crashSoon();
  }
}

function handled<State, Msg>(
  life: Life<State, Msg>,
  msg: Msg | typeof STILLBORN,
  self: ActorRef<Msg>,
): void {
  if (life.stillborn !== undefined) throw life.stillborn.error;
  if (msg === STILLBORN) return; // another message came first and crashed it
  life.current = life.spec.handle(life.current as State, msg, self);
  forget(life, msg);
  life.node.queued--;
}

/** Whether it was waiting. Messages are handled in their order, so it is mostly the first. */
function forget<State, Msg>({ waiting }: Life<State, Msg>, msg: Msg): boolean {
  const at = waiting.indexOf(msg);
  if (at >= 0) waiting.splice(at, 1);
  return at >= 0;
}

/** nact's answers to a crash. */
interface CrashContext {
  readonly stop: symbol;
  readonly reset: symbol;
  readonly resume: symbol;
}

/** A handler threw: children die with the state that spawned them, then a restart or the end. */
async function crashed<State, Msg>(
  life: Life<State, Msg>,
  msg: Msg | typeof STILLBORN,
  error: unknown,
  ctx: CrashContext,
): Promise<symbol> {
  const { spec, system, node } = life;
  if (msg !== STILLBORN) node.queued--;
  const decision = onCrash(spec.restart, life.history, Date.now());
  life.history = decision.history;
  node.lastCrash = error instanceof Error ? error.message : String(error);
  const afterMs = decision.kind === "restart" ? decision.afterMs : 0;
  system.onCrash({ path: node.path, error, decision: decision.kind, afterMs });
  stopBelow(system, node.path);
  if (msg !== STILLBORN && forget(life, msg)) spec.refuse?.(msg, node.lastCrash);
  if (decision.kind === "give-up") {
    life.live = false;
    node.state = "broken";
    life.siblings.delete(node.path);
    spec.onBroken?.(node.lastCrash);
    return ctx.stop;
  }
  const old = life.current;
  life.current = undefined;
  spec.afterStop?.(old);
  node.restarts++;
  node.state = "backing-off";
  // nact holds the mailbox while this promise is pending: that is the back-off.
  await new Promise((resolve) => setTimeout(resolve, afterMs));
  // Stopped meanwhile (its parent was): must not come to life again.
  if (!life.live) return ctx.resume;
  node.state = "running";
  node.sinceMs = Date.now();
  return ctx.reset;
}

function ended<State, Msg>(life: Life<State, Msg>): void {
  const { spec, system, node } = life;
  life.live = false;
  const old = life.current;
  life.current = undefined;
  // A successor of the same name may have been spawned already: its entry stays.
  if (node.state !== "broken" && system.nodes.get(node.path) === node) {
    system.nodes.delete(node.path);
  }
  spec.afterStop?.(old);
  for (const msg of life.waiting.splice(0)) spec.refuse?.(msg, whyStopped(life.node));
}

const whyStopped = (node: Entry): string | undefined =>
  node.state === "broken" ? node.lastCrash : undefined;

function makeRef<State, Msg>(
  life: Life<State, Msg>,
  path: string,
  place: Place,
  stop: () => void,
): ActorRef<Msg> {
  const { refuse } = life.spec;
  return {
    path,
    scope: { path, ref: place },
    tell: (msg) => {
      if (life.live) {
        life.node.queued++;
        if (refuse !== undefined) life.waiting.push(msg);
        nact.dispatch(place.actor as nact.Ref<Msg>, msg);
      } else if (refuse !== undefined) setImmediate(() => refuse(msg, whyStopped(life.node)));
    },
    stop,
    stopped: () => !life.live,
  };
}

/** Asks at an edge (HTTP, CLI, tests), never inside a handler. Every ask has a deadline and says so in its type. */
export function ask<Msg, T>(
  ref: ActorRef<Msg>,
  build: (reply: Reply<T>) => Msg,
  timeoutMs: number,
): Promise<T | "timed-out"> {
  return new Promise((resolve) => {
    const timer = setTimeout(() => resolve("timed-out"), timeoutMs);
    ref.tell(
      build({
        answer(value) {
          clearTimeout(timer);
          resolve(value);
        },
      }),
    );
  });
}

/** Runs `then` after `ms`; the returned function cancels it. */
export function after(ms: number, then: () => void): () => void {
  const timer = setTimeout(then, ms);
  return () => clearTimeout(timer);
}
