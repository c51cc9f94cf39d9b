// Hands pages that need WAL redo to its workers and answers whoever asked. What goes where is
// decided by core/redo-pool.ts; this actor carries it out. One message a batch, never one a page.

import { unreachable } from "../core/assert.ts";
import { REDO_RESPAWN_MS } from "../core/limits.ts";
import { RedoPool, type RedoPoolEffect } from "../core/redo-pool.ts";
import type { RedoRequest, RedoResult } from "../core/redo-request.ts";
import type { RestartPolicy } from "../core/restart-budget.ts";
import { openSpan } from "../io/traces.ts";
import {
  type OpenRedoProcess,
  type RedoWorkerMsg,
  type RedoWorkerReport,
  redoWorker,
} from "./redo-worker.ts";
import { type ActorRef, type ActorSpec, type Reply, type Scope, after, spawn } from "./runtime.ts";

export type RedoPoolMsg =
  /** Pages to rebuild; answered once, results in the order of the requests. */
  | {
      readonly kind: "redo";
      readonly requests: readonly RedoRequest[];
      readonly reply: Reply<readonly RedoResult[]>;
    }
  /** From the pool's own workers; `generation` tells those of an earlier life of the pool. */
  | {
      readonly kind: "worker";
      readonly generation: number;
      readonly worker: number;
      readonly report: RedoWorkerReport;
    }
  | { readonly kind: "respawn"; readonly generation: number; readonly worker: number };

export interface RedoPoolDeps {
  /** Redo processes at most; each is started when it is first needed. */
  readonly processes: number;
  readonly open: OpenRedoProcess;
  readonly restart: RestartPolicy;
  /** For failures to start a process. A process that ends at work is replaced at once, whatever this says. */
  readonly workerRestart: RestartPolicy;
  /** The process of a worker wrote a line to stderr, or ended. */
  readonly onLine: (worker: number, line: string) => void;
  readonly queueMax?: number;
  readonly windowBytes?: number;
  /** Pause before a worker that was given up is tried again, ms. */
  readonly respawnMs?: number;
}

interface WorkerSeat {
  ref: ActorRef<RedoWorkerMsg>;
  epoch: number;
}

interface State {
  readonly generation: number;
  readonly pool: RedoPool<Reply<readonly RedoResult[]>>;
  readonly seats: WorkerSeat[];
  readonly timers: Set<() => void>;
}

/** Starts the pool. It never stops answering: pages that cannot be rebuilt are answered with the reason. */
export function spawnRedoPool(scope: Scope, deps: RedoPoolDeps): ActorRef<RedoPoolMsg> {
  return spawn(scope, redoPool(deps));
}

/** Spec of the pool, for a supervisor that spawns it itself. */
export function redoPool(deps: RedoPoolDeps): ActorSpec<State, RedoPoolMsg> {
  let generation = 0;
  return {
    name: "redo-pool",
    restart: deps.restart,
    init: (self) => {
      generation++;
      const { processes, queueMax, windowBytes } = deps;
      const state: State = {
        generation,
        pool: new RedoPool({
          workers: processes,
          ...(queueMax === undefined ? {} : { queueMax }),
          ...(windowBytes === undefined ? {} : { windowBytes }),
        }),
        seats: [],
        timers: new Set(),
      };
      for (let i = 0; i < processes; i++) {
        state.seats.push({ ref: spawnWorker(self, deps, generation, i), epoch: 1 });
      }
      return state;
    },
    handle: (state, msg, self) => {
      switch (msg.kind) {
        case "redo":
          perform(state, state.pool.submit(msg.requests, withSpan(msg.requests.length, msg.reply)));
          return state;
        case "worker":
          if (msg.generation === state.generation) onReport(state, msg, self, deps);
          return state;
        case "respawn":
          if (msg.generation === state.generation) respawn(state, msg.worker, self, deps);
          return state;
        default:
          return unreachable(msg);
      }
    },
    afterStop: (state) => {
      if (state === undefined) return;
      for (const cancel of state.timers) cancel();
      perform(state, state.pool.abandon("the WAL redo pool has stopped"));
    },
    refuse: (msg, why) => {
      if (msg.kind !== "redo") return;
      const reason = why ?? "the WAL redo pool has stopped";
      msg.reply.answer(msg.requests.map(() => ({ ok: false, reason })));
    },
  };
}

/** Ends a span with the answer, while traces are on. */
function withSpan(
  pages: number,
  reply: Reply<readonly RedoResult[]>,
): Reply<readonly RedoResult[]> {
  const span = openSpan("redo batch", () => ({ pages }));
  if (span === undefined) return reply;
  return {
    answer: (results) => {
      const failed = results.find((result) => !result.ok);
      span.end(failed?.ok === false ? failed.reason : undefined);
      reply.answer(results);
    },
  };
}

function spawnWorker(
  self: ActorRef<RedoPoolMsg>,
  deps: RedoPoolDeps,
  generation: number,
  worker: number,
): ActorRef<RedoWorkerMsg> {
  return spawn(
    self.scope,
    redoWorker({
      name: `redo-worker-${worker}`,
      restart: deps.workerRestart,
      open: deps.open,
      report: (report) => self.tell({ kind: "worker", generation, worker, report }),
      onLine: (line) => deps.onLine(worker, line),
    }),
  );
}

function onReport(
  state: State,
  msg: Extract<RedoPoolMsg, { kind: "worker" }>,
  self: ActorRef<RedoPoolMsg>,
  deps: RedoPoolDeps,
): void {
  const { worker, report } = msg;
  const { pool } = state;
  switch (report.is) {
    case "slice-done":
      return perform(state, pool.answered(worker, report.slice, report.results));
    case "process-died":
      state.seats[worker]!.epoch = report.epoch;
      deps.onLine(worker, `redo process ended, another takes its place: ${report.reason}`);
      return perform(state, pool.processDied(worker, report.reason, report.results));
    case "start-failed":
      deps.onLine(worker, `redo process did not start: ${report.reason}`);
      return perform(state, pool.startFailed(worker));
    case "ready":
      state.seats[worker]!.epoch = report.epoch;
      return perform(state, pool.restarted(worker));
    case "gave-up":
      scheduleRespawn(state, worker, self, deps);
      return perform(state, pool.gaveUp(worker, report.reason));
    default:
      return unreachable(report);
  }
}

function scheduleRespawn(
  state: State,
  worker: number,
  self: ActorRef<RedoPoolMsg>,
  deps: RedoPoolDeps,
): void {
  const { generation, timers } = state;
  const cancel = after(deps.respawnMs ?? REDO_RESPAWN_MS, () => {
    timers.delete(cancel);
    self.tell({ kind: "respawn", generation, worker });
  });
  timers.add(cancel);
}

function respawn(
  state: State,
  worker: number,
  self: ActorRef<RedoPoolMsg>,
  deps: RedoPoolDeps,
): void {
  state.seats[worker] = { ref: spawnWorker(self, deps, state.generation, worker), epoch: 1 };
  perform(state, state.pool.restarted(worker));
}

function perform(
  state: State,
  effects: readonly RedoPoolEffect<Reply<readonly RedoResult[]>>[],
): void {
  for (const effect of effects) {
    switch (effect.do) {
      case "run": {
        const { ref, epoch } = state.seats[effect.worker]!;
        ref.tell({ kind: "run", epoch, slice: effect.slice, requests: effect.requests });
        break;
      }
      case "answer":
        effect.reply.answer(effect.results);
        break;
      default:
        unreachable(effect);
    }
  }
}
