// One WAL redo process at a time. Started with the first work, replaced at once when it ends; if
// it ends before it was ready to work, the actor crashes, so that its restart policy decides when
// the next is tried. Tells the pool what came of every slice.

import { PAGE_BYTES } from "../core/page.ts";
import type { RedoRequest, RedoResult } from "../core/redo-request.ts";
import type { RestartPolicy } from "../core/restart-budget.ts";
import { unreachable } from "../core/assert.ts";
import type { RedoProcess, RedoProcessHandlers } from "../io/redo-process.ts";
import { rebuiltPageProblem, redoRequestProblem } from "../protocol/redo.ts";
import type { ActorRef, ActorSpec } from "./runtime.ts";

/** Starts a redo process; from io/redo-process.ts, all but the handlers decided. */
export type OpenRedoProcess = (handlers: RedoProcessHandlers) => RedoProcess;

/**
 * What a worker tells. `epoch` counts the worker's processes: what is sent to it must name the
 * current one, or it was sent before the sender knew of a death and is dropped.
 */
export type RedoWorkerReport =
  | { readonly is: "slice-done"; readonly slice: number; readonly results: readonly RedoResult[] }
  /** The process ended; `results` belong to the oldest slice. The next one is `epoch`. */
  | {
      readonly is: "process-died";
      readonly epoch: number;
      readonly reason: string;
      readonly results: readonly RedoResult[];
    }
  /** No process could be started. Nothing is taken until "ready". */
  | { readonly is: "start-failed"; readonly reason: string }
  | { readonly is: "ready"; readonly epoch: number }
  /** Its restart policy has given up; it has stopped. */
  | { readonly is: "gave-up"; readonly reason: string };

export type RedoWorkerMsg =
  | {
      readonly kind: "run";
      readonly epoch: number;
      readonly slice: number;
      readonly requests: readonly RedoRequest[];
    }
  | { readonly kind: "process-ready"; readonly epoch: number }
  | { readonly kind: "pages"; readonly epoch: number; readonly slab: Uint8Array }
  | {
      readonly kind: "exited";
      readonly epoch: number;
      readonly reason: string;
      readonly pages: Uint8Array;
    };

export interface RedoWorkerParams {
  readonly name: string;
  readonly restart: RestartPolicy;
  readonly open: OpenRedoProcess;
  readonly report: (report: RedoWorkerReport) => void;
  /** A line of the process's stderr. */
  readonly onLine: (line: string) => void;
}

interface Slice {
  readonly id: number;
  /** What is known before the process is asked: requests that cannot be sent. */
  readonly results: (RedoResult | undefined)[];
  /** The others, and their places in `results`. */
  readonly sent: readonly RedoRequest[];
  readonly places: readonly number[];
  /** All results are known. */
  done: boolean;
}

interface State {
  epoch: number;
  process: RedoProcess | undefined;
  ready: boolean;
  readonly slices: Slice[];
  /** The pool has been told that this state is over. */
  reported: boolean;
}

/** Spec of a worker; spawned by the redo pool. */
export function redoWorker(params: RedoWorkerParams): ActorSpec<State, RedoWorkerMsg> {
  let epoch = 0;
  let crashed = false;
  return {
    name: params.name,
    restart: params.restart,
    init: () => {
      epoch++;
      if (crashed) params.report({ is: "ready", epoch });
      crashed = true; // whenever init runs again
      return { epoch, process: undefined, ready: false, slices: [], reported: false };
    },
    handle: (state, msg, self) => {
      if (msg.epoch !== state.epoch) return state;
      switch (msg.kind) {
        case "run":
          return onRun(state, msg, self, params);
        case "process-ready":
          state.ready = true;
          return state;
        case "pages":
          return onPages(state, msg.slab, params);
        case "exited":
          onExited(state, msg, params);
          epoch = state.epoch;
          return state;
        default:
          return unreachable(msg);
      }
    },
    afterStop: (state) => {
      state?.process?.close();
      // Our own crash takes its work along as a failed start does: nobody is to blame.
      if (state !== undefined && !state.reported) {
        params.report({ is: "start-failed", reason: "the redo worker crashed" });
      }
    },
    onBroken: (reason) => params.report({ is: "gave-up", reason }),
  };
}

function start(state: State, self: ActorRef<RedoWorkerMsg>, params: RedoWorkerParams): RedoProcess {
  const { epoch } = state;
  return params.open({
    onReady: () => self.tell({ kind: "process-ready", epoch }),
    onPages: (slab) => self.tell({ kind: "pages", epoch, slab }),
    onExit: (reason, pages) => self.tell({ kind: "exited", epoch, reason, pages }),
    onLine: params.onLine,
  });
}

function onRun(
  state: State,
  msg: Extract<RedoWorkerMsg, { kind: "run" }>,
  self: ActorRef<RedoWorkerMsg>,
  params: RedoWorkerParams,
): State {
  state.process ??= start(state, self, params);
  const results: (RedoResult | undefined)[] = [];
  const sent: RedoRequest[] = [];
  const places: number[] = [];
  for (const request of msg.requests) {
    const reason = redoRequestProblem(request);
    if (reason === undefined) {
      places.push(results.length);
      sent.push(request);
    }
    results.push(reason === undefined ? undefined : { ok: false, reason });
  }
  state.slices.push({ id: msg.slice, results, sent, places, done: sent.length === 0 });
  state.process.run(sent);
  reportDone(state, params);
  return state;
}

function onPages(state: State, slab: Uint8Array, params: RedoWorkerParams): State {
  const slice = state.slices[0]!;
  takePages(slice, slab, slice.sent.length);
  slice.done = true;
  state.process?.giveBack(slab);
  reportDone(state, params);
  return state;
}

/** Reports slices that wait for nothing, oldest first. */
function reportDone(state: State, params: RedoWorkerParams): void {
  while (state.slices[0]?.done === true) {
    const { id, results } = state.slices.shift()!;
    params.report({ is: "slice-done", slice: id, results: results as readonly RedoResult[] });
  }
}

/**
 * Takes the first `pages` of a slice to where their requests want them, and their results; nothing of
 * it throws halfway. Returns how many results are known from the front.
 */
function takePages({ results, sent, places }: Slice, slab: Uint8Array, pages: number): number {
  for (let i = 0; i < pages; i++) {
    const made = slab.subarray(i * PAGE_BYTES, (i + 1) * PAGE_BYTES);
    const reason = rebuiltPageProblem(made);
    const page = sent[i]!.out;
    if (reason === undefined) page.set(made);
    results[places[i]!] = reason === undefined ? { ok: true, page } : { ok: false, reason };
  }
  return places[pages] ?? results.length;
}

function onExited(
  state: State,
  msg: Extract<RedoWorkerMsg, { kind: "exited" }>,
  params: RedoWorkerParams,
): void {
  const { reason } = msg;
  state.process = undefined;
  if (!state.ready) {
    params.report({ is: "start-failed", reason });
    state.reported = true;
    throw new RedoProcessNotStarted(reason);
  }
  const oldest = state.slices[0];
  const pages = msg.pages.length / PAGE_BYTES;
  const known = oldest === undefined ? 0 : takePages(oldest, msg.pages, pages);
  const results = (oldest?.results.slice(0, known) ?? []) as readonly RedoResult[];
  state.slices.length = 0;
  state.ready = false;
  state.epoch++;
  params.report({ is: "process-died", epoch: state.epoch, reason, results });
}

/** A redo process ended before it was ready; the message is its last line. */
export class RedoProcessNotStarted extends Error {
  override readonly name = "RedoProcessNotStarted";
}
