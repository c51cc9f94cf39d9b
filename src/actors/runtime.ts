// The only importer of nact. What nact lacks is added here: refs that carry their message type,
// replies that are objects (nact's query marks an asker with 31 random bits and can hand one
// asker another's answer), restart budgets with back-off, a register of the live tree, and stopping
// what is below: nact's stop of an actor leaves its children running.
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

/** An actor's address. `tell` to a stopped actor is dropped and counted. */
export interface ActorRef<Msg> {
  readonly path: string;
  readonly tell: (msg: Msg) => void;
  readonly stop: () => void;
  /** True once the actor has stopped for good. */
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
  /** Builds the state, also after a crash. Children are spawned from `self.scope`; they die with the state. */
  readonly init: (self: ActorRef<Msg>) => State;
  readonly handle: (state: State, msg: Msg, self: ActorRef<Msg>) => State;
  /** Called once when the actor has stopped, and with the old state before a restart. Must not throw. */
  readonly afterStop?: (state: State | undefined) => void;
  /** Called when the restart budget is used up; the actor has stopped. */
  readonly onBroken?: (reason: string) => void;
}

export interface TreeNode {
  readonly path: string;
  readonly state: "running" | "backing-off" | "broken";
  readonly restarts: number;
  readonly lastCrash: string | undefined;
  readonly sinceMs: number;
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
}

interface SystemState {
  readonly nodes: Map<string, Entry>;
  /** Path of a parent to its live children: path and how to stop it. */
  readonly children: Map<string, Map<string, () => void>>;
  readonly onCrash: (report: CrashReport) => void;
}

const systems = new Map<string, SystemState>();

/** Stops all that was spawned below `path`, the youngest first, each after its own children. */
function stopBelow(system: SystemState, path: string): void {
  const children = system.children.get(path);
  system.children.delete(path);
  for (const stop of [...(children?.values() ?? [])].reverse()) stop();
}

/** Starts a tree. `onCrash` hears of every crash (a log line); nothing crashes silently. */
export function startSystem(name: string, onCrash: (report: CrashReport) => void): ActorSystem {
  const ref = nact.start(name);
  const state: SystemState = { nodes: new Map(), children: new Map(), onCrash };
  systems.set(name, state);
  return {
    root: { path: name, ref },
    tree: () => [...state.nodes.values()].map((node) => ({ ...node })),
    stop: () => {
      stopBelow(state, name);
      nact.stop(ref as nact.Ref<unknown>);
      systems.delete(name);
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
  history: RestartHistory;
  live: boolean;
  current: State | undefined;
}

/** Spawns an actor. Throws if the parent has a child of that name. */
export function spawn<State, Msg>(parent: Scope, spec: ActorSpec<State, Msg>): ActorRef<Msg> {
  const path = `${parent.path}/${spec.name}`;
  const system = systems.get(parent.path.split("/")[0]!)!;
  const life: Life<State, Msg> = {
    spec,
    system,
    node: { path, state: "running", restarts: 0, lastCrash: undefined, sinceMs: Date.now() },
    siblings: system.children.get(parent.path) ?? new Map(),
    history: NO_CRASHES,
    live: true,
    current: undefined,
  };
  const holder: { self?: ActorRef<Msg> } = {};
  const stopSelf = (): void => holder.self?.stop();
  const refTo = (ref: unknown): ActorRef<Msg> => {
    const stop = (): void => {
      stopBelow(system, path);
      if (life.siblings.get(path) === stopSelf) life.siblings.delete(path);
      nact.stop(ref as nact.Ref<unknown>);
    };
    return makeRef<Msg>(path, ref, () => life.live, stop);
  };

  const nactRef = nact.spawn(
    parent.ref as nact.Ref<unknown>,
    (state: { value: State }, msg: Msg) => {
      state.value = spec.handle(state.value, msg, holder.self!);
      life.current = state.value;
      return state;
    },
    spec.name,
    {
      initialStateFunc: (ctx: { self: unknown }) => {
        holder.self ??= refTo(ctx.self);
        life.current = spec.init(holder.self);
        return { value: life.current };
      },
      onCrash: (_msg: unknown, error: unknown, ctx: CrashContext) => crashed(life, error, ctx),
      afterStop: () => ended(life),
    } as unknown as nact.ActorProps<{ value: State }, Msg, nact.Ref<unknown>>,
  );
  system.nodes.set(path, life.node);
  life.siblings.set(path, stopSelf);
  system.children.set(parent.path, life.siblings);
  return (holder.self ??= refTo(nactRef));
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
  error: unknown,
  ctx: CrashContext,
): Promise<symbol> {
  const { spec, system, node } = life;
  const decision = onCrash(spec.restart, life.history, Date.now());
  life.history = decision.history;
  node.lastCrash = error instanceof Error ? error.message : String(error);
  const afterMs = decision.kind === "restart" ? decision.afterMs : 0;
  system.onCrash({ path: node.path, error, decision: decision.kind, afterMs });
  stopBelow(system, node.path);
  if (decision.kind === "give-up") {
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
}

function makeRef<Msg>(
  path: string,
  ref: unknown,
  live: () => boolean,
  stop: () => void,
): ActorRef<Msg> {
  return {
    path,
    scope: { path, ref },
    tell: (msg) => {
      if (!live()) return;
      try {
        nact.dispatch(ref as nact.Ref<Msg>, msg);
      } catch {
        // Stopped between the check and the dispatch: late messages are dropped by design.
      }
    },
    stop,
    stopped: () => !live(),
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
