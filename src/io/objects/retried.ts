// The one place where calls to object storage are tried again, counted and held back: retries with
// back-off and chance, a circuit breaker for a back end that is down, and two lanes, so that what a
// reader waits for does not queue behind uploads.
//
// A conditional write whose answer was lost may have happened: when a retry is refused, the object is
// read, and if it holds our very bytes the write was ours. Writers make their bytes unlike any other's.

import {
  type BulkheadPolicy,
  BrokenCircuitError,
  ConsecutiveBreaker,
  ExponentialBackoff,
  bulkhead,
  circuitBreaker,
  handleWhen,
  retry,
  wrap,
} from "cockatiel";
import {
  OBJECT_BACKGROUND_CALLS_MAX,
  OBJECT_CALLS_MAX,
  OBJECT_CALLS_WAITING_MAX,
  OBJECT_FAILURES_MAX,
  OBJECT_PART_BYTES,
  OBJECT_REST_MS,
  OBJECT_RETRY_MS_MAX,
  OBJECT_RETRY_MS_MIN,
  OBJECT_TRIES_MAX,
} from "../../core/limits.ts";
import {
  type ByteSource,
  type ListPage,
  ObjectError,
  type ObjectErrorKind,
  type ObjectStorage,
  type ObjectVersion,
  type StoredObject,
  isObjectError,
  mayPass,
} from "../../core/object-storage.ts";

/** urgent: a reader waits. */
export type Lane = "urgent" | "background";

/** Counted for metrics. */
export interface ObjectCounts {
  calls: number;
  retries: number;
  failures: number;
  bytesUp: number;
  bytesDown: number;
}

export interface RetryTimes {
  readonly firstMs: number;
  readonly mostMs: number;
  readonly tries: number;
  readonly restMs: number;
}

const TIMES: RetryTimes = {
  firstMs: OBJECT_RETRY_MS_MIN,
  mostMs: OBJECT_RETRY_MS_MAX,
  tries: OBJECT_TRIES_MAX,
  restMs: OBJECT_REST_MS,
};

export interface Lanes {
  readonly urgent: ObjectStorage;
  readonly background: ObjectStorage;
  readonly counts: ObjectCounts;
  /** Why object storage is left alone for the moment; undefined: it is not. */
  readonly resting: () => string | undefined;
}

/** The storage with retries, for those who wait and for those who do not. They share one breaker. */
export function withRetries(storage: ObjectStorage, times: RetryTimes = TIMES): Lanes {
  const counts: ObjectCounts = { calls: 0, retries: 0, failures: 0, bytesUp: 0, bytesDown: 0 };
  const state = { reason: undefined as string | undefined };
  const breaker = circuitBreaker(handleWhen(mayPass), {
    halfOpenAfter: times.restMs,
    breaker: new ConsecutiveBreaker(OBJECT_FAILURES_MAX),
  });
  breaker.onBreak((why) => {
    state.reason = "error" in why ? why.error.message : "it was isolated";
  });
  breaker.onReset(() => {
    state.reason = undefined;
  });
  const retries = retry(
    handleWhen((error) => mayPass(error) || error instanceof BrokenCircuitError),
    {
      maxAttempts: times.tries - 1,
      backoff: new ExponentialBackoff({ initialDelay: times.firstMs, maxDelay: times.mostMs }),
    },
  );
  const policy = wrap(retries, breaker);
  const run: Run = async (lane, call) => {
    try {
      return await lane.execute(() =>
        policy.execute(({ attempt }) => {
          counts.calls++;
          if (attempt > 0) counts.retries++;
          return call(attempt);
        }),
      );
    } catch (error) {
      if (isOutcome(error)) throw error;
      counts.failures++;
      if (!(error instanceof BrokenCircuitError)) throw error;
      throw new ObjectError(
        "unavailable",
        `${storage.place} is down: ${state.reason ?? "?"}`,
        error,
      );
    }
  };
  const lanes = {
    urgent: bulkhead(OBJECT_CALLS_MAX, OBJECT_CALLS_WAITING_MAX),
    background: bulkhead(OBJECT_BACKGROUND_CALLS_MAX, OBJECT_CALLS_WAITING_MAX),
  };
  return {
    urgent: new Retried(storage, counts, (call) => run(lanes.urgent, call)),
    background: new Retried(storage, counts, (call) => run(lanes.background, call)),
    counts,
    resting: () => state.reason,
  };
}

