// What a WAL receiver decides: connect, ask the timeline where to start, stream, report, pause,
// give up a silent peer, back off, or stop for good with a remedy. Pure: events in, effects out;
// time (steady, ms) and chance come with each event. The actor of the same name performs.
//
// Holds: flush reported upstream is never above what the timeline called durable, and where the source
// must keep WAL until it is uploaded never above that, unless it is stopping; apply is never
// above flush; bytes are handed to the timeline gapless, from where it said streaming starts.

import { unreachable } from "./assert.ts";
import {
  WAL_ATTACH_MS_MAX,
  WAL_IN_FLIGHT_BYTES,
  WAL_PRESSED_APART_MS_MAX,
  WAL_RETRY_MS_MAX,
  WAL_RETRY_MS_MIN,
  WAL_SILENCE_MS_MAX,
  WAL_STATUS_MS,
  WAL_STOP_WAIT_MS_MAX,
  WAL_UNTAKEN_MS_MAX,
} from "./limits.ts";
import { Lsn } from "./lsn.ts";
import type { Result } from "./result.ts";
import { hearEnd } from "./wal-lag.ts";
import { type Failure, failureOf } from "./wal-receiver-failure.ts";
import {
  type Moment,
  type ReceiverEffect,
  type ReceiverEvent,
  type ReceiverState,
  type ReceiverStep,
  type ReportedPositions,
  type StartPoint,
  type Streaming,
  reportOf,
  streamFrom,
} from "./wal-receiver-state.ts";

const NOTHING: readonly ReceiverEffect[] = [];

/** When a tick is due although nothing happens, ms from now; undefined: never. */
export function wakeAfterMs(state: ReceiverState, nowMs: number): number | undefined {
  const { phase } = state;
  switch (phase.kind) {
    case "idle":
    case "connecting": // the connection has its own deadline, and reports it
    case "starting":
    case "refused":
      return undefined;
    case "backing-off":
    case "attaching":
      return Math.max(0, phase.untilMs - nowMs);
    case "streaming": {
      const heard = phase.heardAtMs + WAL_SILENCE_MS_MAX / (phase.asked ? 1 : 2);
      const due = [
        phase.reportedAtMs + WAL_STATUS_MS,
        ...(phase.paused ? [] : [heard]),
        ...(phase.taken < phase.next ? [phase.takenAtMs + WAL_UNTAKEN_MS_MAX] : []),
      ];
      return Math.max(0, Math.min(...due) - nowMs);
    }
  }
}

/** Old state and event to new state and what must be done, in order. */
export function stepReceiver(
  state: ReceiverState,
  event: ReceiverEvent,
  moment: Moment,
): ReceiverStep {
  if ("connection" in event && event.connection !== state.connection) return [state, NOTHING];
  switch (event.kind) {
    case "connect-now":
      return onConnectNow(state);
    case "connected":
      if (state.phase.kind !== "connecting") return [state, NOTHING];
      return [
        {
          ...state,
          phase: {
            kind: "attaching",
            identity: event.identity,
            untilMs: moment.nowMs + WAL_ATTACH_MS_MAX,
          },
        },
        [{ do: "attach" }],
      ];
    case "attached":
      return onAttached(state, event.start, moment);
    case "started":
      return onStarted(state, moment);
    case "wal":
      return onWal(state, event, moment);
    case "keepalive":
      return onKeepalive(state, event, moment);
    case "progress":
      return onProgress(state, event, moment);
    case "ended":
      return fail(state, failureOf(event.end, startedAt(state)), moment);
    case "wal-refused":
      if (state.phase.kind !== "streaming" && state.phase.kind !== "starting") {
        return [state, NOTHING];
      }
      return fail(state, { reason: `the timeline: ${event.reason}`, retry: event.retry }, moment);
    case "tick":
      return onTick(state, moment);
    default:
      return unreachable(event);
  }
}

/** Where streaming was asked to begin. */
const startedAt = ({ phase }: ReceiverState): Lsn | undefined =>
  phase.kind === "starting" ? phase.start.lsn : phase.kind === "streaming" ? phase.next : undefined;

function onConnectNow(state: ReceiverState): ReceiverStep {
  switch (state.phase.kind) {
    case "idle":
    case "backing-off":
    case "refused": {
      const connection = state.connection + 1;
      return [
        { ...state, connection, phase: { kind: "connecting" } },
        [{ do: "connect", connection }],
      ];
    }
    default:
      return [state, NOTHING];
  }
}

