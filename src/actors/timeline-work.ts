// A timeline's work once it is loaded: WAL in, positions out, sealing, and what depends on time. What
// it throws is a crash: the timeline is loaded anew from what is on disk.

import type { Lsn } from "../core/lsn.ts";
import { err, ok } from "../core/result.ts";
import { StoreFailed, errorText } from "../store/store-errors.ts";
import { letGoBelow } from "./backup.ts";
import { backupTick, takenOver } from "./timeline-backup.ts";
import { timelineEntryOf } from "./timeline-load.ts";
import type { TimelineMsg, ToldPositions } from "./timeline-messages.ts";
import { expire, wake } from "./timeline-readers.ts";
import { retentionTick } from "./timeline-retention.ts";
import { type SealWaiter, type TimelineState, publish } from "./timeline-state.ts";
import type { Taken } from "./timeline-wal.ts";

/** Connects to where the catalog says that WAL comes from. */
export function connect(state: TimelineState): void {
  const { deps } = state;
  const entry = timelineEntryOf(deps.catalog, deps.timelineId);
  deps.directory.publish(deps.tenantId, deps.timelineId, { entry });
  if (state.phase.kind !== "active") return publish(state);
  const taken = takenOver(state);
  if (taken === undefined) state.inlet.connect(entry.source);
  else state.inlet.end(entry.source, taken);
  publish(state);
}

/** A receiver asks where streaming starts: behind the last whole record, when the files are rewound to it. */
export function attach(
  state: TimelineState,
  msg: Extract<TimelineMsg, { kind: "wal-attach" }>,
): void {
  const { deps, wal, self, inlet } = state;
  if (wal === undefined || state.phase.kind !== "active") {
    return msg.reply.answer(err("the timeline does not take in WAL now"));
  }
  const taken = takenOver(state);
  if (taken !== undefined) return msg.reply.answer(err(taken));
  const counts = inlet.attach(msg.receiver, () => {
    const { tli, systemId } = timelineEntryOf(deps.catalog, deps.timelineId);
    msg.reply.answer(ok({ lsn: wal.intake.position, tli, systemId }));
    inlet.progress(told(state));
  });
  if (!counts) return msg.reply.answer(err("this WAL connection was replaced"));
  wal.rewind().then(
    () => self.tell({ kind: "rewound", life: state, error: undefined }),
    (error: unknown) => self.tell({ kind: "rewound", life: state, error }),
  );
}

export function rewound(state: TimelineState, error: unknown): void {
  // Half-cut files are put in order by loading them anew.
  if (error !== undefined) throw error;
  state.inlet.rewound();
}

/** What the inlet made of WAL that was offered, or of what had waited. */
export function afterWal(state: TimelineState, outcome: Taken | undefined): void {
  const { deps, wal } = state;
  if (outcome === undefined || wal === undefined) return;
  // What a record left half-done must not be sealed: it is loaded anew, up to that record.
  if (outcome.kind === "broken") throw outcome.error;
  const known = deps.directory.find(deps.tenantId, deps.timelineId)?.facts.stalled;
  if (outcome.kind === "refused" || (outcome.kind === "stalled" && known !== outcome.reason)) {
    deps.log.warn({ reason: outcome.reason }, `WAL is ${outcome.kind}`);
  }
  wal.maybeFreeze("if-due");
  progressed(state);
}

/** Positions moved: wake readers, tell the source and whoever looks. */
export function progressed(state: TimelineState): void {
  if (state.wal === undefined) return;
  const { positions } = state.wal;
  state.readable = { ...state.readable, last: positions.visible };
  wake(state);
  state.inlet.progress(told(state));
  publish(state);
}

/**
 * With a backup, what upstream hears as applied is what object storage holds; a primary hears it as
 * flush, too, so that its slot keeps what a lost machine would need again. A compute of ours does not:
 * its commits wait for flush (docs/decisions/009-what-a-source-keeps.md).
 */
function told({ wal, deps, inlet }: TimelineState): ToldPositions {
  const { positions } = wal!;
  if (deps.backup === undefined) return positions;
  const { uploaded } = positions;
  const keeps = deps.backup.options.sourceKeeps === "uploaded" && inlet.source === "primary";
  return { ...positions, applied: uploaded, ...(keeps && { flushed: uploaded }) };
}

// ---- sealing and time

/** Answers when all that is visible now is in sealed layers. */
export function sealNow(state: TimelineState, reply: SealWaiter["reply"]): void {
  const { wal } = state;
  if (wal === undefined) return reply.answer(err("the timeline is not loaded"));
  state.sealWaiters.push({ upTo: wal.intake.visible, reply });
  answerSealed(state);
}

/** A seal has ended. */
export function sealed(state: TimelineState, error: unknown): void {
  const { deps, wal } = state;
  if (wal === undefined) return;
  const entry = timelineEntryOf(deps.catalog, deps.timelineId);
  deps.directory.publish(deps.tenantId, deps.timelineId, { entry });
  if (error instanceof StoreFailed) throw error;
  if (error === undefined) {
    state.sealFailure = undefined;
    const { sealedLsn } = entry;
    wal.letGo(deps.backup === undefined ? sealedLsn : letGoBelow(sealedLsn, wal.uploaded));
    wal.beginSeal();
    answerSealed(state);
  } else {
    // The layer stays frozen and in memory; a full disk may have room again later.
    state.sealFailure = `a layer cannot be sealed: ${errorText(error)}`;
    deps.log.error({ err: error }, "a layer could not be sealed; it is tried again");
    const answer = err(state.sealFailure);
    for (const { reply } of state.sealWaiters.splice(0)) reply.answer(answer);
  }
  afterWal(state, state.inlet.retry(wal));
  publish(state);
}

/** Answers those who wait for a seal that has happened, and freezes what the others wait for. */
function answerSealed(state: TimelineState): void {
  const { wal, deps } = state;
  if (wal === undefined || state.sealWaiters.length === 0) return;
  const { sealedLsn } = timelineEntryOf(deps.catalog, deps.timelineId);
  if (sealedLsn < state.sealWaiters.at(-1)!.upTo) wal.maybeFreeze("now");
  const isDone = (upTo: Lsn): boolean => upTo <= sealedLsn || !wal.store.isSealing;
  const done = state.sealWaiters.filter(({ upTo }) => isDone(upTo));
  state.sealWaiters = state.sealWaiters.filter(({ upTo }) => !isDone(upTo));
  for (const { reply } of done) reply.answer(ok(undefined));
}

/** Once a second: deadlines, idle and old layers, what failed or had to wait. */
export function tick(state: TimelineState): void {
  expire(state);
  const { wal } = state;
  if (wal === undefined || state.phase.kind === "stopping") return;
  wal.maybeFreeze("if-due");
  wal.beginSeal();
  afterWal(state, state.inlet.retry(wal));
  retentionTick(state);
  backupTick(state);
}
