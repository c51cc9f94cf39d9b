// Readers that wait for WAL, in order of the LSN they wait for. Bounded; each has a deadline. Who
// waits is opaque, so actors, tests and simulations share it.

import { assert } from "./assert.ts";
import { LSN_WAITERS_MAX } from "./limits.ts";
import type { Lsn } from "./lsn.ts";

export interface Waiter<R> {
  readonly until: Lsn;
  readonly parkedMs: number;
  readonly deadlineMs: number;
  readonly who: R;
}

/** Waiting readers, sorted by `until`. Mutable: it belongs to one timeline. */
export class LsnWaiters<R> {
  private waiters: Waiter<R>[] = [];

  get size(): number {
    return this.waiters.length;
  }

  /** Parks a reader; false when LSN_WAITERS_MAX are waiting already. */
  park(waiter: Waiter<R>): boolean {
    if (this.waiters.length >= LSN_WAITERS_MAX) return false;
    let at = this.waiters.length;
    while (at > 0 && this.waiters[at - 1]!.until > waiter.until) at--;
    this.waiters.splice(at, 0, waiter);
    return true;
  }

  /** Takes out those whose LSN has been reached, lowest first. */
  ready(last: Lsn): readonly Waiter<R>[] {
    let count = 0;
    while (count < this.waiters.length && this.waiters[count]!.until <= last) count++;
    if (count === 0) return [];
    const ready = this.waiters.splice(0, count);
    assert(
      ready.every((w) => w.until <= last),
      "a reader is woken at or after its LSN",
    );
    return ready;
  }

  /** Takes out those whose deadline has passed at `nowMs`. */
  expired(nowMs: number): readonly Waiter<R>[] {
    const expired = this.waiters.filter((w) => w.deadlineMs <= nowMs);
    if (expired.length > 0) this.waiters = this.waiters.filter((w) => w.deadlineMs > nowMs);
    return expired;
  }

  /** Earliest deadline, ms, or undefined when nobody waits. */
  nextDeadlineMs(): number | undefined {
    return this.waiters.length === 0
      ? undefined
      : Math.min(...this.waiters.map((w) => w.deadlineMs));
  }

  /** Takes everybody out: the timeline stops. */
  drain(): readonly Waiter<R>[] {
    const all = this.waiters;
    this.waiters = [];
    return all;
  }
}