function onAttached(
  state: ReceiverState,
  start: Result<StartPoint, string>,
  moment: Moment,
): ReceiverStep {
  if (state.phase.kind !== "attaching") return [state, NOTHING];
  const { identity } = state.phase;
  if (!start.ok) {
    return fail(state, { reason: `the timeline: ${start.error}`, retry: true }, moment);
  }
  const { lsn, tli, systemId } = start.value;
  if (identity.systemId !== systemId) {
    const reason =
      `the server's system identifier is ${identity.systemId}, this timeline's is ${systemId}: ` +
      "it is another database cluster; correct the connection string, or follow it anew";
    return fail(state, { reason, retry: false }, moment);
  }
  if (identity.tli !== tli) {
    const reason =
      `the server is on PostgreSQL timeline ${identity.tli}, this timeline follows ${tli}: it was ` +
      "promoted or restored in between; follow it anew with a base backup";
    return fail(state, { reason, retry: false }, moment);
  }
  const from = streamFrom(lsn);
  if (identity.xlogpos < from) {
    const reason =
      `the server's WAL ends at ${Lsn.format(identity.xlogpos)}, before ${Lsn.format(from)} where ` +
      "streaming must go on; if it was restored from an older backup, follow it as a new timeline";
    return fail(state, { reason, retry: true }, moment);
  }
  return [
    { ...state, phase: { kind: "starting", start: start.value } },
    [{ do: "stream", lsn: from, tli }],
  ];
}

function onStarted(state: ReceiverState, { nowMs }: Moment): ReceiverStep {
  if (state.phase.kind !== "starting") return [state, NOTHING];
  const { lsn } = state.phase.start;
  const phase: Streaming = {
    kind: "streaming",
    sinceMs: nowMs,
    next: lsn,
    sourceEnd: lsn,
    ends: [],
    taken: lsn,
    takenAtMs: nowMs,
    paused: false,
    heardAtMs: nowMs,
    asked: false,
    reportedAtMs: nowMs,
  };
  // What an earlier connection reported still holds, and someone may be waiting for just that.
  return [{ ...state, phase }, [{ do: "report", positions: state.reported, ask: false }]];
}

function onWal(
  state: ReceiverState,
  event: { readonly at: Lsn; readonly bytes: number; readonly end: Lsn },
  moment: Moment,
): ReceiverStep {
  const { phase } = state;
  if (phase.kind !== "streaming") return [state, NOTHING];
  if (event.at > phase.next) {
    const reason =
      `the server sent WAL at ${Lsn.format(event.at)}, ${event.at - phase.next} bytes after ` +
      `${Lsn.format(phase.next)} where it should go on`;
    return fail(state, { reason, retry: true }, moment);
  }
  const next = Math.max(phase.next, event.at + event.bytes) as Lsn;
  const { nowMs } = moment;
  const effects: ReceiverEffect[] = [];
  if (next > phase.next) {
    effects.push({ do: "deliver", at: phase.next, skip: phase.next - event.at });
  }
  const paused = phase.paused || next - phase.taken > WAL_IN_FLIGHT_BYTES;
  if (paused && !phase.paused) effects.push({ do: "pause" });
  const heard = {
    ...phase,
    next,
    paused,
    sourceEnd: event.end,
    ends: hearEnd(phase.ends, { atMs: nowMs, end: event.end }, state.durable),
    // Waiting for the timeline begins with the first byte that it has not taken in.
    takenAtMs: phase.taken === phase.next ? nowMs : phase.takenAtMs,
    heardAtMs: nowMs,
    asked: false,
    pressed: undefined,
  };
  return [{ ...state, failures: 0, lastError: undefined, phase: heard }, effects];
}

function onKeepalive(
  state: ReceiverState,
  event: { readonly end: Lsn; readonly replyRequested: boolean },
  { nowMs }: Moment,
): ReceiverStep {
  const { phase } = state;
  if (phase.kind !== "streaming") return [state, NOTHING];
  const ends = hearEnd(phase.ends, { atMs: nowMs, end: event.end }, state.durable);
  const heard: Streaming = { ...phase, sourceEnd: event.end, ends, heardAtMs: nowMs, asked: false };
  const calm = { ...state, failures: 0, lastError: undefined };
  if (!event.replyRequested) return [{ ...calm, phase: heard }, NOTHING];
  const next = { ...calm, phase: pressed({ ...heard, reportedAtMs: nowMs }, nowMs) };
  return [next, [{ do: "report", positions: positionsOf(next), ask: false }]];
}

/**
 * A walsender whose server shuts down asks for one reply after the other until flush is at its end, and
 * the shutdown waits for it (WalSndDone in walsender.c). Object storage that is away must not hold up
 * a production server for ever, so after a while it is told what is durable here.
 */
