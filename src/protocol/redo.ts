// The pipe to a WAL redo process: requests are encoded many at a time into one buffer, answers are
// told apart by counting 8192-byte pages. Layouts: pgext/include/wire.h, checked against this file
// by test/protocol/redo.test.ts. There is no error answer: a process that cannot rebuild a page
// ends, and its last line on stderr says why.

import { MalformedInput } from "../core/assert.ts";
import { REDO_RECORD_BYTES_MAX } from "../core/limits.ts";
import { Lsn } from "../core/lsn.ts";
import { PAGE_BYTES, type RelTag } from "../core/page.ts";
import type { RedoRecords, RedoRequest } from "../core/redo-request.ts";
import { ByteReader } from "./bytes.ts";

/** Version of the pipe protocol; a process that says another is refused. */
export const REDO_PROTOCOL = 1;
export const REDO_HELLO_BYTES = 20;
const HELLO_MAGIC = "REDO";

const HEADER_BYTES = 5;
const TAG_BYTES = 17;
const LSN_BYTES = 8;
const RECORD_HEADER_BYTES = 24;
const LOOP_BYTES_MAX = 128;

const BEGIN = 0x42; // B
const PUSH = 0x50; // P
const APPLY = 0x41; // A
const RETAG = 0x52; // R
const GET = 0x47; // G

/** What a redo process says of itself before anything else. */
export interface RedoHello {
  /** server_version_num, e.g. 150020. */
  readonly serverVersion: number;
  /** XLOG_PAGE_MAGIC: the WAL format that it understands. */
  readonly walMagic: number;
}

/** Reads the hello. Throws MalformedInput when it is not one, or of another protocol or page size. */
export function decodeRedoHello(bytes: Uint8Array): RedoHello {
  const reader = new ByteReader(bytes);
  const magic = reader.text("redo hello magic", 4);
  if (magic !== HELLO_MAGIC) throw new MalformedInput(`redo hello: starts with "${magic}"`);
  const protocol = reader.u32("redo hello protocol");
  if (protocol !== REDO_PROTOCOL) {
    throw new MalformedInput(
      `redo hello: the process speaks protocol ${protocol}, this program ${REDO_PROTOCOL}; rebuild pgext`,
    );
  }
  const serverVersion = reader.u32("redo hello server version");
  const walMagic = reader.u32("redo hello WAL magic");
  const pageBytes = reader.u32("redo hello page size");
  if (pageBytes !== PAGE_BYTES) {
    throw new MalformedInput(`redo hello: pages of ${pageBytes} bytes, expected ${PAGE_BYTES}`);
  }
  reader.end("redo hello");
  return { serverVersion, walMagic };
}

/** Bytes that one request takes on the pipe. */
export function redoRequestBytes(request: RedoRequest): number {
  // Push or begin and retags name a tag each, and so does the get.
  let bytes = (request.steps.length + 1) * (HEADER_BYTES + TAG_BYTES);
  if (request.base !== undefined) bytes += PAGE_BYTES;
  for (const step of request.steps) {
    const { count, byteLength } = step.records;
    bytes += count * (HEADER_BYTES + LSN_BYTES) + byteLength;
  }
  return bytes;
}

/**
 * Why a request cannot be sent, or undefined. To be asked before encoding: one wrong request must
 * not spoil the others of its batch.
 */
export function redoRequestProblem(request: RedoRequest): string | undefined {
  if (request.steps.length === 0) return "no step: nothing names the page";
  if (request.base !== undefined && request.base.length !== PAGE_BYTES) {
    return `base image has ${request.base.length} bytes`;
  }
  if (request.out.length !== PAGE_BYTES) return `room for ${request.out.length} bytes of page`;
  for (const step of request.steps) {
    const { records } = step;
    for (let i = 0; i < records.count; i++) {
      const length = records.end(i) - records.start(i);
      if (length < RECORD_HEADER_BYTES || length > REDO_RECORD_BYTES_MAX) {
        return `record that ends at ${Lsn.format(records.lsn(i))} has ${length} bytes`;
      }
    }
  }
  return undefined;
}

class Encoder {
  readonly bytes: Uint8Array;
  private readonly view: DataView;
  private at = 0;

  /** Every byte of `memory` will be written: it need not be cleared. */
  constructor(memory: Uint8Array) {
    this.bytes = memory;
    this.view = new DataView(memory.buffer, memory.byteOffset, memory.length);
  }

  private header(type: number, bodyBytes: number): void {
    this.view.setUint8(this.at, type);
    this.view.setUint32(this.at + 1, bodyBytes + 4);
    this.at += HEADER_BYTES;
  }

  private raw(bytes: Uint8Array): void {
    this.bytes.set(bytes, this.at);
    this.at += bytes.length;
  }

