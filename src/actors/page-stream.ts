// The pagestream of one compute link: the requests of a socket read become one message to the
// timeline, its answer one write. Ends are the connection's business; this says which end.

import type { TenantId, TimelineId } from "../core/ids.ts";
import type { PageAnswer } from "../core/page-batch.ts";
import { readErrorText } from "../core/errors.ts";
import type { FairShare } from "../core/fair-share.ts";
import type { SlabPool } from "../core/slab-pool.ts";
import { countReads, meters } from "../io/meters.ts";
import { openSpan } from "../io/traces.ts";
import type { ComputeOptions } from "../protocol/compute-options.ts";
import {
  BatchBuilder,
  type EncodedAnswers,
  type OpenBatch,
  type PagestreamVersion,
  encodeAnswers,
  errorAnswer,
} from "../protocol/pagestream.ts";
import type { AnswerSlot, Outbox } from "./outbox.ts";
import type { ActorRef } from "./runtime.ts";
import type { TimelineMsg } from "./timeline-messages.ts";

/** Why a timeline cannot be used. */
export interface LookupError {
  /** not-active: it is loading or broken just now; the client should reconnect. */
  readonly kind: "not-found" | "not-active" | "shutting-down";
  readonly message: string;
}

export type TimelineLookup = ActorRef<TimelineMsg> | { readonly error: LookupError };

/** The directory of timelines: a lookup in memory. */
export type ResolveTimeline = (tenant: TenantId, timeline: TimelineId) => TimelineLookup;

export interface PageStreamHost {
  readonly outbox: Outbox;
  readonly slabs: SlabPool;
  /** Whose turn it is, between tenants. */
  readonly fair: FairShare;
  readonly tenant: TenantId;
  readonly timeline: TimelineId;
  /** What the compute at the other end said of itself. */
  readonly compute: ComputeOptions;
  readonly resolve: () => TimelineLookup;
  /** Runs work that a callback brings, unless the link is closed. */
  readonly guarded: (work: () => void) => void;
  /** The timeline cannot go on with this link. */
  readonly onUnusable: (kind: "not-active" | "shutting-down") => void;
  /** Answers left: there is room for more requests. */
  readonly onRoom: () => void;
}

export class PageStream {
  private readonly host: PageStreamHost;
  private readonly version: PagestreamVersion;
  private readonly builder: BatchBuilder;
  private timeline: ActorRef<TimelineMsg> | undefined;
  /** Ends of what is owed: the link may go before its answers come. */
  private readonly owed: (() => void)[] = [];
  private hungry = false;
  /** The batch that is gathered may grow to so many requests, as far as was looked: 0 after each. */
  private roomFor = 0;

  constructor(version: PagestreamVersion, host: PageStreamHost) {
    this.version = version;
    this.host = host;
    this.builder = new BatchBuilder(version, host.slabs);
  }

  /** Whether one more request may be taken. Asked before each: all of a socket read are gathered in one turn, so nothing changes between them. */
  get hasRoom(): boolean {
    const { outbox, fair, tenant } = this.host;
    const { count } = this.builder;
    if (count < this.roomFor) return true;
    if (count >= outbox.room(fair.linkBounds)) return false;
    const room = fair.room(tenant);
    if (count < room) {
      if (count > 0) this.roomFor = Math.min(room, outbox.room(fair.linkBounds));
      return true;
    }
    if (!this.hungry) {
      this.hungry = true;
      fair.whenRoom(tenant, () => {
        this.hungry = false;
        this.host.guarded(() => this.host.onRoom());
      });
    }
    return false;
  }

  /** The link is gone, and what it asked for is nobody's any more. */
  close(): void {
    for (const end of this.owed.splice(0)) end();
  }

  /** Takes one request. Throws MalformedInput if it cannot be decoded. */
  request(body: Uint8Array): void {
    if (this.builder.full || this.builder.count >= this.host.fair.batchMax) this.flush();
    const refusal = this.builder.add(body);
    if (refusal === undefined) return;
    // Its answer is known already, and stands behind those of the requests before it.
    this.flush();
    const frame = errorAnswer(this.version, body, readErrorText(refusal));
    this.host.outbox.send(frame);
  }

  /** Sends what was gathered to the timeline. */
  flush(): void {
    const open = this.builder.take();
    this.roomFor = 0;
    if (open === undefined) return;
    const { host } = this;
    const slot = host.outbox.open(open.batch.requests.length);
    const askedMs = performance.now();
    const timeline = this.find();
    if ("error" in timeline) {
      if (timeline.error.kind === "not-found") this.refuse(slot, open, timeline.error.message);
      else host.onUnusable(timeline.error.kind);
      return;
    }
    const { batch } = open;
    const span = openSpan("page batch", () => {
      return { tenant: host.tenant, timeline: host.timeline, requests: batch.requests.length };
    });
    const begin = (): void =>
      timeline.tell({
        kind: "read",
        batch,
        ...host.compute,
        reply: {
          answer: (answers) => {
            end();
            host.guarded(() => this.onAnswers(slot, open, answers, askedMs));
          },
        },
      });
    const finish = host.fair.add(host.tenant, batch.requests.length, begin);
    const end = (): void => {
      const at = this.owed.indexOf(end);
      if (at >= 0) this.owed.splice(at, 1);
      span?.end();
      finish();
    };
    this.owed.push(end);
  }

  /** The directory is asked again when the timeline has stopped, or was not there. */
  private find(): TimelineLookup {
    if (this.timeline !== undefined && !this.timeline.stopped()) return this.timeline;
    const found = this.host.resolve();
    this.timeline = "error" in found ? undefined : found;
    return found;
  }

  private onAnswers(
    slot: AnswerSlot,
    open: OpenBatch,
    answers: readonly PageAnswer[],
    askedMs: number,
  ): void {
    // A second answer must not touch a slab that is being sent.
    if (slot.answer !== undefined) return;
    if (answers.some((a) => a.kind === "error" && a.error.kind === "shutting-down")) {
      this.host.onUnusable("shutting-down");
      return;
    }
    const ns = (performance.now() - askedMs) * 1e6;
    meters.readNs.record(ns);
    meters.readBatch.record(answers.length);
    countReads(this.host.timeline, answers.length, ns);
    for (const answer of answers) if (answer.kind === "error") meters.readErrors++;
    this.settle(slot, open, encodeAnswers(open, answers));
    this.host.onRoom();
  }

  private refuse(slot: AnswerSlot, open: OpenBatch, why: string): void {
    const pieces = open.bodies.map((body) => errorAnswer(this.version, body, `Not found: ${why}`));
    const bytes = pieces.reduce((sum, piece) => sum + piece.length, 0);
    this.settle(slot, open, { pieces, bytes });
  }

  private settle(slot: AnswerSlot, open: OpenBatch, encoded: EncodedAnswers): void {
    this.host.outbox.settle(slot, { ...encoded, slab: open.batch.slab });
  }
}
