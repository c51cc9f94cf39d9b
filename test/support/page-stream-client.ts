// The pagestream half of the page client: requests pipelined, answers matched to them in order and
// checked against what was asked. Requests of one turn leave in one write.

import type net from "node:net";
import { LSN_MAX, Lsn } from "../../src/core/lsn.ts";
import { PAGE_BYTES, type RelTag } from "../../src/core/page.ts";

/** Where to read. Without `lsn`: the latest. Without `notModifiedSince`: `lsn`, or anything if latest. */
export interface ReadAt {
  readonly lsn?: Lsn;
  readonly notModifiedSince?: Lsn;
}

/** Error (tag 103) in answer to one request. */
export class RequestError extends Error {}

type OnAnswer = (payload: Uint8Array | undefined, error: Error | undefined) => void;

interface Pending {
  readonly tag: number;
  /** The request's payload: what version 3 must repeat. */
  readonly request: Buffer;
  readonly onAnswer: OnAnswer;
}

const EXISTS = 0;
const NBLOCKS = 1;
const GET_PAGE = 2;
const DB_SIZE = 3;
const SLRU = 4;
const ERROR = 103;
const ANSWER_TAGS = [100, 101, 102, 104, 105];

export class PageStreamClient {
  private readonly version: 2 | 3;
  private readonly socket: net.Socket;
  private pending: Pending[] = [];
  private head = 0;
  private out: Buffer[] = [];
  private nextId = 1;
  private failed: Error | undefined;

  constructor(version: 2 | 3, socket: net.Socket) {
    this.version = version;
    this.socket = socket;
  }

  /** Requests without an answer yet. */
  get inFlight(): number {
    return this.pending.length - this.head;
  }

  private request(tag: number, bodyBytes: number, at: ReadAt, onAnswer: OnAnswer): Buffer {
    const headBytes = this.version === 3 ? 25 : 17;
    const frame = Buffer.alloc(5 + headBytes + bodyBytes);
    frame[0] = 0x64;
    frame.writeUInt32BE(frame.length - 1, 1);
    frame[5] = tag;
    if (this.version === 3) frame.writeBigUInt64BE(BigInt(this.nextId++), 6);
    const lsn = at.lsn ?? LSN_MAX;
    const since = at.notModifiedSince ?? (lsn === LSN_MAX ? Lsn.of(1) : lsn);
    writeLsn(frame, 5 + headBytes - 16, lsn);
    writeLsn(frame, 5 + headBytes - 8, since);
    if (this.failed !== undefined) {
      const { failed } = this;
      queueMicrotask(() => onAnswer(undefined, failed));
      return frame.subarray(5 + headBytes);
    }
    this.pending.push({ tag, request: frame.subarray(5), onAnswer });
    if (this.out.push(frame) === 1) queueMicrotask(() => this.flush());
    return frame.subarray(5 + headBytes);
  }

  private flush(): void {
    if (this.out.length === 0) return;
    const bytes = this.out.length === 1 ? this.out[0]! : Buffer.concat(this.out);
    this.out = [];
    this.socket.write(bytes);
  }

  onAnswer(body: Buffer): void {
    const pending = this.pending[this.head++];
    if (this.head >= 4096) {
      this.pending = this.pending.slice(this.head);
      this.head = 0;
    }
    if (pending === undefined) throw new Error("an answer to nothing");
    const isError = body[0] === ERROR;
    if (!isError && body[0] !== ANSWER_TAGS[pending.tag]) {
      throw new Error(`answer ${body[0]} to request ${pending.tag}`);
    }
    const echoed = this.version === 2 ? 0 : isError ? 24 : pending.request.length - 1;
    for (let i = 1; i <= echoed; i++) {
      if (body[i] !== pending.request[i]) throw new Error("the answer is to another request");
    }
    const payload = body.subarray(1 + echoed);
    if (!isError) return pending.onAnswer(payload, undefined);
    if (payload[payload.length - 1] !== 0) throw new Error("an error without its NUL");
    const text = payload.toString("utf8", 0, payload.length - 1);
    pending.onAnswer(undefined, new RequestError(text));
  }

  onClosed(error: Error): void {
    this.failed ??= error;
    const open = this.pending.slice(this.head);
    this.pending = [];
    this.head = 0;
    for (const { onAnswer } of open) onAnswer(undefined, this.failed);
  }

  /** Asks for a page; `onAnswer` is called with 8192 bytes or an error. */
  sendGetPage(rel: RelTag, block: number, at: ReadAt, onAnswer: OnAnswer): void {
    const body = this.request(GET_PAGE, 17, at, onAnswer);
    writeRel(body, rel);
    body.writeUInt32BE(block, 13);
  }

