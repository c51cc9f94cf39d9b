// One compute link, decided: what a message means in the link's phase, and in which order answers
// leave. Answers are strictly in the order of requests, however late one of them is known; what is
// known early waits. What is owed is bounded, and at the bound nothing more is taken. No socket.

import {
  REQUESTS_IN_FLIGHT_MAX,
  SHARED_LINK_REQUESTS_MAX,
  SHARED_LINK_UNSENT_BYTES_MAX,
  UNSENT_BYTES_MAX,
} from "./limits.ts";

/**
 * commands: between commands. skipping: an extended-protocol step failed, all is ignored up to Sync.
 * pagestream: COPY both ways. busy: a command runs, messages wait. closing: nothing more is read.
 */
export type Phase = "commands" | "skipping" | "pagestream" | "busy" | "closing";

/** Messages of a frontend, by meaning. */
export type FrontendKind =
  | "query"
  | "parse"
  | "bind"
  | "describe"
  | "execute"
  | "close"
  | "sync"
  | "flush"
  | "copy-data"
  | "copy-done"
  | "copy-fail"
  | "terminate"
  | "unknown";

export type Decision =
  /** Do what the message says. */
  | "do"
  | "ignore"
  /** A request of the pagestream. */
  | "page-request"
  /** The pagestream ends with an error; commands may follow. */
  | "end-pagestream"
  /** The client is done: close when all answers are out. */
  | "goodbye"
  /** Not allowed here at all: an error, and close. */
  | "violation";

/** What a message means. Not asked while busy: messages then wait for their turn. */
export function decide(phase: Exclude<Phase, "busy">, kind: FrontendKind): Decision {
  if (phase === "closing") return "ignore";
  if (kind === "terminate") return "goodbye";
  if (phase === "pagestream") return kind === "copy-data" ? "page-request" : "end-pagestream";
  switch (kind) {
    case "unknown":
    case "copy-data":
    case "copy-done":
    case "copy-fail":
      return "violation";
    case "flush":
      return "ignore";
    case "sync":
      return "do";
    default:
      return phase === "skipping" ? "ignore" : "do";
  }
}

/** A place in the queue of answers. */
export interface Slot<A> {
  readonly requests: number;
  readonly openedAtMs: number;
  answer: A | undefined;
}

/** What one link may have under way. */
export interface LinkBounds {
  /** Requests that are not answered. */
  readonly requests: number;
  /** Bytes of answers that lie unread. */
  readonly unsentBytes: number;
}

/** Of a link whose tenant asks alone. */
export const LINK_BOUNDS: LinkBounds = {
  requests: REQUESTS_IN_FLIGHT_MAX,
  unsentBytes: UNSENT_BYTES_MAX,
};

/** Of a link of one tenant among several: what a socket takes again in one turn is little. */
export const SHARED_LINK_BOUNDS: LinkBounds = {
  requests: SHARED_LINK_REQUESTS_MAX,
  unsentBytes: SHARED_LINK_UNSENT_BYTES_MAX,
};

/** Answers owed and answers under way. `A` is an answer, opaque here. */
export class AnswerQueue<A> {
  // Places that were answered are empty: what has been sent must not live on in here.
  private slots: (Slot<A> | undefined)[] = [];
  private head = 0;
  private requests = 0;
  private unsent = 0;

  /** Requests that are not answered yet. */
  get requestsInFlight(): number {
    return this.requests;
  }

  /** Bytes handed to the socket that it has not taken yet. */
  get unsentBytes(): number {
    return this.unsent;
  }

  /** How many requests may still be taken; 0 while answers pile up unread. */
  room({ requests, unsentBytes }: LinkBounds): number {
    return this.unsent >= unsentBytes ? 0 : Math.max(0, requests - this.requests);
  }

  /** Since when the oldest open request waits, ms; undefined if none does. */
  get oldestMs(): number | undefined {
    return this.slots[this.head]?.openedAtMs;
  }

  /** The next place in the order of answers, for `requests` requests. */
  open(requests: number, nowMs: number): Slot<A> {
    const slot: Slot<A> = { requests, openedAtMs: nowMs, answer: undefined };
    this.slots.push(slot);
    this.requests += requests;
    return slot;
  }

  /** Fills a place. Gives all answers whose turn has come, oldest first; a second answer is ignored. */
  settle(slot: Slot<A>, answer: A): readonly A[] {
    if (slot.answer !== undefined) return [];
    slot.answer = answer;
    const due: A[] = [];
    for (;;) {
      const first = this.slots[this.head];
      if (first === undefined || first.answer === undefined) break;
      due.push(first.answer);
      this.requests -= first.requests;
      this.slots[this.head++] = undefined;
    }
    if (this.head === this.slots.length) {
      this.slots = [];
      this.head = 0;
    } else if (this.head >= 1024) {
      this.slots = this.slots.slice(this.head);
      this.head = 0;
    }
    return due;
  }

  /** Gives the answers that wait behind an open place and forgets all: the link is gone. */
  drop(): readonly A[] {
    const answers: A[] = [];
    for (const slot of this.slots.slice(this.head)) {
      if (slot?.answer !== undefined) answers.push(slot.answer);
    }
    this.slots = [];
    this.head = 0;
    this.requests = 0;
    return answers;
  }

  /** `bytes` were handed to the socket. */
  handed(bytes: number): void {
    this.unsent += bytes;
  }

  /** The socket took `bytes`. */
  sent(bytes: number): void {
    this.unsent -= bytes;
  }
}
