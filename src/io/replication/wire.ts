// One logged-in backend connection as a source of whole messages. Two ways to read it: `next()`
// takes them one by one (commands, base backup) and reads ahead a bounded number of bytes;
// `listen()` hands them over as they come (streaming), and whoever listens pauses the socket.

import type { Socket } from "node:net";
import { MalformedInput } from "../../core/assert.ts";
import { BACKEND_MESSAGE_BYTES_MAX, REPLICATION_QUEUE_BYTES } from "../../core/limits.ts";
import { Framer } from "../../protocol/pg-frames.ts";
import { TERMINATE } from "../../protocol/replication.ts";

export interface WireMessage {
  readonly type: number;
  /** A view of memory that nothing else writes to; it may be kept. */
  readonly body: Uint8Array;
}

/** The connection is gone: refused, cut, or closed by either side. Worth trying again. */
export class ConnectionLost extends Error {
  override readonly name = "ConnectionLost";
}

interface Waiter {
  readonly resolve: (message: WireMessage) => void;
  readonly reject: (cause: Error) => void;
  readonly timer: NodeJS.Timeout;
}

/** How long a close may take before the socket is cut, ms: the last status should still get out. */
const CLOSE_MS_MAX = 1_000;

export class PgWire {
  private readonly socket: Socket;
  private readonly framer: Framer;
  private readonly queue: WireMessage[] = [];
  private queuedBytes = 0;
  private waiter: Waiter | undefined;
  private listener: { message: (m: WireMessage) => void; lost: (e: Error) => void } | undefined;
  private failure: Error | undefined;
  private socketError: Error | undefined;
  private closing = false;

  /** Takes over a socket on which the server waits for a command. */
  constructor(socket: Socket) {
    this.socket = socket;
    this.framer = new Framer(
      (type, body) => this.deliver({ type, body }),
      BACKEND_MESSAGE_BYTES_MAX,
    );
    socket.removeAllListeners("data");
    socket.setNoDelay(true);
    socket.on("data", (chunk: Buffer) => this.onChunk(chunk));
    socket.on("error", (cause) => (this.socketError ??= cause));
    socket.on("close", () => this.onClosed());
  }

  /** True when the connection can no longer be used. */
  get lost(): boolean {
    return this.failure !== undefined || this.closing;
  }

  send(bytes: Uint8Array): void {
    if (!this.lost) this.socket.write(bytes);
  }

  /**
   * The next message. Throws ConnectionLost, also when none comes within `timeoutMs`; the
   * connection is then cut.
   */
  next(timeoutMs: number): Promise<WireMessage> {
    const queued = this.queue.shift();
    if (queued !== undefined) {
      this.queuedBytes -= queued.body.length;
      if (this.queuedBytes < REPLICATION_QUEUE_BYTES / 2) this.socket.resume();
      return Promise.resolve(queued);
    }
    if (this.failure !== undefined) return Promise.reject(this.failure);
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => {
        this.fail(new ConnectionLost(`the server did not answer within ${timeoutMs} ms`));
      }, timeoutMs);
      this.waiter = { resolve, reject, timer };
    });
  }

  /**
   * From now on messages go to `message` as they come, which may throw MalformedInput; `lost` is
   * called once, unless we close ourselves. No `next()` may be pending.
   */
  listen(message: (m: WireMessage) => void, lost: (cause: Error) => void): void {
    this.listener = { message, lost };
    this.queuedBytes = 0;
    const early = this.queue.splice(0);
    const failed = this.failure;
    this.failure = undefined; // what came before the end is still handed over
    this.guarded(() => early.forEach((queued) => this.deliver(queued)));
    if (failed !== undefined) this.fail(failed);
    else this.socket.resume();
  }

  /** Stops reading the socket; what has been read already is still handed over. */
  pause(): void {
    this.socket.pause();
  }
  resume(): void {
    this.socket.resume();
  }

  /** Says good-bye and closes; nothing is handed over any more. Calling it again does nothing. */
  close(): void {
    if (this.closing) return;
    this.send(TERMINATE);
    this.closing = true;
    this.fail(new ConnectionLost("the connection was closed on our side"));
  }

  private onChunk(chunk: Buffer): void {
    if (this.failure === undefined) this.guarded(() => this.framer.push(chunk));
  }

  /** Bytes that do not follow the protocol end this connection, nothing else. */
  private guarded(work: () => void): void {
    try {
      work();
    } catch (cause) {
      if (!(cause instanceof MalformedInput)) throw cause;
      this.fail(cause);
    }
  }

  private deliver(message: WireMessage): void {
    if (this.failure !== undefined) return;
    if (this.listener !== undefined) {
      this.listener.message(message);
    } else if (this.waiter !== undefined) {
      const { resolve, timer } = this.waiter;
      this.waiter = undefined;
      clearTimeout(timer);
      resolve(message);
    } else {
      this.queue.push(message);
      this.queuedBytes += message.body.length;
      if (this.queuedBytes > REPLICATION_QUEUE_BYTES) this.socket.pause();
    }
  }

  private onClosed(): void {
    const cause = this.socketError;
    this.fail(
      new ConnectionLost(
        cause === undefined
          ? "the server closed the connection"
          : `the connection broke: ${cause.message}`,
      ),
    );
  }

  private fail(cause: Error): void {
    if (this.failure !== undefined) return;
    this.failure = cause;
    this.socket.resume(); // a paused socket would not see the other side's end
    this.socket.end();
    setTimeout(() => this.socket.destroy(), CLOSE_MS_MAX).unref();
    if (this.waiter !== undefined) {
      const { reject, timer } = this.waiter;
      this.waiter = undefined;
      clearTimeout(timer);
      reject(cause);
    }
    if (!this.closing) this.listener?.lost(cause);
  }
}
