// Which redo process rebuilds which pages, and what happens to pages whose process dies. Decides
// only: every method gives the effects to be carried out, in order. `R` is whoever waits.
//
//   submit ─► waiting ─► a slice in flight at the least loaded worker ─► answered when all are there
//                ▲                        │ the process dies
//                └── isolated slices ◄────┘
//
// A process dies of one request, and takes others with it. The oldest unanswered one is blamed
// (answers come in order, and a process sends what is finished before it gives up); it is retried
// alone, and if its process dies again it fails. The others are retried in two halves, each with a
// worker to itself, so that a death not caused by the oldest is cornered in few steps too.

import { assert } from "./assert.ts";
import { REDO_DEATHS_MAX, REDO_QUEUE_MAX, REDO_WINDOW_BYTES } from "./limits.ts";
import type { RedoRequest, RedoResult } from "./redo-request.ts";

export type RedoPoolEffect<R> =
  /** Send these requests to a worker; its answer names the slice. */
  | {
      readonly do: "run";
      readonly worker: number;
      readonly slice: number;
      readonly requests: readonly RedoRequest[];
    }
  /** Results in the order of the requests submitted. */
  | { readonly do: "answer"; readonly reply: R; readonly results: readonly RedoResult[] };

export interface RedoPoolOptions {
  readonly workers: number;
  readonly queueMax?: number;
  readonly windowBytes?: number;
}

interface Job<R> {
  readonly reply: R;
  readonly results: (RedoResult | undefined)[];
  missing: number;
}

/** One request of a job. */
interface Item<R> {
  readonly job: Job<R>;
  readonly index: number;
  readonly request: RedoRequest;
  readonly bytes: number;
  /** Processes that died when this was their oldest unanswered request. */
  deaths: number;
}

interface Slice<R> {
  readonly id: number;
  readonly items: readonly Item<R>[];
  readonly bytes: number;
  readonly isolated: boolean;
}

interface Worker<R> {
  state: "available" | "down" | "broken";
  /** Slices under way, oldest first. */
  readonly inFlight: Slice<R>[];
  bytes: number;
}

/** What a page costs besides its records: base image out, result back. */
const PAGE_COST_BYTES = 8_192;

export class RedoPool<R> {
  private readonly queueMax: number;
  private readonly windowBytes: number;
  private readonly workers: Worker<R>[] = [];
  /** First in, first out; `head` is the first that still waits. */
  private waiting: Item<R>[] = [];
  private head = 0;
  private readonly isolated: (readonly Item<R>[])[] = [];
  private nextSlice = 0;
  private brokenReason: string | undefined;
  private effects: RedoPoolEffect<R>[] = [];

  constructor(options: RedoPoolOptions) {
    assert(options.workers > 0, "a redo pool needs a worker");
    this.queueMax = options.queueMax ?? REDO_QUEUE_MAX;
    this.windowBytes = options.windowBytes ?? REDO_WINDOW_BYTES;
    for (let i = 0; i < options.workers; i++) {
      this.workers.push({ state: "available", inFlight: [], bytes: 0 });
    }
  }

  /** Requests that wait for a worker. */
  get queued(): number {
    return (
      this.waiting.length - this.head + this.isolated.reduce((n, items) => n + items.length, 0)
    );
  }

  /** Takes requests; `reply` is answered once, when all results are known. */
  submit(requests: readonly RedoRequest[], reply: R): readonly RedoPoolEffect<R>[] {
    const refusal =
      this.brokenReason !== undefined
        ? `no redo process can be started: ${this.brokenReason}`
        : this.queued + requests.length > this.queueMax
          ? `more than ${this.queueMax} pages wait for WAL redo; retry`
          : undefined;
    if (requests.length === 0 || refusal !== undefined) {
      const results = requests.map(() => ({ ok: false, reason: refusal ?? "" }) as const);
      return [{ do: "answer", reply, results }];
    }
    const results = new Array<RedoResult | undefined>(requests.length).fill(undefined);
    const job: Job<R> = { reply, results, missing: requests.length };
    requests.forEach((request, index) =>
      this.waiting.push({ job, index, request, bytes: costBytes(request), deaths: 0 }),
    );
    return this.dispatch();
  }

  /** A worker has answered all of its oldest slice. */
  answered(
    worker: number,
    slice: number,
    results: readonly RedoResult[],
  ): readonly RedoPoolEffect<R>[] {
    const w = this.workers[worker]!;
    const oldest = w.inFlight.shift();
    assert(oldest?.id === slice, `redo worker ${worker} answered slice ${slice} out of turn`);
    assert(results.length === oldest.items.length, `slice ${slice}: wrong number of results`);
    w.bytes -= oldest.bytes;
    oldest.items.forEach((item, i) => this.settle(item, results[i]!));
    return this.dispatch();
  }

  /**
   * A worker's process has ended; the worker starts another at once. `results` are those that it
   * answered of its oldest slice.
   */
  processDied(
    worker: number,
    reason: string,
    results: readonly RedoResult[],
  ): readonly RedoPoolEffect<R>[] {
    const slices = this.clear(worker);
    const items = slices.flatMap((slice) => slice.items);
    assert(results.length <= items.length, `redo worker ${worker}: more results than requests`);
    results.forEach((result, i) => this.settle(items[i]!, result));
    this.retry(items.slice(results.length), reason);
    return this.dispatch();
  }

  /** A worker could not start a process: no request is to blame. It gets nothing until `restarted`. */
  startFailed(worker: number): readonly RedoPoolEffect<R>[] {
    this.requeue(worker);
    const w = this.workers[worker]!;
    if (w.state === "available") w.state = "down";
    return this.dispatch();
  }

