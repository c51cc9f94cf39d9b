// Keeps the local disk below its marks: looks from time to time how much of it is used and which layers
// were not read for long, decides by core/backup/evict.ts, and asks timelines to let files go. One pass
// at a time, and the next one measures anew. Holds nothing that a restart would lose.

import {
  type DiskUsage,
  type EvictionPlan,
  type EvictionPolicy,
  planEviction,
} from "../core/backup/evict.ts";
import { formatBytes } from "../core/human.ts";
import { EVICT_ANSWER_MS_MAX, EVICT_PERIOD_MS } from "../core/limits.ts";
import type { RestartPolicy } from "../core/restart-budget.ts";
import type { Clock } from "../io/clock.ts";
import type { Log } from "../io/log.ts";
import type { Directory, TimelineHandle } from "./directory.ts";
import { type ActorRef, type Scope, after, ask, spawn } from "./runtime.ts";
import type { TimelineMsg } from "./timeline-messages.ts";
import type { EvictableFile, Evicted } from "./timeline-residence.ts";

export type EvictorMsg =
  { readonly kind: "look" } | { readonly kind: "done"; readonly evicted: readonly Evicted[] };

/** What the evictor has done, and what it cannot; read by status and metrics. */
export interface EvictionState {
  layers: number;
  bytes: number;
  /** Why the disk stays fuller than it should; undefined: it does not. */
  short: string | undefined;
}

export interface EvictorDeps {
  readonly directory: Directory;
  readonly policy: EvictionPolicy;
  readonly disk: () => DiskUsage;
  readonly state: EvictionState;
  readonly clock: Clock;
  readonly log: Log;
}

interface State {
  draining: boolean;
  running: boolean;
  cancel: () => void;
}

type Planned = EvictableFile & { readonly of: TimelineHandle };

export function spawnEvictor(
  scope: Scope,
  restart: RestartPolicy,
  deps: EvictorDeps,
): ActorRef<EvictorMsg> {
  return spawn<State, EvictorMsg>(scope, {
    name: "evictor",
    restart,
    init: (self) => {
      const state: State = { draining: false, running: false, cancel: () => {} };
      arm(state, self, EVICT_PERIOD_MS);
      return state;
    },
    handle: (state, msg, self) => {
      if (msg.kind === "look") look(state, deps, self);
      else done(state, deps, msg.evicted, self);
      return state;
    },
    afterStop: (state) => state?.cancel(),
  });
}

function arm(state: State, self: ActorRef<EvictorMsg>, ms: number): void {
  state.cancel();
  state.cancel = after(ms, () => self.tell({ kind: "look" }));
}

function look(state: State, deps: EvictorDeps, self: ActorRef<EvictorMsg>): void {
  if (state.running) return;
  const plan = planOf(state, deps);
  state.draining = plan.draining;
  tellShort(deps, plan);
  if (plan.evict.length === 0) return arm(state, self, EVICT_PERIOD_MS);
  state.running = true;
  const byTimeline = new Map<TimelineHandle, string[]>();
  for (const { of, file } of plan.evict) {
    byTimeline.set(of, [...(byTimeline.get(of) ?? []), file]);
  }
  const asked = [...byTimeline].map(async ([{ ref }, files]): Promise<Evicted> => {
    const build = (reply: { answer(value: Evicted): void }): TimelineMsg => ({
      kind: "evict",
      files,
      reply,
    });
    const evicted = await ask<TimelineMsg, Evicted>(ref, build, EVICT_ANSWER_MS_MAX);
    return evicted === "timed-out" ? { layers: 0, bytes: 0 } : evicted;
  });
  void Promise.all(asked).then((evicted) => self.tell({ kind: "done", evicted }));
}

function planOf(state: State, { directory, policy, disk, clock }: EvictorDeps) {
  const tenants = [...directory.tenants.values()].map(({ timelines }) => {
    const handles = [...timelines.values()];
    return {
      localBytes: handles.reduce((sum, one) => sum + (one.residence?.()?.localBytes ?? 0), 0),
      evictable: handles.flatMap((of): readonly Planned[] =>
        (of.evictable?.() ?? []).map((layer) => ({ ...layer, of })),
      ),
    };
  });
  const { draining } = state;
  return planEviction(policy, { nowMs: clock.steadyMs(), disk: disk(), tenants, draining });
}

function tellShort({ state, log }: EvictorDeps, { shortBytes }: EvictionPlan<unknown>): void {
  const before = state.short;
  state.short =
    shortBytes === 0
      ? undefined
      : `${formatBytes(shortBytes)} too much on the disk, and no more layers may leave it: the others are ` +
        `not uploaded, in use, or each tenant's floor (evict_floor)`;
  if (before === undefined && state.short !== undefined) log.warn(state.short);
}

function done(
  state: State,
  { state: facts, log }: EvictorDeps,
  evicted: readonly Evicted[],
  self: ActorRef<EvictorMsg>,
): void {
  state.running = false;
  const sum = (of: (one: Evicted) => number): number =>
    evicted.reduce((total, one) => total + of(one), 0);
  const [layers, bytes] = [sum((one) => one.layers), sum((one) => one.bytes)];
  facts.layers += layers;
  facts.bytes += bytes;
  if (layers > 0) log.info({ layers, bytes }, "layers have left the local disk");
  // While the disk is being drained the next pass begins at once; but not if nothing came of this one.
  if (state.draining && layers > 0) self.tell({ kind: "look" });
  else arm(state, self, EVICT_PERIOD_MS);
}
