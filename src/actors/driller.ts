// Restore drills on a schedule: looks from time to time whose is due, and makes one at a time. What it finds
// goes to the tenant's catalog (drill-records.ts), where status and metrics read it; a restart loses a drill
// that was under way, and nothing else.

import {
  type DrillOutcome,
  type DrillRecord,
  chanceOf,
  mostDue,
  recordOf,
  recordOfFailure,
} from "../core/backup/drill.ts";
import { assert } from "../core/assert.ts";
import type { DiskUsage } from "../core/backup/evict.ts";
import { formatBytes } from "../core/human.ts";
import { DRILL_BYTES_MAX, DRILL_LOOK_MS } from "../core/limits.ts";
import { LSN_INVALID } from "../core/lsn.ts";
import type { RestartPolicy } from "../core/restart-budget.ts";
import type { Clock } from "../io/clock.ts";
import type { Log } from "../io/log.ts";
import { drillPath, makeDirectory, removeDirectoryLater, removeDrill } from "../store/data-dir.ts";
import { errorText } from "../store/store-errors.ts";
import type { Backup } from "./backup.ts";
import type { Directory, TenantHandle, TimelineHandle } from "./directory.ts";
import { drillTimeline } from "./drill.ts";
import { drillRecord, noteDrill } from "./drill-records.ts";
import type { RedoPoolMsg } from "./redo-pool.ts";
import { type ActorRef, type Scope, after, spawn } from "./runtime.ts";

export type DrillerMsg = { readonly kind: "look" } | { readonly kind: "done" };

/** Shared by the schedule and those who ask for a drill: one is made at a time. */
export interface DrillState {
  /** Whose backup is being drilled. */
  running: string | undefined;
  /** Since the start: drills that came to an end, and those that did not. */
  done: number;
  failed: number;
  /** Ends when the program stops. */
  readonly abort: AbortController;
  /** Kept when the last one is over. */
  over: Promise<unknown>;
}

export const noDrills = (): DrillState => ({
  ...{ running: undefined, done: 0, failed: 0, over: Promise.resolve() },
  abort: new AbortController(),
});

export interface DrillDeps {
  readonly directory: Directory;
  readonly backup: Backup;
  readonly dataDir: string;
  readonly redo: ActorRef<RedoPoolMsg>;
  readonly disk: () => DiskUsage;
  readonly clock: Clock;
  readonly log: Log;
}

export interface DrillOptions {
  /** Repeats what was left to chance. */
  readonly seed: number;
  readonly signal: AbortSignal;
  readonly onBytes: (bytes: number) => void;
}

/** Timelines of a tenant that have a backup of this server's making. */
export const drillable = ({ broken, timelines }: TenantHandle): readonly TimelineHandle[] =>
  broken !== undefined
    ? []
    : [...timelines.values()].filter(
        ({ facts, backup }) =>
          facts.phase.kind === "active" &&
          facts.positions.uploaded > LSN_INVALID &&
          backup?.()?.state !== "fenced",
      );

/** For as long as `work` goes on nobody else drills; whoever calls it has seen that nobody does. */
export function exclusively<T>(
  state: DrillState,
  what: string,
  work: () => Promise<T>,
): Promise<T> {
  assert(state.running === undefined, "one restore drill is made at a time");
  state.running = what;
  const working = work().finally(() => (state.running = undefined));
  state.over = working.catch(() => undefined);
  return working;
}

