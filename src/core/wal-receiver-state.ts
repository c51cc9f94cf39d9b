// The vocabulary of a WAL receiver: its state, what happens to it, what it wants done, and how it
// names positions. The decisions are in wal-receiver.ts.

import {
  LSN_INVALID,
  type Lsn,
  WAL_LONG_HEADER_BYTES,
  WAL_PAGE_BYTES,
  WAL_SEGMENT_BYTES,
  WAL_SHORT_HEADER_BYTES,
} from "./lsn.ts";
import type { Result } from "./result.ts";
import type { StreamEnd } from "./wal-receiver-failure.ts";
import type { EndHeard } from "./wal-lag.ts";

/** What IDENTIFY_SYSTEM told. */
export interface SourceIdentity {
  readonly systemId: string;
  readonly tli: number;
  readonly xlogpos: Lsn;
}

/** Where the timeline wants streaming to start. */
export interface StartPoint {
  readonly lsn: Lsn;
  readonly tli: number;
  readonly systemId: string;
}

/** What is reported upstream. */
export interface ReportedPositions {
  readonly write: Lsn;
  readonly flush: Lsn;
  readonly apply: Lsn;
}

export interface Streaming {
  readonly kind: "streaming";
  readonly sinceMs: number;
  /** Position of the next byte that the timeline has not been handed. */
  readonly next: Lsn;
  /** Sender's end of WAL, as last heard. */
  readonly sourceEnd: Lsn;
  /** Ends that were heard and are not durable here yet, for the lag in seconds. */
  readonly ends: readonly EndHeard[];
  /** Taken in by the timeline since this stream began (its `received`). */
  readonly taken: Lsn;
  readonly takenAtMs: number;
  readonly paused: boolean;
  readonly heardAtMs: number;
  readonly asked: boolean;
  readonly reportedAtMs: number;
  /** The source has asked for one reply after the other, and sent nothing else, since when and till when. */
  readonly pressed?: { readonly sinceMs: number; readonly lastMs: number } | undefined;
  /** The source is stopping and waits for our flush of all that it has: it is told what is durable. */
  readonly yields?: true;
}

export type ReceiverPhase =
  | { readonly kind: "idle" }
  | { readonly kind: "backing-off"; readonly untilMs: number }
  | { readonly kind: "connecting" }
  | { readonly kind: "attaching"; readonly identity: SourceIdentity; readonly untilMs: number }
  | { readonly kind: "starting"; readonly start: StartPoint }
  | Streaming
  /** For good, until told to try again: `reason` carries the remedy. */
  | { readonly kind: "refused"; readonly reason: string };

export interface ReceiverState {
  readonly phase: ReceiverPhase;
  /** Number of the connection that counts; what earlier ones still say is ignored. */
  readonly connection: number;
  /** Failures since WAL or a keepalive last came: the exponent of the back-off. */
  readonly failures: number;
  readonly reconnects: number;
  readonly reported: ReportedPositions;
  /** What flush would be if the source had to keep nothing for us. */
  readonly durable: Lsn;
  readonly lastError: string | undefined;
}

export type ReceiverEvent =
  /** First start, or an operator's (or a just started source's) wish to try now. */
  | { readonly kind: "connect-now" }
  | { readonly kind: "connected"; readonly connection: number; readonly identity: SourceIdentity }
  | {
      readonly kind: "attached";
      readonly connection: number;
      readonly start: Result<StartPoint, string>;
    }
  | { readonly kind: "started"; readonly connection: number }
  | {
      readonly kind: "wal";
      readonly connection: number;
      readonly at: Lsn;
      readonly bytes: number;
      readonly end: Lsn;
    }
  | {
      readonly kind: "keepalive";
      readonly connection: number;
      readonly end: Lsn;
      readonly replyRequested: boolean;
    }
  | { readonly kind: "ended"; readonly connection: number; readonly end: StreamEnd }
  | {
      readonly kind: "progress";
      readonly received: Lsn;
      readonly visible: Lsn;
      readonly durable: Lsn;
      readonly flushed?: Lsn | undefined;
      readonly applied?: Lsn | undefined;
    }
  | { readonly kind: "wal-refused"; readonly reason: string; readonly retry: boolean }
  | { readonly kind: "tick" };

export type ReceiverEffect =
  /** Connect and identify as connection `connection`. */
  | { readonly do: "connect"; readonly connection: number }
  | { readonly do: "attach" }
  /** Make sure of the slot, then START_REPLICATION there. */
  | { readonly do: "stream"; readonly lsn: Lsn; readonly tli: number }
  /** Hand the timeline the WAL of this event without its first `skip` bytes. */
  | { readonly do: "deliver"; readonly at: Lsn; readonly skip: number }
  | { readonly do: "report"; readonly positions: ReportedPositions; readonly ask: boolean }
  | { readonly do: "pause" }
  | { readonly do: "resume" }
  | { readonly do: "close" };

/** Steady time in ms, and a random number 0 <= chance < 1. */
export interface Moment {
  readonly nowMs: number;
  readonly chance: number;
}

export type ReceiverStep = readonly [ReceiverState, readonly ReceiverEffect[]];

export const IDLE_RECEIVER: ReceiverState = {
  phase: { kind: "idle" },
  connection: 0,
  failures: 0,
  reconnects: 0,
  reported: { write: LSN_INVALID, flush: LSN_INVALID, apply: LSN_INVALID },
  durable: LSN_INVALID,
  lastError: undefined,
};

/**
 * Our positions as PostgreSQL names them. Flush moves the source's slot, so it is `flushed` where the
 * source must keep more than we have not on disk yet (docs/decisions/009-what-a-source-keeps.md). Apply is what object storage holds (`applied`) or, without a
 * backup, what can be read here and is safe: a commit that waits for remote_apply waits for nothing
 * else, so it must not be told of what a crash could still take away.
 */
export function reportOf(positions: {
  readonly received: Lsn;
  readonly visible: Lsn;
  readonly durable: Lsn;
  readonly flushed?: Lsn | undefined;
  readonly applied?: Lsn | undefined;
}): ReportedPositions {
  const flush = Math.min(positions.flushed ?? positions.durable, positions.durable) as Lsn;
  const apply = Math.min(positions.applied ?? positions.visible, flush) as Lsn;
  return { write: Math.max(positions.received, flush) as Lsn, flush, apply };
}

/**
 * Where to ask the server to start for `lsn`: at the page's start if `lsn` is right behind a page
 * header, because a server whose WAL ends with the page before refuses the position behind the
 * header as one it has not reached.
 */
export function streamFrom(lsn: Lsn): Lsn {
  const inPage = lsn % WAL_PAGE_BYTES;
  const header =
    (lsn - inPage) % WAL_SEGMENT_BYTES === 0 ? WAL_LONG_HEADER_BYTES : WAL_SHORT_HEADER_BYTES;
  return (inPage === header ? lsn - inPage : lsn) as Lsn;
}
