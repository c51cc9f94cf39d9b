// A timeline that answers from memory, for tests of what stands in front of one. Its pages say what
// was asked: relation, block and LSN are in their first bytes. `when` decides when a batch is
// answered, so that answers can be late, out of order, or never.

import type { BackupSource } from "../../src/core/backup-source.ts";
import type { ReadError } from "../../src/core/errors.ts";
import { Lsn } from "../../src/core/lsn.ts";
import { PAGE_BYTES, type RelTag } from "../../src/core/page.ts";
import type { PageAnswer, PageRequest } from "../../src/core/page-batch.ts";
import { type Result, err, ok } from "../../src/core/result.ts";
import { type ActorRef, type Scope, spawn } from "../../src/actors/runtime.ts";
import type { TimelineMsg } from "../../src/actors/timeline-messages.ts";

export interface MemoryTimelineOptions {
  /** Called with every batch's size; calls `answer` once or never. */
  readonly when?: (requests: number, answer: () => void) => void;
  /** An error in place of the answer. */
  readonly refuse?: (request: PageRequest) => ReadError | undefined;
  readonly backupSource?: (lsn: Lsn | undefined) => Result<BackupSource, ReadError>;
  readonly lease?: (lsn: Lsn) => number | undefined;
}

const PAGE: PageAnswer = { kind: "page" };

/** The page that a memory timeline has for this request. */
export function memoryPage(rel: RelTag, block: number, lsn: Lsn): Uint8Array {
  const page = new Uint8Array(PAGE_BYTES).fill(block & 0xff);
  fillPage(page, 0, rel, block, lsn);
  return page;
}

function fillPage(to: Uint8Array, at: number, rel: RelTag, block: number, lsn: Lsn): void {
  const view = new DataView(to.buffer, to.byteOffset + at);
  view.setUint32(0, Lsn.high(lsn));
  view.setUint32(4, Lsn.low(lsn));
  view.setUint32(8, rel.spc);
  view.setUint32(12, rel.db);
  view.setUint32(16, rel.rel);
  view.setUint32(20, rel.fork);
  view.setUint32(24, block);
}

export function memorySlru(slru: number, segment: number): Uint8Array {
  return new Uint8Array(PAGE_BYTES * (1 + (segment % 32))).fill(slru + 1);
}

function answerOne(
  request: PageRequest,
  slab: Uint8Array,
  at: number,
  options: MemoryTimelineOptions,
): PageAnswer {
  const error = options.refuse?.(request);
  if (error !== undefined) return { kind: "error", error };
  switch (request.kind) {
    case "get-page":
      slab.fill(request.block & 0xff, at, at + PAGE_BYTES);
      fillPage(slab, at, request.rel, request.block, request.lsn);
      return PAGE;
    case "exists":
      return { kind: "exists", exists: request.rel.rel % 2 === 0 };
    case "nblocks":
      return { kind: "nblocks", blocks: request.rel.rel };
    case "db-size":
      return { kind: "db-size", bytes: request.db * PAGE_BYTES * 1_000_003 };
    case "slru":
      return { kind: "slru", pages: memorySlru(request.slru, request.segment) };
  }
}

export function spawnMemoryTimeline(
  parent: Scope,
  name: string,
  options: MemoryTimelineOptions = {},
): ActorRef<TimelineMsg> {
  return spawn<null, TimelineMsg>(parent, {
    name,
    restart: { crashesMax: 0, windowMs: 1, backOffMs: 0, backOffMsMax: 0 },
    init: () => null,
    handle: (state, msg) => {
      if (msg.kind === "read") {
        const { requests, slab, pageOffsets } = msg.batch;
        const answer = (): void =>
          msg.reply.answer(requests.map((r, i) => answerOne(r, slab, pageOffsets[i]!, options)));
        if (options.when === undefined) answer();
        else options.when(requests.length, answer);
      } else if (msg.kind === "backup-source") {
        const none = err({ kind: "timeline-broken", reason: "no backups here" } as const);
        msg.reply.answer(options.backupSource?.(msg.lsn) ?? none);
      } else if (msg.kind === "lease") {
        const until = options.lease?.(msg.lsn);
        const refused = err({ kind: "precondition", message: "not kept" } as const);
        msg.reply.answer(until === undefined ? refused : ok(until));
      }
      return state;
    },
  });
}
