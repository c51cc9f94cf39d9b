// START_REPLICATION on a connection: WAL and keepalives come as callbacks, in order, until one
// end, which says why. Decides nothing: when to report, pause or give up is core/wal-receiver.ts.

import { MalformedInput } from "../../core/assert.ts";
import { Lsn } from "../../core/lsn.ts";
import type { StreamEnd } from "../../core/wal-receiver-failure.ts";
import {
  COPY_DONE,
  type StandbyStatus,
  buildQuery,
  buildStandbyStatus,
  parseCopyMessage,
  parseDataRow,
  parseServerError,
  parseTli,
  startReplicationSql,
} from "../../protocol/replication.ts";
import type { PgWire, WireMessage } from "./wire.ts";

export interface StreamFrom {
  readonly slot: string | undefined;
  readonly lsn: Lsn;
  /** Undefined for a safekeeper, which knows no timeline ids here. */
  readonly tli: number | undefined;
}

export interface StreamHandlers {
  /** The server has begun to stream. */
  readonly onStart: () => void;
  /**
   * WAL bytes that begin at `at`; they may be kept. `end` is where the sender's WAL ends by now.
   */
  readonly onData: (at: Lsn, bytes: Uint8Array, end: Lsn) => void;
  readonly onKeepalive: (end: Lsn, replyRequested: boolean) => void;
  /** Called once, last; not after our own close(). */
  readonly onEnd: (end: StreamEnd) => void;
}

export interface WalStream {
  /** Reports our positions; `nowMs` is Unix time. */
  sendStatus(status: StandbyStatus, nowMs: number): void;
  /** Stops reading the socket; a few messages may still come. */
  pause(): void;
  resume(): void;
}

/** Starts streaming. The connection is then good for nothing else. */
export function startStream(wire: PgWire, from: StreamFrom, handlers: StreamHandlers): WalStream {
  let ended = false;
  let nextTimeline: { readonly tli: number; readonly at: Lsn } | undefined;
  const end = (why: StreamEnd): void => {
    if (ended) return;
    ended = true;
    handlers.onEnd(why);
    wire.close();
  };
  const onMessage = ({ type, body }: WireMessage): void => {
    if (ended) return;
    switch (type) {
      case 0x64: {
        const message = parseCopyMessage(body);
        if (message.kind === "wal") handlers.onData(message.at, message.bytes, message.end);
        else handlers.onKeepalive(message.end, message.replyRequested);
        return;
      }
      case 0x57: // CopyBothResponse
        return handlers.onStart();
      case 0x63: // CopyDone: this timeline id has ended; a row says which one follows.
        return wire.send(COPY_DONE);
      case 0x44: {
        const [tli, at] = parseDataRow(body);
        if (at == null) throw new MalformedInput("end of streaming: no position of the switch");
        nextTimeline = { tli: parseTli(tli), at: Lsn.parse(at) };
        return;
      }
      case 0x43: // CommandComplete: of COPY when the server shuts down, else after the row above.
        return nextTimeline === undefined
          ? end({ kind: "finished", message: "the server has sent all its WAL and shuts down" })
          : end({ kind: "timeline-switch", nextTli: nextTimeline.tli, at: nextTimeline.at });
      case 0x45: {
        const error = parseServerError(body);
        // A safekeeper says good-bye with an "error" whose SQLSTATE is success.
        return error.code === "00000"
          ? end({ kind: "finished", message: error.message })
          : end({ kind: "server-error", code: error.code, message: error.message });
      }
    }
  };
  wire.listen(onMessage, (cause) =>
    end(
      cause instanceof MalformedInput
        ? { kind: "malformed", message: cause.message }
        : { kind: "lost", message: cause.message },
    ),
  );
  wire.send(buildQuery(startReplicationSql(from)));
  return {
    sendStatus: (status, nowMs) => wire.send(buildStandbyStatus(status, nowMs)),
    pause: () => wire.pause(),
    resume: () => wire.resume(),
  };
}
