// A page as of an LSN, twice: made of restored layers, with WAL redo where it takes that, and as the timeline
// serves it to a compute. Both go the whole way of a read; they share the redo processes and nothing else.

import { readErrorText } from "../core/errors.ts";
import { DRILL_ANSWER_MS_MAX, DRILL_CACHE_BYTES } from "../core/limits.ts";
import { Lsn } from "../core/lsn.ts";
import type { PageAnswer } from "../core/page-batch.ts";
import { PAGE_BYTES, type RelTag, formatRel } from "../core/page.ts";
import type { RedoRequest, RedoResult } from "../core/redo-request.ts";
import { PageCache } from "../store/page-cache.ts";
import { PageReader, isRedo } from "../store/read-page.ts";
import type { RestoredLayers } from "./drill-layers.ts";
import type { RedoPoolMsg } from "./redo-pool.ts";
import { type ActorRef, ask } from "./runtime.ts";
import type { TimelineMsg } from "./timeline-messages.ts";

/** A page as of an LSN; `name`: of the object where it was found. */
export interface DrillPage {
  readonly rel: RelTag;
  readonly block: number;
  readonly at: Lsn;
  readonly name: string;
}

export interface Sides {
  readonly restored: RestoredLayers;
  readonly timeline: ActorRef<TimelineMsg>;
  readonly redo: ActorRef<RedoPoolMsg>;
}

/** absent: there is no such page then. left-out: it cannot be compared, which is nobody's fault. */
type Side =
  | { readonly kind: "page" | "absent" | "left-out" }
  | { readonly kind: "unreadable"; readonly detail: string };

export type Compared = "same" | "left-out" | { readonly detail: string };

export class DrillPages {
  private readonly sides: Sides;
  private readonly reader: PageReader;
  private readonly mine = new Uint8Array(PAGE_BYTES);
  private readonly theirs = new Uint8Array(PAGE_BYTES);

  constructor(sides: Sides) {
    this.sides = sides;
    this.reader = new PageReader(sides.restored.view, new PageCache(DRILL_CACHE_BYTES));
  }

  /** Rejects when either side cannot be asked now. */
  async compare(page: DrillPage): Promise<Compared> {
    const mine = await this.restore(page);
    if (mine.kind === "left-out") return "left-out";
    const theirs = await this.served(page);
    if (theirs.kind === "left-out") return "left-out";
    const what = `page ${formatRel(page.rel)} block ${page.block} at ${Lsn.format(page.at)}`;
    if (mine.kind === "unreadable")
      return { detail: `${what} cannot be made of it: ${mine.detail}` };
    if (mine.kind !== theirs.kind) {
      const side =
        mine.kind === "page" ? "in the backup and is not served" : "served and not in the backup";
      return { detail: `${what} is ${side}` };
    }
    if (mine.kind === "absent") return "same";
    const at = this.mine.findIndex((byte, i) => byte !== this.theirs[i]);
    if (at < 0) return "same";
    return { detail: `${what} differs from the one that is served, from byte ${at} on` };
  }

  private async restore({ rel, block, at }: DrillPage): Promise<Side> {
    const { restored, redo } = this.sides;
    const fetched = new Set<string>();
    for (;;) {
      const read = this.reader.readPage(rel, block, at, this.mine, 0);
      if (read === undefined) return { kind: "page" };
      if (isRedo(read)) {
        const made = await redone(redo, read);
        return made.ok ? { kind: "page" } : { kind: "unreadable", detail: made.reason };
      }
      if (read.kind === "relation-missing") return { kind: "absent" };
      if (read.kind !== "layer-absent") return { kind: "unreadable", detail: readErrorText(read) };
      if (fetched.has(read.path)) throw new Error(`${read.path} has gone from the scratch folder`);
      if ((await restored.fetch(read.path)) !== "here") return { kind: "left-out" };
      fetched.add(read.path);
    }
  }

  private async served({ rel, block, at }: DrillPage): Promise<Side> {
    const requests = [{ kind: "get-page", rel, block, lsn: at, notModifiedSince: at }] as const;
    const batch = { requests, slab: this.theirs, pageOffsets: Int32Array.of(0) };
    const answers = await ask<TimelineMsg, readonly PageAnswer[]>(
      this.sides.timeline,
      (reply) => ({ kind: "read", batch, reply }),
      DRILL_ANSWER_MS_MAX,
    );
    const [answer] = answers === "timed-out" ? [] : answers;
    if (answer?.kind === "page") return { kind: "page" };
    const error = answer?.kind === "error" ? answer.error : undefined;
    if (error?.kind === "relation-missing") return { kind: "absent" };
    // Retention has moved on meanwhile.
    const isGone = error?.kind === "lsn-collected" || error?.kind === "not-readable-yet";
    if (isGone) return { kind: "left-out" };
    const why = error === undefined ? "no answer in time" : readErrorText(error);
    throw new Error(`the page to compare with cannot be read: ${why}`);
  }
}

const redone = (redo: ActorRef<RedoPoolMsg>, request: RedoRequest): Promise<RedoResult> =>
  new Promise((resolve) =>
    redo.tell({
      ...{ kind: "redo", requests: [request] },
      reply: { answer: ([result]) => resolve(result!) },
    }),
  );
