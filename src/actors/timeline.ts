// One timeline: answers page reads, takes in WAL, seals in turns. What it decides is in
// core/timeline.ts and core/request-lsn.ts; its state is a cache of the store, so after a crash it
// is loaded anew: sealed layers, then the WAL files behind them. Handlers never await.
//
//   loading ──► active ──► stopping        a crash: what the old life does with files ends first,
//      └──────► broken ──────┘             then a new one is loading again

import { unreachable } from "../core/assert.ts";
import { err } from "../core/result.ts";
import { StoreFailed } from "../store/store-errors.ts";
import type { Reply } from "./runtime.ts";
import type { ActorSpec } from "./runtime.ts";
import type { TimelineActor } from "./timeline-address.ts";
import { backedUp, backupTick, endPurge, layerPut, purgeObjects } from "./timeline-backup.ts";
import { boot, loadFailed, loaded } from "./timeline-boot.ts";
import { moveCutoff, retentionPolicy } from "./timeline-cutoff.ts";
import { hold } from "./timeline-holds.ts";
import type { TimelineMsg } from "./timeline-messages.ts";
import { backup, dismiss, read, refuse } from "./timeline-readers.ts";
import { evict } from "./timeline-residence.ts";
import { compactNow, compactStop, endRetention, mergeTold } from "./timeline-retention.ts";
import { answerLoaded, maybeSleep } from "./timeline-sleep.ts";
import { type Msg, type TimelineDeps, TimelineState, move, publish } from "./timeline-state.ts";
import {
  afterWal,
  attach,
  connect,
  progressed,
  rewound,
  sealNow,
  sealed,
  tick,
} from "./timeline-work.ts";

/**
 * A timeline actor; spawned by its tenant. `again`: where to tell once more what was told to it while it went
 * to sleep; false: it lives no more.
 */
export function timelineActor(
  deps: TimelineDeps,
  again: (msg: TimelineMsg) => boolean = () => false,
): TimelineActor {
  let life: TimelineState | undefined;
  const closed = (): Promise<void> => (life === undefined ? Promise.resolve() : end(life));
  const spec: ActorSpec<TimelineState, Msg> = {
    name: `timeline-${deps.timelineId}`,
    restart: deps.restart,
    init: (self) => {
      const before = closed();
      const state = (life = new TimelineState(deps, self));
      publish(state);
      // The files are not opened twice: not before the life that crashed has closed them.
      void before.then(() => self.tell({ kind: "boot", life: state }));
      return state;
    },
    handle: (state, msg) => {
      try {
        if (!("life" in msg) || msg.life === state) handle(state, msg);
      } catch (error) {
        if (error instanceof StoreFailed) deps.onFatal(error);
        throw error;
      }
      return state;
    },
    afterStop: (state) => {
      if (state !== undefined) void end(state);
    },
    onBroken: (reason) => {
      if (life === undefined) return;
      life.phase = { kind: "broken", reason: `it crashed too often: ${reason}` };
      publish(life);
      deps.log.error({ reason }, "the timeline is broken: it crashed too often");
    },
    refuse: (msg, why) => {
      if (why === undefined) {
        if (!("life" in msg) && msg.kind !== "stop" && again(msg)) return;
        return refuseMsg(msg, undefined, closed);
      }
      const phase = life?.phase;
      const crashed = `it crashed at this request and is loaded anew: ${why}`;
      refuseMsg(msg, phase?.kind === "broken" ? phase.reason : crashed, closed);
    },
  };
  return { spec, closed };
}

/** Answers whoever told a message that is not handled. `why`: the crash; undefined: a stop. */
export function refuseMsg(msg: Msg, why: string | undefined, closed: () => Promise<void>): void {
  switch (msg.kind) {
    case "read":
    case "backup-source":
      if (why === undefined) return refuse(msg, { kind: "shutting-down" });
      return refuse(msg, { kind: "timeline-broken", reason: why });
    case "lease":
    case "release-leases":
    case "snapshot":
    case "delete-snapshot": {
      const message = why === undefined ? "the timeline stops" : `the timeline broke: ${why}`;
      return msg.reply.answer(err({ kind: "unavailable", message }));
    }
    case "collect":
      return msg.reply.answer(undefined);
    case "wake":
      return msg.reply?.answer(undefined);
    case "evict":
      return msg.reply.answer({ layers: 0, bytes: 0 });
    case "wal-attach":
    case "compact":
    case "seal-now":
    case "purge-objects":
      return msg.reply.answer(err(why === undefined ? "the timeline stops" : `it broke: ${why}`));
    case "stop":
      void closed().then(() => msg.reply.answer(undefined));
      return;
    default:
      return;
  }
}

