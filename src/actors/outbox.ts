// What goes out of one compute link: answers in order, each with one write, and memory given back
// when the socket took it. Order and bounds are core/connection.ts; this does the writing.

import { AnswerQueue, LINK_BOUNDS, type LinkBounds, type Slot } from "../core/connection.ts";
import type { SlabPool } from "../core/slab-pool.ts";
import type { Link } from "../io/listener.ts";

/** One answer as it goes to the socket. */
export interface Outgoing {
  readonly pieces: readonly Uint8Array[];
  readonly bytes: number;
  /** Memory that the pieces are views of, for the pool. */
  readonly slab?: Uint8Array;
  /** Called when the socket took it, or will never take it. */
  readonly sent?: (error: Error | undefined) => void;
  /** The last answer: the link is closed after it. */
  readonly last?: boolean;
}

export type AnswerSlot = Slot<Outgoing>;

export class Outbox {
  private readonly link: Link;
  private readonly slabs: SlabPool;
  private readonly onSent: () => void;
  private readonly queue = new AnswerQueue<Outgoing>();
  private closed: Error | undefined;
  private progressMs = 0;

  /** `onSent` is called when there may be room again. */
  constructor(link: Link, slabs: SlabPool, onSent: () => void) {
    this.link = link;
    this.slabs = slabs;
    this.onSent = onSent;
  }

  /** Requests that may still be taken within these bounds. */
  room(bounds: LinkBounds = LINK_BOUNDS): number {
    return this.queue.room(bounds);
  }

  /** Nothing can be sent any more. */
  get isClosed(): boolean {
    return this.closed !== undefined;
  }

  get oldestMs(): number | undefined {
    return this.queue.oldestMs;
  }

  /** Since when the socket has taken nothing of what lies ready, ms; undefined if nothing does. */
  get stalledSinceMs(): number | undefined {
    return this.queue.unsentBytes > 0 ? this.progressMs : undefined;
  }

  open(requests: number): AnswerSlot {
    return this.queue.open(requests, Date.now());
  }

  settle(slot: AnswerSlot, answer: Outgoing): void {
    if (this.closed !== undefined) {
      answer.sent?.(this.closed);
      return;
    }
    const due = this.queue.settle(slot, answer);
    if (due.length > 0) this.write(due);
  }

  /** Sends what is known at once, behind the answers that are still owed. */
  send(...pieces: readonly Uint8Array[]): void {
    this.settle(this.open(0), { pieces, bytes: total(pieces) });
  }

  /** As `send`; resolves when the socket took the bytes, rejects when it never will. */
  sent(pieces: readonly Uint8Array[]): Promise<void> {
    return new Promise((resolve, reject) => {
      const sent = (error: Error | undefined): void => {
        if (error === undefined) resolve();
        else reject(error);
      };
      this.settle(this.open(0), { pieces, bytes: total(pieces), sent });
    });
  }

  /** Sends the last bytes, behind the answers that are still owed, and closes the link after them. */
  finish(...pieces: readonly Uint8Array[]): void {
    this.settle(this.open(0), { pieces, bytes: total(pieces), last: true });
  }

  /** Drops what is owed, sends the last bytes and closes soon. */
  finishNow(...pieces: readonly Uint8Array[]): void {
    if (this.closed !== undefined) return;
    this.close(new Error("the link is being closed"));
    if (pieces.length > 0) this.link.write(pieces, () => undefined);
    this.link.endSoon();
  }

  /** The link is gone: nothing is written any more. */
  close(error: Error): void {
    if (this.closed !== undefined) return;
    this.closed = error;
    for (const answer of this.queue.drop()) answer.sent?.(error);
  }

  private write(due: readonly Outgoing[]): void {
    const pieces = due.length === 1 ? due[0]!.pieces : due.flatMap((answer) => answer.pieces);
    let bytes = 0;
    for (const answer of due) bytes += answer.bytes;
    if (this.queue.unsentBytes === 0) this.progressMs = Date.now();
    this.queue.handed(bytes);
    this.link.write(pieces, (error) => {
      this.queue.sent(bytes);
      this.progressMs = Date.now();
      for (const answer of due) {
        // After an error the socket's fate is unknown; the memory is left to the collector.
        if (error === undefined && answer.slab !== undefined) this.slabs.give(answer.slab);
        answer.sent?.(error);
      }
      if (error === undefined) this.onSent();
    });
    if (due[due.length - 1]!.last === true) {
      this.link.end();
      this.close(new Error("the link is being closed"));
    }
  }
}

function total(pieces: readonly Uint8Array[]): number {
  let bytes = 0;
  for (const piece of pieces) bytes += piece.length;
  return bytes;
}
