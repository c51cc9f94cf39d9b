// Streams WAL from segment files into a timeline as its WAL receiver does: pieces of the size that a
// walsender sends, as messages, with the same bound on what is handed over and not yet taken in.

import fs from "node:fs";
import type { ActorRef } from "../src/actors/runtime.ts";
import { ask } from "../src/actors/runtime.ts";
import type { TimelineMsg, WalProgressMsg, WalStart } from "../src/actors/timeline-messages.ts";
import { WAL_IN_FLIGHT_BYTES } from "../src/core/limits.ts";
import { type Lsn, WAL_SEGMENT_BYTES } from "../src/core/lsn.ts";
import type { Result } from "../src/core/result.ts";
import { segmentPath } from "./corpus.ts";

/** MAX_SEND_SIZE of walsender.c. */
const PIECE_BYTES = 128 * 1024;
const ATTACH_MS_MAX = 60_000;

/** Feeds the WAL of `dataDir` up to `end`; resolves when all of it is durable. */
export async function feedWal(
  timeline: ActorRef<TimelineMsg>,
  dataDir: string,
  end: Lsn,
): Promise<void> {
  let hear: (msg: WalProgressMsg) => void = () => undefined;
  const receiver: ActorRef<WalProgressMsg> = {
    path: "bench/wal-feed",
    scope: timeline.scope,
    tell: (msg) => hear(msg),
    stop: () => undefined,
    stopped: () => false,
  };
  const start = await ask<TimelineMsg, Result<WalStart, string>>(
    timeline,
    (reply) => ({ kind: "wal-attach", receiver, reply }),
    ATTACH_MS_MAX,
  );
  if (start === "timed-out" || !start.ok) throw new Error("the timeline takes no WAL");
  const segments = new SegmentReader(dataDir);
  let at = start.value.lsn;
  await new Promise<void>((resolve, reject) => {
    const send = (taken: Lsn): void => {
      while (at < end && at - taken < WAL_IN_FLIGHT_BYTES) {
        const bytes = segments.read(at, end);
        timeline.tell({ kind: "wal", receiver, at, bytes });
        at = (at + bytes.length) as Lsn;
      }
    };
    hear = (msg) => {
      if (msg.kind === "wal-refused") return reject(new Error(msg.reason));
      const { received, durable } = msg.positions;
      if (durable >= end) resolve();
      else send(received);
    };
    send(at);
  }).finally(() => segments.close());
}

/** Reads pieces that do not cross a segment, into memory that is used again when it was taken in. */
class SegmentReader {
  private readonly dataDir: string;
  // One piece more than may be under way.
  private readonly buffers = Array.from({ length: WAL_IN_FLIGHT_BYTES / PIECE_BYTES + 1 }, () =>
    Buffer.allocUnsafeSlow(PIECE_BYTES),
  );
  private next = 0;
  private segment = -1;
  private fd = -1;

  constructor(dataDir: string) {
    this.dataDir = dataDir;
  }

  read(at: Lsn, end: Lsn): Uint8Array {
    const segment = Math.floor(at / WAL_SEGMENT_BYTES);
    if (segment !== this.segment) {
      this.close();
      this.fd = fs.openSync(segmentPath(this.dataDir, at), "r");
      this.segment = segment;
    }
    const offset = at % WAL_SEGMENT_BYTES;
    const length = Math.min(PIECE_BYTES, end - at, WAL_SEGMENT_BYTES - offset);
    const buffer = this.buffers[this.next++ % this.buffers.length]!;
    if (fs.readSync(this.fd, buffer, 0, length, offset) !== length) {
      throw new Error(`WAL ends in ${segmentPath(this.dataDir, at)}`);
    }
    return buffer.subarray(0, length);
  }

  close(): void {
    if (this.fd >= 0) fs.closeSync(this.fd);
    this.fd = -1;
    this.segment = -1;
  }
}
