// Writes sealed layers' files for all timelines in a second thread, one after the other in the order in
// which they were asked for, so that taking in WAL and sealing it happen at the same time. Each timeline
// asks for one at a time, and a bounded number waits. A thread that dies is a crash of this actor: those
// who asked hear of it and ask again later, the next life has a new thread.

import { SEALS_WAITING_MAX } from "../core/limits.ts";
import type { RestartPolicy } from "../core/restart-budget.ts";
import { type Result, err, ok } from "../core/result.ts";
import type { ThreadHandlers, WorkerThread } from "../io/worker-thread.ts";
import type { CrashPoint } from "../store/crash-points.ts";
import type { SealOrder, SealedFacts } from "../store/layer-sealing.ts";
import { type PlainFailure, failureOf } from "../store/store-errors.ts";
import { type ActorRef, type Reply, type Scope, spawn } from "./runtime.ts";

/** What the thread is asked for; one at a time. */
export interface SealAsked {
  readonly order: SealOrder;
  /** It tells of the moments that store/crash-points.ts names. */
  readonly tellPoints: boolean;
}

export type SealTold =
  | { readonly kind: "point"; readonly point: string }
  | { readonly kind: "written"; readonly facts: SealedFacts }
  | { readonly kind: "failed"; readonly failure: PlainFailure };

type SealThread = WorkerThread<SealAsked>;
type Written = Result<SealedFacts, unknown>;

interface Wanted {
  readonly kind: "seal";
  readonly order: SealOrder;
  readonly reply: Reply<Written>;
}

export type SealerMsg =
  | Wanted
  | { readonly kind: "withdraw"; readonly order: SealOrder }
  | { readonly kind: "told"; readonly by: State; readonly told: SealTold }
  | { readonly kind: "died"; readonly by: State; readonly error: Error }
  | { readonly kind: "stop"; readonly reply: Reply<undefined> };

export interface SealerDeps {
  readonly restart: RestartPolicy;
  readonly open: (handlers: ThreadHandlers<SealTold>) => SealThread;
  readonly crashPoint?: CrashPoint | undefined;
}

interface State {
  readonly thread: SealThread;
  writing: Wanted | undefined;
  readonly waiting: Wanted[];
}

export function spawnSealer(scope: Scope, deps: SealerDeps): Sealer {
  const ref = spawn<State, SealerMsg>(scope, {
    name: "sealer",
    restart: deps.restart,
    init: (self) => {
      const state: State = {
        thread: deps.open({
          onTold: (told) => self.tell({ kind: "told", by: state, told }),
          onDied: (error) => self.tell({ kind: "died", by: state, error }),
        }),
        writing: undefined,
        waiting: [],
      };
      return state;
    },
    handle: (state, msg) => {
      handle(state, msg, deps);
      return state;
    },
    afterStop: (state) => {
      if (state === undefined) return;
      const { thread, writing, waiting } = state;
      const gone = err(new Error("the thread that seals is not there"));
      for (const { reply } of waiting) reply.answer(gone);
      // It has the file open, and reads the layer, until it has ended.
      void thread.stop().then(() => writing?.reply.answer(gone));
    },
    refuse: (msg, why) => {
      if (msg.kind === "seal") msg.reply.answer(err(new Error(why ?? "the sealer stops")));
      if (msg.kind === "stop") msg.reply.answer(undefined);
    },
  });
  return new Sealer(ref);
}

function handle(state: State, msg: SealerMsg, deps: SealerDeps): void {
  switch (msg.kind) {
    case "seal":
      state.waiting.push(msg);
      return next(state, deps);
    case "withdraw": {
      const at = state.waiting.findIndex(({ order }) => order === msg.order);
      if (at < 0) return;
      const [wanted] = state.waiting.splice(at, 1);
      return wanted?.reply.answer(err(new Error("it was withdrawn")));
    }
    case "told":
      if (msg.by === state) told(state, msg.told, deps);
      return;
    case "died":
      if (msg.by === state) throw msg.error;
      return;
    case "stop":
      void state.thread.stop().then(() => msg.reply.answer(undefined));
      return;
  }
}

function told(state: State, told: SealTold, deps: SealerDeps): void {
  if (told.kind === "point") return deps.crashPoint?.(told.point);
  const { writing } = state;
  state.writing = undefined;
  writing?.reply.answer(told.kind === "written" ? ok(told.facts) : err(failureOf(told.failure)));
  next(state, deps);
}

function next(state: State, deps: SealerDeps): void {
  if (state.writing !== undefined) return;
  state.writing = state.waiting.shift();
  if (state.writing === undefined) return;
  const { order } = state.writing;
  state.thread.tell({ order, tellPoints: deps.crashPoint !== undefined });
}

/** What timelines know of it. */
export class Sealer {
  readonly ref: ActorRef<SealerMsg>;
  private asked = 0;

  constructor(ref: ActorRef<SealerMsg>) {
    this.ref = ref;
  }

  /** False: so many wait that a timeline had better write its layer itself. */
  get hasRoom(): boolean {
    return this.asked < SEALS_WAITING_MAX;
  }

  /** Writes a layer's file and makes it durable. Rejects with StoreFull, StoreFailed, or when there is no thread now. */
  seal(order: SealOrder): Promise<SealedFacts> {
    this.asked++;
    const written = new Promise<SealedFacts>((resolve, reject) => {
      const reply: Wanted["reply"] = {
        answer: (result) => {
          if (result.ok) resolve(result.value);
          else reject(result.error);
        },
      };
      this.ref.tell({ kind: "seal", order, reply });
    });
    return written.finally(() => this.asked--);
  }

  /** Rejects what `seal` promised, if the writing has not begun. */
  withdraw(order: SealOrder): void {
    this.ref.tell({ kind: "withdraw", order });
  }
}
