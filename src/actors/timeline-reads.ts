// Answers a batch of page-service requests from a store. What needs WAL redo goes to the redo pool
// with the reader's reply attached: the timeline does not wait, the pool answers the reader.

import { MalformedInput, unreachable } from "../core/assert.ts";
import type { ReadError } from "../core/errors.ts";
import { FORK_FSM, FORK_VM, formatRel } from "../core/page.ts";
import type { Lsn } from "../core/lsn.ts";
import type { PageAnswer, PageBatch, PageRequest } from "../core/page-batch.ts";
import type { RedoRequest, RedoResult } from "../core/redo-request.ts";
import { meters } from "../io/meters.ts";
import { type PageReader, type ReadCost, isRedo } from "../store/read-page.ts";
import { MISSING } from "../store/relations.ts";
import { LayerAbsent, StoreCorrupt, StoreFull } from "../store/store-errors.ts";
import type { RedoPoolMsg } from "./redo-pool.ts";
import type { ActorRef, Reply } from "./runtime.ts";

const PAGE: PageAnswer = { kind: "page" };

/** What a batch is read from. */
export interface ReadFrom {
  readonly pages: PageReader;
  readonly redo: ActorRef<RedoPoolMsg>;
  /** Fetches layers that are not here; undefined: there is no backup to have them from. */
  readonly fetch?: ((paths: readonly string[]) => Promise<void>) | undefined;
}

/** Pages of a batch that wait for redo: request index and what to rebuild. */
interface Rebuild {
  readonly indexes: number[];
  readonly requests: RedoRequest[];
}

/**
 * Answers `batch`: request i at `plans[i]`, an LSN or the reason why it is refused. The reply is
 * given now or, when pages have to be rebuilt, by the redo pool. When files of layers are not here,
 * `absent` is called with their paths instead: the batch must be asked for again when they are.
 */
export function answerBatch(
  from: ReadFrom,
  batch: PageBatch,
  plans: readonly (Lsn | ReadError)[],
  reply: Reply<readonly PageAnswer[]>,
  absent?: (paths: readonly string[]) => void,
): void {
  const rebuild: Rebuild = { indexes: [], requests: [] };
  const answers: PageAnswer[] = [];
  for (let i = 0; i < batch.requests.length; i++) {
    const plan = plans[i]!;
    if (typeof plan === "number") answers.push(orCorrupt(from, batch, i, plan, rebuild));
    else answers.push(errorAnswer(plan));
  }
  const missing = absent === undefined ? [] : absentIn(answers);
  if (missing.length > 0) return absent?.(missing);
  if (rebuild.requests.length === 0) return reply.answer(answers);
  from.redo.tell({
    kind: "redo",
    requests: rebuild.requests,
    reply: {
      answer: (results) => {
        finish(from, batch, rebuild, results, answers);
        reply.answer(answers);
      },
    },
  });
}

function answerOne(
  from: ReadFrom,
  batch: PageBatch,
  request: PageRequest,
  index: number,
  at: Lsn,
  rebuild: Rebuild,
): PageAnswer {
  const { pages } = from;
  const { relations } = pages;
  switch (request.kind) {
    case "get-page": {
      const offset = batch.pageOffsets[index]!;
      const read = pages.readPage(request.rel, request.block, at, batch.slab, offset);
      countRead(pages.last);
      if (read === undefined) return PAGE;
      if (!isRedo(read)) return errorAnswer(read);
      rebuild.indexes.push(index);
      rebuild.requests.push(read);
      return PAGE;
    }
    case "exists":
      return { kind: "exists", exists: relations.exists(request.rel, at) };
    case "nblocks": {
      const blocks = relations.relSize(request.rel, at);
      if (blocks !== MISSING) return { kind: "nblocks", blocks };
      const { fork } = request.rel;
      if (fork === FORK_FSM || fork === FORK_VM) return { kind: "nblocks", blocks: 0 };
      return errorAnswer({ kind: "relation-missing", rel: request.rel, at });
    }
    case "db-size":
      return { kind: "db-size", bytes: relations.dbSize(request.db, at) };
    case "slru": {
      const read = pages.readSlruSegment(request.slru, request.segment, at);
      return read.ok ? { kind: "slru", pages: read.value } : errorAnswer(read.error);
    }
    default:
      return unreachable(request);
  }
}

function countRead({ looked, cached, layers, records }: ReadCost): void {
  if (!looked) return;
  meters.readLayers.record(layers);
  meters.readRecords.record(records);
  if (cached) meters.pageCacheHits++;
  else meters.pageCacheMisses++;
}

/** Paths of the files that answers lack, each once. */
function absentIn(answers: readonly PageAnswer[]): readonly string[] {
  const paths = new Set<string>();
  for (const answer of answers) {
    if (answer.kind === "error" && answer.error.kind === "layer-absent") {
      paths.add(answer.error.path);
    }
  }
  return [...paths];
}

/** Damage on disk ends the one answer that met it. */
function orCorrupt(
  from: ReadFrom,
  batch: PageBatch,
  index: number,
  at: Lsn,
  rebuild: Rebuild,
): PageAnswer {
  try {
    return answerOne(from, batch, batch.requests[index]!, index, at, rebuild);
  } catch (cause) {
    if (cause instanceof LayerAbsent) {
      return errorAnswer({ kind: "layer-absent", path: cause.path, reason: cause.reason });
    }
    const { what, reason } = asCorrupt(cause);
    return errorAnswer({ kind: "corrupt", what, reason });
  }
}

function asCorrupt(cause: unknown): Pick<StoreCorrupt, "what" | "reason"> {
  if (cause instanceof StoreCorrupt) return cause;
  if (cause instanceof StoreFull) return { what: "a layer", reason: cause.message };
  if (cause instanceof MalformedInput) return { what: "a stored value", reason: cause.message };
  throw cause;
}

const errorAnswer = (error: ReadError): PageAnswer => ({ kind: "error", error });

function finish(
  from: ReadFrom,
  batch: PageBatch,
  rebuild: Rebuild,
  results: readonly RedoResult[],
  answers: PageAnswer[],
): void {
  rebuild.indexes.forEach((index, i) => {
    const result = results[i]!;
    const request = rebuild.requests[i]!;
    if (result.ok) {
      const asked = batch.requests[index]!;
      if (asked.kind === "get-page") remember(from, asked, request, result.page);
      return;
    }
    const { rel, block } = request.steps.at(-1)!;
    const page = `${formatRel(rel)} block ${block}`;
    const { reason } = result;
    answers[index] = errorAnswer({ kind: "redo-failed", page, at: request.at, reason });
  });
}

/** We are in the redo pool's turn: damage that is met now is for the next reader to hear of. */
function remember(
  { pages }: ReadFrom,
  { rel, block }: Extract<PageRequest, { kind: "get-page" }>,
  request: RedoRequest,
  page: Uint8Array,
): void {
  try {
    pages.remember(rel, block, request, page);
  } catch (cause) {
    asCorrupt(cause);
  }
}
