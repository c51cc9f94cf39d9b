// Pagestream, versions 2 and 3: requests of a compute decoded into a PageBatch, answers laid out in
// one slab as whole CopyData messages. Formats: docs/wire-protocol.md, "Pagestream".
//
//   request   tag:1 | [v3 reqid:8] | request_lsn:8 | not_modified_since:8 | body
//   answer    'd' | length:4 | tag:1 | [v3: the request without its tag] | payload
//
// An answer of version 3 begins with the request's own bytes, so they are copied, not encoded. The
// place of every page is known before it is read: the timeline writes it where it is sent from.

import { MalformedInput, assert, unreachable } from "../core/assert.ts";
import { type ReadError, readErrorText } from "../core/errors.ts";
import { BATCH_SLAB_BYTES_MAX } from "../core/limits.ts";
import { LSN_INVALID, Lsn } from "../core/lsn.ts";
import { PAGE_BYTES, type RelTag, FORK_INIT, SLRU_OFFSETS } from "../core/page.ts";
import type { PageAnswer, PageBatch, PageRequest } from "../core/page-batch.ts";
import type { SlabPool } from "../core/slab-pool.ts";
import { COPY_DATA } from "./pg-messages.ts";

export type PagestreamVersion = 2 | 3;

const TAG_EXISTS = 0;
const TAG_NBLOCKS = 1;
const TAG_GET_PAGE = 2;
const TAG_DB_SIZE = 3;
const TAG_SLRU = 4;
/** Tags of answers, by the request's tag. 103, which would be a database's size, is Error. */
const ANSWER_TAGS = [100, 101, 102, 104, 105];
const TAG_ERROR = 103;

const REL_BYTES = 13;
/** Bytes of a request's body after its LSNs, by tag. */
const BODY_BYTES = [REL_BYTES, REL_BYTES, REL_BYTES + 4, 4, 5];
/** Bytes of an answer's payload, by the request's tag; an SLRU's is known with the answer. */
const PAYLOAD_BYTES = [1, 4, PAGE_BYTES, 8, 0];
/** CopyData's type and length, and the answer's tag. */
const FRAME_BYTES = 6;
/** reqid and the two LSNs, that answers of version 3 repeat. */
const ECHO_BYTES = 24;
const ANSWER_BYTES_MAX = FRAME_BYTES + ECHO_BYTES + REL_BYTES + 4 + PAGE_BYTES;

/** A batch that a timeline is answering. */
export interface OpenBatch {
  readonly batch: PageBatch;
  readonly version: PagestreamVersion;
  /** The requests as received, for what version 3 repeats. */
  readonly bodies: readonly Uint8Array[];
  /** Where the answer of request i begins in the slab; one more entry for the end. */
  readonly frameStarts: Int32Array;
}

/** Answers as they go to the socket. */
export interface EncodedAnswers {
  readonly pieces: readonly Uint8Array[];
  readonly bytes: number;
}

/** Gathers the requests of one socket read. */
export class BatchBuilder {
  private readonly version: PagestreamVersion;
  private readonly slabs: SlabPool;
  private requests: PageRequest[] = [];
  private bodies: Uint8Array[] = [];
  private slabBytes = 0;
  private buffer: ArrayBufferLike | undefined;
  private view: DataView = new DataView(new ArrayBuffer(0));
  private lastRel: RelTag = { spc: 0, db: 0, rel: 0, fork: 0 };

  constructor(version: PagestreamVersion, slabs: SlabPool) {
    this.version = version;
    this.slabs = slabs;
  }

  get count(): number {
    return this.requests.length;
  }

  /** True when the next request belongs into another batch. */
  get full(): boolean {
    return this.slabBytes + ANSWER_BYTES_MAX > BATCH_SLAB_BYTES_MAX;
  }

  /**
   * Adds one request; `body` is kept until the answer. Gives the reason if it is refused, which is
   * then to be answered in its place. Throws MalformedInput for what cannot be decoded.
   */
  add(body: Uint8Array): ReadError | undefined {
    const tag = body[0];
    const bodySize = tag === undefined ? undefined : BODY_BYTES[tag];
    if (bodySize === undefined) throw new MalformedInput(`unknown pagestream request: ${tag}`);
    const lsnAt = this.version === 3 ? 9 : 1;
    if (body.length < lsnAt + 16 + bodySize) {
      throw new MalformedInput(
        `pagestream request ${tag}: need ${lsnAt + 16 + bodySize} bytes, have ${body.length}`,
      );
    }
    // All requests of one chunk are views of one buffer.
    if (body.buffer !== this.buffer) {
      this.buffer = body.buffer;
      this.view = new DataView(body.buffer);
    }
    const view = this.view;
    const at = body.byteOffset + lsnAt;
    const lsn = Lsn.fromParts(view.getUint32(at), view.getUint32(at + 4));
    const since = Lsn.fromParts(view.getUint32(at + 8), view.getUint32(at + 12));
    const request = this.decode(tag!, lsn, since, at + 16);
    const refusal = refusalOf(request);
    if (refusal !== undefined) return refusal;
    this.requests.push(request);
    this.bodies.push(body);
    this.slabBytes += frameBytes(this.version, tag!);
    return undefined;
  }