  /** A worker is ready for work again, also after it had been given up. */
  restarted(worker: number): readonly RedoPoolEffect<R>[] {
    assert(this.workers[worker]!.inFlight.length === 0, `redo worker ${worker} has work in flight`);
    this.workers[worker]!.state = "available";
    this.brokenReason = undefined;
    return this.dispatch();
  }

  /** A worker has been given up. With the last one all that waits fails, and is refused until `restarted`. */
  gaveUp(worker: number, reason: string): readonly RedoPoolEffect<R>[] {
    this.requeue(worker);
    this.workers[worker]!.state = "broken";
    if (this.workers.every((w) => w.state === "broken")) {
      this.brokenReason = reason;
      this.failAll(`no redo process can be started: ${reason}`);
    }
    return this.dispatch();
  }

  /** Fails everything that has not been answered: the pool ends. */
  abandon(reason: string): readonly RedoPoolEffect<R>[] {
    this.failAll(reason);
    return this.flush();
  }

  /** Takes all work away from a worker. */
  private clear(worker: number): readonly Slice<R>[] {
    const w = this.workers[worker]!;
    w.bytes = 0;
    return w.inFlight.splice(0);
  }

  /** A worker's work goes back to the front, as if it had never been sent. */
  private requeue(worker: number): void {
    const slices = this.clear(worker);
    this.isolated.unshift(...slices.filter((slice) => slice.isolated).map((slice) => slice.items));
    const items = slices.filter((slice) => !slice.isolated).flatMap((slice) => slice.items);
    this.waiting = [...items, ...this.waiting.slice(this.head)];
    this.head = 0;
  }

  private failAll(reason: string): void {
    const slices = this.workers.flatMap((_, worker) => this.clear(worker));
    const items = [...slices.flatMap((slice) => slice.items), ...this.isolated.flat()];
    items.push(...this.waiting.slice(this.head));
    this.isolated.length = 0;
    this.waiting = [];
    this.head = 0;
    for (const item of items) this.settle(item, { ok: false, reason });
  }

  private settle(item: Item<R>, result: RedoResult): void {
    const { job, index } = item;
    assert(job.results[index] === undefined, "a redo request is answered once");
    job.results[index] = result;
    if (--job.missing > 0) return;
    const results = job.results as readonly RedoResult[];
    this.effects.push({ do: "answer", reply: job.reply, results });
  }

  private retry(unanswered: readonly Item<R>[], reason: string): void {
    const [blamed, ...others] = unanswered;
    if (blamed === undefined) return;
    blamed.deaths++;
    const half = Math.ceil(others.length / 2);
    const again = [others.slice(0, half), others.slice(half)].filter((items) => items.length > 0);
    if (blamed.deaths >= REDO_DEATHS_MAX) this.settle(blamed, { ok: false, reason });
    else again.unshift([blamed]);
    this.isolated.push(...again);
  }

  private dispatch(): readonly RedoPoolEffect<R>[] {
    // Isolated slices first: until they are under way nobody gets anything else, so that some
    // worker falls idle soon.
    while (this.isolated.length > 0) {
      const worker = this.leastLoaded();
      if (worker === undefined || this.workers[worker]!.inFlight.length > 0) return this.flush();
      this.run(worker, this.isolated.shift()!, true);
    }
    while (this.head < this.waiting.length) {
      const worker = this.leastLoaded();
      if (worker === undefined) break;
      const items = this.take(this.windowBytes - this.workers[worker]!.bytes, worker);
      if (items.length === 0) break;
      this.run(worker, items, false);
    }
    return this.flush();
  }

  /** The available worker with the fewest bytes in flight that does not need to be left alone. */
  private leastLoaded(): number | undefined {
    let best: number | undefined;
    this.workers.forEach((w, i) => {
      if (w.state !== "available" || w.inFlight[0]?.isolated === true) return;
      if (best === undefined || w.bytes < this.workers[best]!.bytes) best = i;
    });
    return best;
  }

  /** Items from the front of the queue that fit in `room` bytes; at least one if the worker is idle. */
  private take(room: number, worker: number): readonly Item<R>[] {
    const start = this.head;
    let left = room;
    while (this.head < this.waiting.length) {
      const { bytes } = this.waiting[this.head]!;
      const first = this.head === start && this.workers[worker]!.inFlight.length === 0;
      if (bytes > left && !first) break;
      left -= bytes;
      this.head++;
    }
    const items = this.waiting.slice(start, this.head);
    if (this.head === this.waiting.length) {
      this.waiting = [];
      this.head = 0;
    } else if (this.head > this.queueMax) {
      this.waiting = this.waiting.slice(this.head);
      this.head = 0;
    }
    return items;
  }

  private run(worker: number, items: readonly Item<R>[], isolated: boolean): void {
    const bytes = items.reduce((sum, item) => sum + item.bytes, 0);
    const slice = { id: this.nextSlice++, items, bytes, isolated };
    const w = this.workers[worker]!;
    w.inFlight.push(slice);
    w.bytes += bytes;
    const requests = items.map((item) => item.request);
    this.effects.push({ do: "run", worker, slice: slice.id, requests });
  }

  private flush(): readonly RedoPoolEffect<R>[] {
    const effects = this.effects;
    this.effects = [];
    return effects;
  }
}

function costBytes(request: RedoRequest): number {
  let bytes = PAGE_COST_BYTES;
  for (const { records } of request.steps) bytes += records.byteLength;
  return bytes;
}
