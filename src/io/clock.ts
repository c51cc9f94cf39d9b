// Time and chance as values that are passed in, so that everything inside can be tested.

export interface Clock {
  /** Unix time, ms. May jump when the machine's clock is set. */
  readonly nowMs: () => number;
  /**
   * Time since an arbitrary start, ms, with fractions. Never goes back: for waits and durations.
   */
  readonly steadyMs: () => number;
  /** A random number, 0 <= n < 1. */
  readonly chance: () => number;
}

export const systemClock: Clock = {
  nowMs: () => Date.now(),
  steadyMs: () => performance.now(),
  chance: () => Math.random(),
};
