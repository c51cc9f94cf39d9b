// How often an actor may crash before its supervisor gives up, and how long it waits in between.

export interface RestartPolicy {
  /** Crashes allowed within `windowMs`; one more escalates: the actor stops and is "broken". */
  readonly crashesMax: number;
  readonly windowMs: number;
  /** Wait before the n-th restart in the window: backOffMs * 2^(n-1), at most backOffMsMax. 0 restarts at once. */
  readonly backOffMs: number;
  readonly backOffMsMax: number;
}

export interface RestartHistory {
  /** Times of crashes within the window, ms, oldest first. */
  readonly crashes: readonly number[];
}

export type RestartDecision =
  | { readonly kind: "restart"; readonly afterMs: number; readonly history: RestartHistory }
  | { readonly kind: "give-up"; readonly history: RestartHistory };

export const NO_CRASHES: RestartHistory = { crashes: [] };

/** Decides what follows a crash at `nowMs`. Pure. */
export function onCrash(
  policy: RestartPolicy,
  history: RestartHistory,
  nowMs: number,
): RestartDecision {
  const crashes = [...history.crashes.filter((at) => nowMs - at < policy.windowMs), nowMs];
  if (crashes.length > policy.crashesMax) return { kind: "give-up", history: { crashes } };
  const afterMs = Math.min(policy.backOffMs * 2 ** (crashes.length - 1), policy.backOffMsMax);
  return { kind: "restart", afterMs, history: { crashes } };
}
