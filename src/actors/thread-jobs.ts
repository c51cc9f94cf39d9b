// Hands jobs to a second thread, in the order in which they were asked for, so many at once; the others
// wait. A job under way may want things of whoever asked for it. A thread that dies is a crash of this
// actor: those who asked hear of it and ask again later, the next life has a new thread.

import type { RestartPolicy } from "../core/restart-budget.ts";
import { type Result, err, ok } from "../core/result.ts";
import type { ThreadHandlers, WorkerThread } from "../io/worker-thread.ts";
import type { CrashPoint } from "../store/crash-points.ts";
import { type PlainFailure, failureOf } from "../store/store-errors.ts";
import { type ActorRef, type Reply, type Scope, spawn } from "./runtime.ts";

/** What the thread hears. */
export type JobAsked<Order, Given> =
  /** With `points` it tells of the moments that store/crash-points.ts names, and waits at each until that counts one more. */
  | {
      readonly kind: "order";
      readonly job: number;
      readonly order: Order;
      readonly points: SharedArrayBuffer | undefined;
    }
  /** What the job wanted. */
  | { readonly kind: "give"; readonly job: number; readonly given: Given }
  /** Nobody wants the job any more: it fails soon. */
  | { readonly kind: "give-up"; readonly job: number };

/** What the thread tells. */
export type JobTold<Done, Wanted> =
  | { readonly kind: "point"; readonly point: string }
  | { readonly kind: "wants"; readonly job: number; readonly wanted: Wanted }
  | { readonly kind: "done"; readonly job: number; readonly done: Done }
  | { readonly kind: "failed"; readonly job: number; readonly failure: PlainFailure };

/** Gets a job what it wants, whenever that is here. */
export type Giver<Wanted, Given> = (wanted: Wanted, give: (given: Given) => void) => void;

interface Job<Order, Done, Wanted, Given> {
  readonly kind: "job";
  readonly order: Order;
  readonly reply: Reply<Result<Done, unknown>>;
  readonly giver: Giver<Wanted, Given>;
}

export type ThreadJobsMsg<Order, Done, Wanted = never, Given = never> =
  | Job<Order, Done, Wanted, Given>
  | { readonly kind: "withdraw"; readonly order: Order }
  | {
      readonly kind: "told";
      readonly by: State<Order, Done, Wanted, Given>;
      readonly told: JobTold<Done, Wanted>;
    }
  | {
      readonly kind: "died";
      readonly by: State<Order, Done, Wanted, Given>;
      readonly error: Error;
    }
  | { readonly kind: "stop"; readonly reply: Reply<undefined> };

export type OpenThread<Order, Done, Wanted = never, Given = never> = (
  handlers: ThreadHandlers<JobTold<Done, Wanted>>,
) => WorkerThread<JobAsked<Order, Given>>;

export interface ThreadJobsDeps<Order, Done, Wanted = never, Given = never> {
  /** Of the actor. */
  readonly name: string;
  readonly restart: RestartPolicy;
  readonly open: OpenThread<Order, Done, Wanted, Given>;
  /** Jobs under way at one time, and those that wait or are under way before `hasRoom` says no. */
  readonly atOnce: number;
  readonly waitingMax: number;
  readonly crashPoint?: CrashPoint | undefined;
}

interface State<Order, Done, Wanted, Given> {
  readonly thread: WorkerThread<JobAsked<Order, Given>>;
  readonly underWay: Map<number, Job<Order, Done, Wanted, Given>>;
  readonly waiting: Job<Order, Done, Wanted, Given>[];
  jobs: number;
  /** How many points have been told of: one number of 4 bytes. */
  readonly points: SharedArrayBuffer | undefined;
}

/** Starts the actor and its thread. */
export function spawnThreadJobs<Order, Done, Wanted = never, Given = never>(
  scope: Scope,
  deps: ThreadJobsDeps<Order, Done, Wanted, Given>,
): ThreadJobs<Order, Done, Wanted, Given> {
  type Here = State<Order, Done, Wanted, Given>;
  const { name } = deps;
  const ref = spawn<Here, ThreadJobsMsg<Order, Done, Wanted, Given>>(scope, {
    name,
    restart: deps.restart,
    init: (self) => {
      const state: Here = {
        thread: deps.open({
          onTold: (told) => self.tell({ kind: "told", by: state, told }),
          onDied: (error) => self.tell({ kind: "died", by: state, error }),
        }),
        ...{ underWay: new Map(), waiting: [], jobs: 0 },
        points: deps.crashPoint && new SharedArrayBuffer(4),
      };
      return state;
    },
    handle: (state, msg) => {
      handle(state, msg, deps);
      return state;
    },
    afterStop: (state) => {
      if (state === undefined) return;
      const { thread, underWay, waiting } = state;
      const gone = err(new Error(`the thread of ${name} is not there`));
      for (const { reply } of waiting) reply.answer(gone);
      // They have files open, and read what they were given, until the thread has ended.
      const ended = [...underWay.values()];
      void thread.stop().then(() => ended.forEach(({ reply }) => reply.answer(gone)));
    },
    refuse: (msg, why) => {
      if (msg.kind === "job") msg.reply.answer(err(new Error(why ?? `${name} stops`)));
      if (msg.kind === "stop") msg.reply.answer(undefined);
    },
  });
  return new ThreadJobs(ref, deps.waitingMax);
}