/** Ends a life: nobody waits for it any more, and files are closed. Called more than once: the same end. */
function end(state: TimelineState): Promise<void> {
  return (state.ended ??= endOnce(state));
}

async function endOnce(state: TimelineState): Promise<void> {
  const { deps } = state;
  state.inlet.stop();
  const gone = { store: undefined, boundary: undefined, readFrom: undefined, sizes: undefined };
  deps.directory.publish(deps.tenantId, deps.timelineId, { ...gone, pendingCommits: undefined });
  dismiss(state, { kind: "shutting-down" });
  endPurge(state, err("the timeline stops"));
  for (const { reply } of state.sealWaiters.splice(0)) reply.answer(err("the timeline stops"));
  for (const reply of state.loadWaiters.splice(0)) reply.answer(undefined);
  const steps: readonly (() => Promise<void> | undefined)[] = [
    () => endRetention(state),
    () => state.loading,
    () => state.wal?.close(),
  ];
  for (const step of steps) {
    try {
      await step();
    } catch (error) {
      deps.log.error({ err: error }, "closing the timeline's files");
    }
  }
  if (state.wal === undefined) state.loaded?.store.close();
}

function handle(state: TimelineState, msg: Msg): void {
  if (!("life" in msg) && msg.kind !== "tick") state.usedMs = state.deps.clock.steadyMs();
  switch (msg.kind) {
    case "read":
      return read(state, msg);
    case "backup-source":
      return backup(state, msg);
    case "lease":
    case "release-leases":
    case "snapshot":
    case "delete-snapshot":
      return hold(state, msg);
    case "wal":
      return afterWal(state, state.inlet.offer(state.wal, msg));
    case "wal-attach":
      return attach(state, msg);
    case "synced":
      if (state.wal?.synced(msg.upTo) !== true) return;
      progressed(state);
      return backupTick(state);
    case "seal-turn":
      return state.wal?.sealTurn();
    case "sealed":
      return sealed(state, msg.error);
    case "rewound":
      return rewound(state, msg.error);
    case "tick":
      tick(state);
      return maybeSleep(state, () => void end(state));
    case "wake":
      return answerLoaded(state, msg.reply);
    case "boot":
      return boot(state);
    case "loaded":
      return loaded(state);
    case "load-failed":
      return loadFailed(state, msg.error);
    case "source-changed":
      return connect(state);
    case "receiver-changed":
      return publish(state);
    case "seal-now":
      return sealNow(state, msg.reply);
    case "merged":
    case "merge-over":
    case "merge-failed":
    case "merge-ready":
      return mergeTold(state, msg);
    case "backed-up":
      if (backedUp(state, msg.done, msg.error)) progressed(state);
      return backupTick(state);
    case "purge-objects":
      return purgeObjects(state, msg);
    case "layer-put":
      return layerPut(state, msg.file, msg.object, msg.error);
    case "compact":
      return compactNow(state, msg.reply);
    case "compact-stop":
      return compactStop(state);
    case "evict":
      return evict(state, msg.files, msg.reply);
    case "collect":
      return collect(state, msg);
    case "stop":
      return stop(state, msg.reply);
    default:
      return unreachable(msg);
  }
}

function collect(state: TimelineState, msg: Extract<Msg, { kind: "collect" }>): void {
  const policy = retentionPolicy(state.deps.catalog);
  const { windowMs = policy.windowMs, walBytes = policy.walBytes } = msg;
  msg.reply.answer(moveCutoff(state, { windowMs, walBytes }));
}

function stop(state: TimelineState, reply: Reply<undefined>): void {
  move(state, { kind: "stop" });
  void end(state).then(() => {
    reply.answer(undefined);
    state.self.stop();
  });
}