  async getPage(rel: RelTag, block: number, at: ReadAt = {}): Promise<Uint8Array> {
    return expectBytes(await this.ask((on) => this.sendGetPage(rel, block, at, on)), PAGE_BYTES);
  }

  async exists(rel: RelTag, at: ReadAt = {}): Promise<boolean> {
    const payload = await this.ask((on) => writeRel(this.request(EXISTS, 13, at, on), rel));
    return expectBytes(payload, 1)[0] === 1;
  }

  async nblocks(rel: RelTag, at: ReadAt = {}): Promise<number> {
    const payload = await this.ask((on) => writeRel(this.request(NBLOCKS, 13, at, on), rel));
    return Buffer.from(expectBytes(payload, 4)).readUInt32BE(0);
  }

  async dbSize(db: number, at: ReadAt = {}): Promise<number> {
    const payload = await this.ask((on) => this.request(DB_SIZE, 4, at, on).writeUInt32BE(db, 0));
    return Number(Buffer.from(expectBytes(payload, 8)).readBigInt64BE(0));
  }

  /** A segment's pages: n * 8192 bytes. */
  async slru(kind: number, segment: number, at: ReadAt = {}): Promise<Uint8Array> {
    const payload = await this.ask((on) => {
      const body = this.request(SLRU, 5, at, on);
      body[0] = kind;
      body.writeUInt32BE(segment, 1);
    });
    const blocks = Buffer.from(payload.subarray(0, 4)).readUInt32BE(0);
    return expectBytes(payload.subarray(4), blocks * PAGE_BYTES);
  }

  /** Sends a request's payload as it is, well formed or not. */
  raw(payload: Uint8Array): Promise<Uint8Array> {
    return this.ask((onAnswer) => {
      const frame = Buffer.alloc(5 + payload.length);
      frame[0] = 0x64;
      frame.writeUInt32BE(frame.length - 1, 1);
      frame.set(payload, 5);
      this.pending.push({ tag: payload[0] ?? -1, request: frame.subarray(5), onAnswer });
      if (this.out.push(frame) === 1) queueMicrotask(() => this.flush());
    });
  }

  private ask(send: (onAnswer: OnAnswer) => void): Promise<Uint8Array> {
    return new Promise((resolve, reject) =>
      send((payload, error) => (error === undefined ? resolve(payload!) : reject(error))),
    );
  }

  /**
   * Reads many pages with `depth` requests under way; `onPage` gets them in the order asked. Rejects
   * with the first error, or passes errors of single pages to `onError` if there is one.
   */
  readPages<Ask extends { readonly rel: RelTag; readonly block: number } & ReadAt>(
    asks: Iterable<Ask>,
    depth: number,
    onPage: (page: Uint8Array, ask: Ask) => void,
    onError?: (error: RequestError, ask: Ask) => void,
  ): Promise<void> {
    const source = asks[Symbol.iterator]();
    let under = 0;
    let drained = false;
    let settled = false;
    return new Promise((resolve, reject) => {
      const fail = (error: unknown): void => {
        settled = true;
        reject(error);
      };
      const next = (): void => {
        while (!settled && !drained && under < depth) {
          const { done, value: ask } = source.next();
          if (done === true) {
            drained = true;
            break;
          }
          under++;
          this.sendGetPage(ask.rel, ask.block, ask, (page, error) => {
            under--;
            if (settled) return;
            try {
              if (error === undefined) onPage(expectBytes(page!, PAGE_BYTES), ask);
              else if (onError !== undefined && error instanceof RequestError) onError(error, ask);
              else return fail(error);
            } catch (thrown) {
              return fail(thrown);
            }
            next();
          });
        }
        if (drained && under === 0 && !settled) {
          settled = true;
          resolve();
        }
      };
      next();
    });
  }
}

function expectBytes(payload: Uint8Array, bytes: number): Uint8Array {
  if (payload.length !== bytes) throw new Error(`${payload.length} bytes instead of ${bytes}`);
  return payload;
}

function writeLsn(to: Buffer, at: number, lsn: Lsn): void {
  to.writeUInt32BE(lsn === LSN_MAX ? 0xffff_ffff : Lsn.high(lsn), at);
  to.writeUInt32BE(lsn === LSN_MAX ? 0xffff_ffff : Lsn.low(lsn), at + 4);
}

function writeRel(to: Buffer, rel: RelTag): void {
  to.writeUInt32BE(rel.spc, 0);
  to.writeUInt32BE(rel.db, 4);
  to.writeUInt32BE(rel.rel, 8);
  to[12] = rel.fork;
}