function handle<Order, Done, Wanted, Given>(
  state: State<Order, Done, Wanted, Given>,
  msg: ThreadJobsMsg<Order, Done, Wanted, Given>,
  deps: ThreadJobsDeps<Order, Done, Wanted, Given>,
): void {
  switch (msg.kind) {
    case "job":
      state.waiting.push(msg);
      return next(state, deps);
    case "withdraw":
      return withdraw(state, msg.order);
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

function withdraw<Order, Done, Wanted, Given>(
  { waiting, underWay, thread }: State<Order, Done, Wanted, Given>,
  order: Order,
): void {
  const at = waiting.findIndex((job) => job.order === order);
  if (at >= 0) {
    const [job] = waiting.splice(at, 1);
    return job?.reply.answer(err(new Error("it was withdrawn")));
  }
  for (const [job, { order: known }] of underWay) {
    if (known === order) thread.tell({ kind: "give-up", job });
  }
}

function told<Order, Done, Wanted, Given>(
  state: State<Order, Done, Wanted, Given>,
  told: JobTold<Done, Wanted>,
  deps: ThreadJobsDeps<Order, Done, Wanted, Given>,
): void {
  const { underWay, thread, points } = state;
  if (told.kind === "point") {
    deps.crashPoint?.(told.point);
    if (points !== undefined) passed(new Int32Array(points));
    return;
  }
  const job = underWay.get(told.job);
  if (told.kind === "wants") {
    return job?.giver(told.wanted, (given) => thread.tell({ kind: "give", job: told.job, given }));
  }
  underWay.delete(told.job);
  job?.reply.answer(told.kind === "done" ? ok(told.done) : err(failureOf(told.failure)));
  next(state, deps);
}

function next<Order, Done, Wanted, Given>(
  state: State<Order, Done, Wanted, Given>,
  { atOnce }: ThreadJobsDeps<Order, Done, Wanted, Given>,
): void {
  const { underWay, waiting, thread, points } = state;
  if (underWay.size >= atOnce) return;
  const wanted = waiting.shift();
  if (wanted === undefined) return;
  const job = ++state.jobs;
  underWay.set(job, wanted);
  thread.tell({ kind: "order", job, order: wanted.order, points });
}

function passed(points: Int32Array): void {
  Atomics.add(points, 0, 1);
  Atomics.notify(points, 0);
}

/** What others know of the actor. */
export class ThreadJobs<Order, Done, Wanted = never, Given = never> {
  readonly ref: ActorRef<ThreadJobsMsg<Order, Done, Wanted, Given>>;
  private readonly waitingMax: number;
  private asked = 0;

  constructor(ref: ActorRef<ThreadJobsMsg<Order, Done, Wanted, Given>>, waitingMax: number) {
    this.ref = ref;
    this.waitingMax = waitingMax;
  }

  /** False: so many wait that one had better do it oneself. */
  get hasRoom(): boolean {
    return this.asked < this.waitingMax;
  }

  /** Does a job. Rejects with the thread's StoreFull, StoreFailed, StoreCorrupt; or when there is no thread now. */
  run(order: Order, giver: Giver<Wanted, Given> = NOTHING): Promise<Done> {
    this.asked++;
    const done = new Promise<Done>((resolve, reject) => {
      const reply: Reply<Result<Done, unknown>> = {
        answer: (result) => {
          if (result.ok) resolve(result.value);
          else reject(result.error);
        },
      };
      this.ref.tell({ kind: "job", order, reply, giver });
    });
    return done.finally(() => this.asked--);
  }

  /** Rejects what `run` promised: at once if the job has not begun, else as soon as it can be left. */
  withdraw(order: Order): void {
    this.ref.tell({ kind: "withdraw", order });
  }
}

const NOTHING = (): void => undefined;