  private decode(tag: number, lsn: Lsn, notModifiedSince: Lsn, at: number): PageRequest {
    const view = this.view;
    switch (tag) {
      case TAG_GET_PAGE: {
        const block = view.getUint32(at + REL_BYTES);
        return { kind: "get-page", rel: this.rel(at), block, lsn, notModifiedSince };
      }
      case TAG_EXISTS:
        return { kind: "exists", rel: this.rel(at), lsn, notModifiedSince };
      case TAG_NBLOCKS:
        return { kind: "nblocks", rel: this.rel(at), lsn, notModifiedSince };
      case TAG_DB_SIZE:
        return { kind: "db-size", db: view.getUint32(at), lsn, notModifiedSince };
      default: {
        const segment = view.getUint32(at + 1);
        return { kind: "slru", slru: view.getUint8(at), segment, lsn, notModifiedSince };
      }
    }
  }

  /** Requests that follow one another are mostly of one relation: they share its tag. */
  private rel(at: number): RelTag {
    const view = this.view;
    const last = this.lastRel;
    const spc = view.getUint32(at);
    const db = view.getUint32(at + 4);
    const rel = view.getUint32(at + 8);
    const fork = view.getUint8(at + 12);
    if (last.rel === rel && last.fork === fork && last.db === db && last.spc === spc) return last;
    return (this.lastRel = { spc, db, rel, fork });
  }

  /** Takes out what was gathered; undefined if there is nothing. */
  take(): OpenBatch | undefined {
    const { requests, bodies, version, slabs } = this;
    if (requests.length === 0) return undefined;
    const pageOffsets = new Int32Array(requests.length);
    const frameStarts = new Int32Array(requests.length + 1);
    let at = 0;
    for (let i = 0; i < requests.length; i++) {
      const tag = bodies[i]![0]!;
      const size = frameBytes(version, tag);
      frameStarts[i] = at;
      pageOffsets[i] = tag === TAG_GET_PAGE ? at + size - PAGE_BYTES : -1;
      at += size;
    }
    frameStarts[requests.length] = at;
    this.requests = [];
    this.bodies = [];
    this.slabBytes = 0;
    this.buffer = undefined;
    const layOutSlab = (): Uint8Array => layOut(slabs.take(at), version, bodies, frameStarts);
    const batch = new LazyBatch(requests, pageOffsets, layOutSlab);
    return { batch, version, bodies, frameStarts };
  }
}

/**
 * Its memory is taken when it is answered, not while it queues: batches that are answered one after the
 * other then have the same memory, which the processor's cache still holds. A class, because V8 keeps the
 * getter of an object literal, and all that it reaches, until a full collection; and such an object has a
 * shape of its own, which made whatever reads of it slow: a quarter of a cached page's time.
 */
class LazyBatch implements PageBatch {
  readonly requests: readonly PageRequest[];
  readonly pageOffsets: Int32Array;
  private readonly makeSlab: () => Uint8Array;
  private made: Uint8Array | undefined;

  constructor(
    requests: readonly PageRequest[],
    pageOffsets: Int32Array,
    makeSlab: () => Uint8Array,
  ) {
    this.requests = requests;
    this.pageOffsets = pageOffsets;
    this.makeSlab = makeSlab;
  }

  get slab(): Uint8Array {
    return (this.made ??= this.makeSlab());
  }
}

/** Writes all of the answers that is known before they are: what frames them, and the echo of version 3. */
function layOut(
  slab: Uint8Array,
  version: PagestreamVersion,
  bodies: readonly Uint8Array[],
  frameStarts: Int32Array,
): Uint8Array {
  const view = new DataView(slab.buffer, slab.byteOffset, slab.byteLength);
  for (let i = 0; i < bodies.length; i++) {
    const at = frameStarts[i]!;
    const size = frameStarts[i + 1]! - at;
    if (size === 0) continue;
    const body = bodies[i]!;
    const tag = body[0]!;
    slab[at] = COPY_DATA;
    view.setUint32(at + 1, size - 1);
    slab[at + 5] = ANSWER_TAGS[tag]!;
    if (version === 3) copy(body, 1, ECHO_BYTES + BODY_BYTES[tag]!, slab, at + FRAME_BYTES);
  }
  return slab;
}

/** A plain loop: for some tens of bytes it beats `set` with a view made for it. */
function copy(from: Uint8Array, at: number, size: number, to: Uint8Array, toAt: number): void {
  for (let i = 0; i < size; i++) to[toAt + i] = from[at + i]!;
}

/** Bytes of a whole answer in the slab; 0 where only the answer knows. */
function frameBytes(version: PagestreamVersion, tag: number): number {
  if (tag === TAG_SLRU) return 0;
  return FRAME_BYTES + (version === 3 ? ECHO_BYTES + BODY_BYTES[tag]! : 0) + PAYLOAD_BYTES[tag]!;
}

