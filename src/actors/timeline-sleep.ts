// When a timeline may sleep: nobody uses it, all that it has taken in is in sealed layers, nothing is under way,
// and no branch that is awake reads through it. Only where a tenant has many timelines: of a few, all stay
// loaded.

import { TIMELINE_SLEEP_MS } from "../core/limits.ts";
import { Lsn } from "../core/lsn.ts";
import type { TimelineEntry } from "../store/catalog-entries.ts";
import { nothingBehind } from "../store/wal-rest.ts";
import type { Asleep, TimelineFacts, TimelineHandle } from "./directory.ts";
import type { Reply } from "./runtime.ts";
import { timelineEntryOf } from "./timeline-load.ts";
import type { TimelineState } from "./timeline-state.ts";

/** How a timeline goes to sleep. */
export interface Bed {
  /** The tenant has so many timelines awake that those which nobody uses should sleep. */
  readonly isCrowded: () => boolean;
  /** The life has ended: the actor goes. */
  readonly sleep: (facts: TimelineFacts, asleep: Asleep) => void;
}

/** True when a timeline of the catalog need not be loaded at the start. */
export const mayBeginAsleep = (entry: TimelineEntry, walDirectory: string): boolean =>
  entry.source === undefined && nothingBehind(walDirectory, entry.sealedLsn);

/** What is known of a timeline that sleeps: it ends where its sealed layers do. */
export function factsAsleep({ sealedLsn, sealedPrev }: TimelineEntry): TimelineFacts {
  return {
    phase: { kind: "active" },
    positions: {
      ...{ received: sealedLsn, visible: sealedLsn, durable: sealedLsn },
      uploaded: Lsn.of(0),
    },
    prev: sealedPrev,
    receiver: undefined,
    stalled: undefined,
  };
}

/** Once a second: sleeps if it may. `end` ends the life. */
export function maybeSleep(state: TimelineState, end: () => void): void {
  const { deps, wal } = state;
  if (deps.bed === undefined || wal === undefined || !isUnused(state) || !deps.bed.isCrowded()) {
    return;
  }
  const entry = timelineEntryOf(deps.catalog, deps.timelineId);
  const { received, visible } = wal.positions;
  if (entry.source !== undefined || visible !== entry.sealedLsn || received !== visible) return;
  if (!wal.isAtRest || isReadThrough(state)) return;
  const { layers, bytes } = wal.store.map;
  const asleep = { layers: layers.length, bytes };
  end();
  deps.bed.sleep(factsAsleep(entry), asleep);
}

/** Answers when loading has ended. */
export function answerLoaded(state: TimelineState, reply: Reply<undefined> | undefined): void {
  if (state.phase.kind !== "loading") reply?.answer(undefined);
  else if (reply !== undefined) state.loadWaiters.push(reply);
}

function isUnused({ deps, phase, retention, usedMs, ...state }: TimelineState): boolean {
  if (phase.kind !== "active" || deps.clock.steadyMs() - usedMs < TIMELINE_SLEEP_MS) return false;
  // An alarm is not to be slept over.
  const alarm = retention.failure ?? state.sealFailure ?? state.inlet.stalled;
  if (alarm !== undefined || state.wal!.store.map.damaged.length > 0) return false;
  return (
    !retention.isBusy && state.waiters.size + state.sealWaiters.length === 0 && state.inlet.isIdle
  );
}

/** Some branch of it is awake. */
function isReadThrough({ deps }: TimelineState): boolean {
  const isBranch = ({ entry, asleep }: TimelineHandle): boolean =>
    asleep === undefined && entry.ancestor?.id === deps.timelineId;
  const { tenants } = deps.directory;
  return [...(tenants.get(deps.tenantId)?.timelines.values() ?? [])].some(isBranch);
}