type Call<T> = (attempt: number) => Promise<T>;
type Run = <T>(lane: BulkheadPolicy, call: Call<T>) => Promise<T>;

/** Answers that are no failure of anybody. */
const isOutcome = (error: unknown): boolean =>
  (["not-found", "exists", "changed"] as ObjectErrorKind[]).some((kind) =>
    isObjectError(error, kind),
  );

class Retried implements ObjectStorage {
  readonly place: string;
  private readonly storage: ObjectStorage;
  private readonly counts: ObjectCounts;
  private readonly run: <T>(call: Call<T>) => Promise<T>;

  constructor(storage: ObjectStorage, counts: ObjectCounts, run: <T>(call: Call<T>) => Promise<T>) {
    this.place = storage.place;
    this.storage = storage;
    this.counts = counts;
    this.run = run;
  }

  async put(name: string, bytes: Uint8Array): Promise<ObjectVersion> {
    const version = await this.run(() => this.storage.put(name, bytes));
    this.counts.bytesUp += bytes.length;
    return version;
  }

  putIfAbsent(name: string, bytes: Uint8Array): Promise<ObjectVersion> {
    return this.conditional(name, bytes, "exists", () => this.storage.putIfAbsent(name, bytes));
  }

  compareAndSwap(name: string, bytes: Uint8Array, expected: ObjectVersion): Promise<ObjectVersion> {
    return this.conditional(name, bytes, "changed", () =>
      this.storage.compareAndSwap(name, bytes, expected),
    );
  }

  async putStream(name: string, source: ByteSource): Promise<void> {
    let bytes = 0;
    const counted: ByteSource = async function* () {
      bytes = 0;
      for await (const piece of source()) {
        bytes += piece.length;
        yield piece;
      }
    };
    await this.run(() => this.storage.putStream(name, counted));
    this.counts.bytesUp += bytes;
  }

  async get(name: string): Promise<StoredObject> {
    const found = await this.run(() => this.storage.get(name));
    this.counts.bytesDown += found.bytes.length;
    return found;
  }

  async getRange(name: string, from: number, length: number): Promise<Uint8Array> {
    const bytes = await this.run(() => this.storage.getRange(name, from, length));
    this.counts.bytesDown += bytes.length;
    return bytes;
  }

  /** In ranges, each a call of its own: one that is cut short is asked for again. One comes while the one before is used. */
  async *getStream(name: string, from: number): AsyncIterable<Uint8Array> {
    let coming = this.getRange(name, from, OBJECT_PART_BYTES);
    for (let at = from; ;) {
      const piece = await coming;
      at += piece.length;
      const isLast = piece.length < OBJECT_PART_BYTES;
      if (!isLast) {
        coming = this.getRange(name, at, OBJECT_PART_BYTES);
        coming.catch(() => undefined); // for whoever takes no more
      }
      if (piece.length > 0) yield piece;
      if (isLast) return;
    }
  }

  list(prefix: string, after?: string): Promise<ListPage> {
    return this.run(() => this.storage.list(prefix, after));
  }

  deleteMany(names: readonly string[]): Promise<void> {
    return this.run(() => this.storage.deleteMany(names));
  }

  async close(): Promise<void> {
    await this.storage.close();
  }

  private async conditional(
    name: string,
    bytes: Uint8Array,
    refusal: "exists" | "changed",
    write: () => Promise<ObjectVersion>,
  ): Promise<ObjectVersion> {
    const version = await this.run(async (attempt) => {
      try {
        return await write();
      } catch (error) {
        if (attempt === 0 || !isObjectError(error, refusal)) throw error;
        return await this.ours(name, bytes, error);
      }
    });
    this.counts.bytesUp += bytes.length;
    return version;
  }

  /** The version of the object, if it holds `bytes`; else throws `refusal`. */
  private async ours(name: string, bytes: Uint8Array, refusal: unknown): Promise<ObjectVersion> {
    try {
      const found = await this.storage.get(name);
      if (Buffer.compare(found.bytes, bytes) === 0) return found.version;
    } catch (error) {
      if (!isObjectError(error, "not-found")) throw error;
    }
    throw refusal;
  }
}