/** What no timeline has to be asked for (rule 1 of "LSN semantics", and numbers out of range). */
function refusalOf(request: PageRequest): ReadError | undefined {
  const { lsn, notModifiedSince } = request;
  if (lsn < notModifiedSince) {
    const message =
      `invalid request with request LSN ${Lsn.format(lsn)} ` +
      `and not_modified_since ${Lsn.format(notModifiedSince)}`;
    return { kind: "bad-request", message };
  }
  if (lsn === LSN_INVALID) return { kind: "bad-request", message: "invalid LSN(0) in request" };
  if (request.kind === "slru") {
    if (request.slru <= SLRU_OFFSETS) return undefined;
    return { kind: "bad-request", message: `invalid SLRU kind ${request.slru}` };
  }
  if (request.kind !== "db-size" && request.rel.fork > FORK_INIT) {
    return { kind: "bad-request", message: `invalid fork number ${request.rel.fork}` };
  }
  return undefined;
}

/**
 * Puts the answers into the slab and gives what is to be sent: mostly the slab in one piece, cut
 * where an error or an SLRU segment stands between pages. The pieces are views of the slab.
 */
export function encodeAnswers(open: OpenBatch, answers: readonly PageAnswer[]): EncodedAnswers {
  const { batch, version, bodies, frameStarts } = open;
  const { requests, slab } = batch;
  assert(answers.length === requests.length, "a batch is answered request by request");
  const pieces: Uint8Array[] = [];
  let bytes = 0;
  let from = 0;
  const cut = (to: number, next: number, ...between: readonly Uint8Array[]): void => {
    if (to > from) pieces.push(slab.subarray(from, to));
    pieces.push(...between);
    bytes += to - from;
    for (const piece of between) bytes += piece.length;
    from = next;
  };
  for (let i = 0; i < answers.length; i++) {
    const answer = answers[i]!;
    const end = frameStarts[i + 1]!;
    if (answer.kind === "error") {
      cut(frameStarts[i]!, end, errorAnswer(version, bodies[i]!, readErrorText(answer.error)));
      continue;
    }
    const asked = requests[i]!.kind;
    assert(
      answer.kind === asked || (answer.kind === "page" && asked === "get-page"),
      `a request for ${asked} is not answered with ${answer.kind}`,
    );
    if (answer.kind === "page") continue;
    if (answer.kind === "slru") {
      cut(end, end, slruHeader(version, bodies[i]!, answer.pages.length), answer.pages);
    } else {
      setPayload(slab, end, answer);
    }
  }
  cut(frameStarts[answers.length]!, 0);
  return { pieces, bytes };
}

function setPayload(
  slab: Uint8Array,
  end: number,
  answer: Extract<PageAnswer, { kind: "exists" | "nblocks" | "db-size" }>,
): void {
  const view = new DataView(slab.buffer, slab.byteOffset, slab.byteLength);
  switch (answer.kind) {
    case "exists":
      slab[end - 1] = answer.exists ? 1 : 0;
      return;
    case "nblocks":
      view.setUint32(end - 4, answer.blocks);
      return;
    case "db-size":
      view.setUint32(end - 8, Math.floor(answer.bytes / 0x1_0000_0000));
      view.setUint32(end - 4, answer.bytes % 0x1_0000_0000);
      return;
    default:
      unreachable(answer);
  }
}

/** Error (tag 103) as whole CopyData message: the stream goes on. */
export function errorAnswer(
  version: PagestreamVersion,
  body: Uint8Array,
  text: string,
): Uint8Array {
  const message = new TextEncoder().encode(text.replaceAll("\0", "\uFFFD"));
  const echoed = version === 3 ? ECHO_BYTES : 0;
  const frame = answerHead(TAG_ERROR, body, echoed, message.length + 1);
  frame.set(message, FRAME_BYTES + echoed);
  return frame;
}

/** All of an SLRU segment's answer but its pages. */
function slruHeader(version: PagestreamVersion, body: Uint8Array, pagesBytes: number): Uint8Array {
  assert(pagesBytes % PAGE_BYTES === 0, "an SLRU segment is whole pages");
  const echoed = version === 3 ? ECHO_BYTES + BODY_BYTES[TAG_SLRU]! : 0;
  const head = answerHead(ANSWER_TAGS[TAG_SLRU]!, body, echoed, 4, pagesBytes);
  new DataView(head.buffer).setUint32(FRAME_BYTES + echoed, pagesBytes / PAGE_BYTES);
  return head;
}

/** The first bytes of an answer of its own: frame, tag, echo, and room; `later` bytes are sent after it. */
function answerHead(
  tag: number,
  body: Uint8Array,
  echoed: number,
  room: number,
  later = 0,
): Uint8Array {
  const head = new Uint8Array(FRAME_BYTES + echoed + room);
  head[0] = COPY_DATA;
  new DataView(head.buffer).setUint32(1, head.length - 1 + later);
  head[5] = tag;
  copy(body, 1, echoed, head, FRAME_BYTES);
  return head;
}