  tag(type: number, rel: RelTag, block: number, page?: Uint8Array): void {
    this.header(type, TAG_BYTES + (page?.length ?? 0));
    this.view.setUint8(this.at, rel.fork);
    this.view.setUint32(this.at + 1, rel.spc);
    this.view.setUint32(this.at + 5, rel.db);
    this.view.setUint32(this.at + 9, rel.rel);
    this.view.setUint32(this.at + 13, block);
    this.at += TAG_BYTES;
    if (page !== undefined) this.raw(page);
  }

  apply(records: RedoRecords, i: number): void {
    const lsn = records.lsn(i);
    const start = records.start(i);
    const end = records.end(i);
    this.header(APPLY, LSN_BYTES + end - start);
    this.view.setUint32(this.at, Lsn.high(lsn));
    this.view.setUint32(this.at + 4, Lsn.low(lsn));
    this.at += LSN_BYTES;
    // A view costs more than copying so many bytes one by one.
    if (end - start > LOOP_BYTES_MAX) this.raw(records.memory.subarray(start, end));
    else for (let at = start; at < end; at++) this.bytes[this.at++] = records.memory[at]!;
  }

  request(request: RedoRequest): void {
    let last: { readonly rel: RelTag; readonly block: number } | undefined;
    for (const { rel, block, records } of request.steps) {
      if (last !== undefined) this.tag(RETAG, rel, block);
      else if (request.base === undefined) this.tag(BEGIN, rel, block);
      else this.tag(PUSH, rel, block, request.base);
      for (let i = 0; i < records.count; i++) this.apply(records, i);
      last = { rel, block };
    }
    if (last !== undefined) this.tag(GET, last.rel, last.block);
  }
}

/**
 * The messages of all requests, in one buffer: the first bytes of what `memory` gives when it is
 * asked for so many. Each request must have no redoRequestProblem.
 */
export function encodeRedoRequests(
  requests: readonly RedoRequest[],
  memory: (bytes: number) => Uint8Array = (bytes) => new Uint8Array(bytes),
): Uint8Array {
  let size = 0;
  for (const request of requests) size += redoRequestBytes(request);
  const encoder = new Encoder(memory(size).subarray(0, size));
  for (const request of requests) encoder.request(request);
  return encoder.bytes;
}

interface Expected {
  readonly slab: Uint8Array;
  filled: number;
}

/**
 * Puts the process's output together: first the hello, then pages, which fill the slabs expected,
 * in order.
 */
export class RedoAnswers {
  private hello: Uint8Array | undefined = new Uint8Array(REDO_HELLO_BYTES);
  private helloFilled = 0;
  private readonly expected: Expected[] = [];

  /** Pages to come next: as many as `slab` holds. */
  expect(slab: Uint8Array): void {
    this.expected.push({ slab, filled: 0 });
  }

  /** Whole pages received for the oldest slab that is not full. */
  get pagesOfOldest(): number {
    return Math.floor((this.expected[0]?.filled ?? 0) / PAGE_BYTES);
  }

  /**
   * Takes a piece of output. `onHello` is called once; `onSlab` for each slab that has become full.
   * Throws MalformedInput for a wrong hello and for bytes that nobody asked for.
   */
  push(chunk: Uint8Array, onHello: (hello: RedoHello) => void, onSlab: () => void): void {
    let at = 0;
    if (this.hello !== undefined) {
      const piece = chunk.subarray(0, REDO_HELLO_BYTES - this.helloFilled);
      this.hello.set(piece, this.helloFilled);
      this.helloFilled += piece.length;
      at = piece.length;
      if (this.helloFilled < REDO_HELLO_BYTES) return;
      const hello = decodeRedoHello(this.hello);
      this.hello = undefined;
      onHello(hello);
    }
    while (at < chunk.length) {
      const oldest = this.expected[0];
      if (oldest === undefined) {
        throw new MalformedInput(`redo answers: ${chunk.length - at} bytes too many`);
      }
      const piece = chunk.subarray(at, at + oldest.slab.length - oldest.filled);
      oldest.slab.set(piece, oldest.filled);
      oldest.filled += piece.length;
      at += piece.length;
      if (oldest.filled === oldest.slab.length) {
        this.expected.shift();
        onSlab();
      }
    }
  }
}

/**
 * Why 8192 bytes cannot be a page that redo made, or undefined: the header's offsets and page size
 * (storage/bufpage.h). A new page (pd_upper 0) must be all zero. The process is not trusted.
 */
export function rebuiltPageProblem(page: Uint8Array): string | undefined {
  const view = new DataView(page.buffer, page.byteOffset, page.byteLength);
  const lower = view.getUint16(12, true);
  const upper = view.getUint16(14, true);
  const special = view.getUint16(16, true);
  if (upper === 0) return page.every((byte) => byte === 0) ? undefined : "new page is not empty";
  if (lower < 24 || lower > upper || upper > special || special > PAGE_BYTES) {
    return `page header is out of order: lower ${lower}, upper ${upper}, special ${special}`;
  }
  const size = view.getUint16(18, true) & 0xff00;
  return size === PAGE_BYTES ? undefined : `page header says ${size} bytes`;
}