/** Makes one and remembers what came of it: within `exclusively`. Rejects when it was not brought to its end. */
export async function drillAndNote(
  deps: DrillDeps,
  tenant: TenantHandle,
  timeline: TimelineHandle,
  options: DrillOptions,
): Promise<DrillOutcome> {
  const { backup, clock, dataDir, redo } = deps;
  const { id, name } = timeline.entry;
  const log = deps.log.child({ tenant: tenant.id, timeline: id, name, seed: options.seed });
  const scratch = drillPath(dataDir);
  const before = drillRecord(tenant, id);
  const signal = AbortSignal.any([options.signal, backup.drills.abort.signal]);
  const note = (record: DrillRecord): void => {
    // A tenant that was deleted meanwhile has no catalog any more.
    if (deps.directory.tenants.get(tenant.id) === tenant) noteDrill(tenant, id, record, log);
  };
  try {
    requireRoom(deps.disk());
    await removeDirectoryLater(scratch);
    makeDirectory(scratch);
    const outcome = await drillTimeline({
      ...{ storage: backup.options.storage, tenant, timeline, scratch, redo },
      ...{ signal, onBytes: options.onBytes, steadyMs: clock.steadyMs },
      chance: chanceOf(options.seed),
    });
    backup.drills.done++;
    note(recordOf(before, outcome, clock.nowMs()));
    const { problems, ...counts } = outcome;
    if (problems.length > 0) log.error({ problems, ...counts }, "a restore drill found problems");
    else log.info(counts, "a restore drill found nothing wrong");
    return outcome;
  } catch (error) {
    // A stop, or somebody who cancelled it, says nothing of the backup.
    if (!signal.aborted) {
      backup.drills.failed++;
      note(recordOfFailure(before, errorText(error), clock.nowMs()));
      log.warn({ reason: errorText(error) }, "a restore drill could not be brought to its end");
    }
    throw error;
  } finally {
    await removeDirectoryLater(scratch);
  }
}

/** A drill must not be what fills the disk. */
function requireRoom({ totalBytes, usedBytes }: DiskUsage): void {
  const free = totalBytes - usedBytes;
  if (free >= 2 * DRILL_BYTES_MAX) return;
  throw new Error(
    `a restore drill wants ${formatBytes(2 * DRILL_BYTES_MAX)} of free disk, there are ${formatBytes(free)}: ` +
      `free disk space, or set backup_drill_every = 0`,
  );
}

interface State {
  cancel: () => void;
}

export interface Driller {
  readonly ref: ActorRef<DrillerMsg>;
  /** Resolves when no drill is under way any more. */
  readonly stop: () => Promise<void>;
}

/** `everyMs`: 0 is never. */
export function spawnDriller(
  scope: Scope,
  restart: RestartPolicy,
  deps: DrillDeps & { readonly everyMs: number },
): Driller {
  const { drills } = deps.backup;
  const ref = spawn<State, DrillerMsg>(scope, {
    name: "driller",
    restart,
    init: (self) => {
      // What a crash has left; not what somebody restores there now.
      if (drills.running === undefined) removeDrill(deps.dataDir);
      const state: State = { cancel: () => {} };
      arm(state, self);
      return state;
    },
    handle: (state, msg, self) => {
      const begun = msg.kind === "look" ? look(deps) : undefined;
      if (begun === undefined) arm(state, self);
      else void begun.then(() => self.tell({ kind: "done" }));
      return state;
    },
    afterStop: (state) => state?.cancel(),
  });
  const stop = async (): Promise<void> => {
    ref.stop();
    drills.abort.abort(new Error("the program stops"));
    await drills.over;
  };
  return { ref, stop };
}

function arm(state: State, self: ActorRef<DrillerMsg>): void {
  state.cancel();
  state.cancel = after(DRILL_LOOK_MS, () => self.tell({ kind: "look" }));
}

/** Undefined: nothing is due. The promise is always kept. */
function look(deps: DrillDeps & { readonly everyMs: number }): Promise<void> | undefined {
  const { directory, backup, clock, everyMs } = deps;
  if (everyMs === 0 || backup.drills.running !== undefined) return undefined;
  const all = [...directory.tenants.values()].flatMap((tenant) =>
    drillable(tenant).map((timeline) => ({
      of: { tenant, timeline },
      record: drillRecord(tenant, timeline.entry.id),
    })),
  );
  const due = mostDue(all, clock.nowMs(), everyMs);
  if (due === undefined) return undefined;
  const seed = Math.floor(clock.chance() * 2 ** 32);
  const options = { seed, signal: backup.drills.abort.signal, onBytes: () => {} };
  const { tenant, timeline } = due;
  const what = `timeline "${timeline.entry.name}"`;
  const drill = () => drillAndNote(deps, tenant, timeline, options);
  return exclusively(backup.drills, what, drill).then(
    () => undefined,
    () => undefined, // it is in the log, and in the catalog
  );
}