function pressed(phase: Streaming, nowMs: number): Streaming {
  const goesOn =
    phase.pressed !== undefined && nowMs - phase.pressed.lastMs <= WAL_PRESSED_APART_MS_MAX;
  const sinceMs = goesOn ? phase.pressed!.sinceMs : nowMs;
  const yields = phase.yields === true || nowMs - sinceMs >= WAL_STOP_WAIT_MS_MAX;
  return { ...phase, pressed: { sinceMs, lastMs: nowMs }, ...(yields && { yields }) };
}

/** What is reported: `reported`, unless the source waits for more. */
function positionsOf({ phase, reported, durable }: ReceiverState): ReportedPositions {
  if (phase.kind !== "streaming" || phase.yields !== true) return reported;
  const flush = Math.max(reported.flush, durable) as Lsn;
  return { ...reported, flush, write: Math.max(reported.write, flush) as Lsn };
}

function onProgress(
  state: ReceiverState,
  event: Parameters<typeof reportOf>[0],
  { nowMs }: Moment,
): ReceiverStep {
  const known = { ...state, reported: reportOf(event), durable: event.durable };
  const { phase } = state;
  if (phase.kind !== "streaming") return [known, NOTHING];
  const effects: ReceiverEffect[] = [];
  const [before, positions] = [positionsOf(state), positionsOf(known)];
  const moved = positions.flush > before.flush || positions.apply > before.apply;
  // A commit may be waiting for exactly this: it goes out before anything else is looked at.
  if (moved) effects.push({ do: "report", positions, ask: false });
  const taken = Math.max(phase.taken, event.received) as Lsn;
  const mayGoOn = phase.paused && phase.next - taken <= WAL_IN_FLIGHT_BYTES / 2;
  if (mayGoOn) effects.push({ do: "resume" });
  const moving: Streaming = {
    ...phase,
    taken,
    takenAtMs: taken > phase.taken ? nowMs : phase.takenAtMs,
    reportedAtMs: moved ? nowMs : phase.reportedAtMs,
    ...(mayGoOn ? { paused: false, heardAtMs: nowMs, asked: false } : {}),
  };
  return [{ ...known, phase: moving }, effects];
}

function onTick(state: ReceiverState, moment: Moment): ReceiverStep {
  const { phase } = state;
  const { nowMs } = moment;
  switch (phase.kind) {
    case "backing-off":
      return nowMs < phase.untilMs ? [state, NOTHING] : onConnectNow(state);
    case "attaching": {
      if (nowMs < phase.untilMs) return [state, NOTHING];
      const reason = `the timeline did not say where to start within ${WAL_ATTACH_MS_MAX} ms`;
      return fail(state, { reason, retry: true }, moment);
    }
    case "streaming":
      return onStreamingTick(state, phase, moment);
    default:
      return [state, NOTHING];
  }
}

function onStreamingTick(state: ReceiverState, phase: Streaming, moment: Moment): ReceiverStep {
  const { nowMs } = moment;
  const silentMs = phase.paused ? 0 : nowMs - phase.heardAtMs;
  if (silentMs >= WAL_SILENCE_MS_MAX) {
    const reason = `the server has been silent for ${WAL_SILENCE_MS_MAX} ms`;
    return fail(state, { reason, retry: true }, moment);
  }
  if (phase.taken < phase.next && nowMs - phase.takenAtMs >= WAL_UNTAKEN_MS_MAX) {
    const reason = `the timeline has taken in no WAL for ${WAL_UNTAKEN_MS_MAX} ms`;
    return fail(state, { reason, retry: true }, moment);
  }
  const ask = !phase.asked && silentMs >= WAL_SILENCE_MS_MAX / 2;
  if (!ask && nowMs - phase.reportedAtMs < WAL_STATUS_MS) return [state, NOTHING];
  return [
    { ...state, phase: { ...phase, asked: phase.asked || ask, reportedAtMs: nowMs } },
    [{ do: "report", positions: positionsOf(state), ask }],
  ];
}

/**
 * Closes, and waits twice as long each time (half of it by chance, so that receivers do not come
 * all at once), or stops for good.
 */
function fail(state: ReceiverState, failure: Failure, { nowMs, chance }: Moment): ReceiverStep {
  const ended = { ...state, connection: state.connection + 1, lastError: failure.reason };
  if (!failure.retry) {
    return [{ ...ended, phase: { kind: "refused", reason: failure.reason } }, [{ do: "close" }]];
  }
  const fullMs = Math.min(WAL_RETRY_MS_MAX, WAL_RETRY_MS_MIN * 2 ** Math.min(state.failures, 30));
  const untilMs = nowMs + fullMs * (0.5 + chance / 2);
  return [
    {
      ...ended,
      failures: state.failures + 1,
      reconnects: state.reconnects + 1,
      phase: { kind: "backing-off", untilMs },
    },
    [{ do: "close" }],
  ];
}
