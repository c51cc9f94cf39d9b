// The load of the GetPage benchmarks, a process of its own, the same for both servers: links that each
// keep `depth` requests under way. Requests are encoded before, answers are counted and looked at
// only in their first bytes, so that what is measured is the server.

import net from "node:net";
import { ANSWER_BYTES, REQUEST_BYTES, writeLsn } from "./frames.ts";

const COPY_DATA = 0x64;
const GET_PAGE = 2;
const PAGE = 102;
const READ_BUFFER_BYTES = 1024 * 1024;

export interface LoadCommand {
  readonly do: "load";
  readonly port: number;
  /** Logged in to this timeline first; undefined: a server that expects requests at once. */
  readonly timeline: { readonly tenant: string; readonly timeline: string } | undefined;
  readonly rel: { readonly spc: number; readonly db: number; readonly rel: number };
  /** Pages asked for: so many from this one on, in random order, dealt out to the links. */
  readonly firstBlock: number;
  readonly blocks: number;
  readonly lsn: number;
  readonly connections: number;
  readonly depth: number;
  /** Once through all pages, or for this many seconds. */
  readonly seconds: number | "once";
  /** Instead of pages a second: how long 99 of 100 answers take at most, ms. With a depth of 1 only. */
  readonly gives?: "p99" | undefined;
}

/** `count` block numbers from `first` on, each once, in an order without locality, always the same. */
function scattered(first: number, count: number): readonly number[] {
  const order = Array.from({ length: count }, (_, i) => first + i);
  let state = 12345;
  for (let i = count - 1; i > 0; i--) {
    state = (Math.imul(state, 1103515245) + 12345) >>> 0;
    const j = Math.floor((state / 2 ** 32) * (i + 1));
    [order[i], order[j]] = [order[j]!, order[i]!];
  }
  return order;
}

function encodeRequests(command: LoadCommand, blocks: readonly number[]): Buffer {
  const bytes = Buffer.alloc(blocks.length * REQUEST_BYTES);
  blocks.forEach((block, i) => {
    const at = i * REQUEST_BYTES;
    bytes[at] = COPY_DATA;
    bytes.writeUInt32BE(REQUEST_BYTES - 1, at + 1);
    bytes[at + 5] = GET_PAGE;
    bytes.writeUInt32BE(i + 1, at + 10);
    writeLsn(bytes, at + 14, command.lsn);
    writeLsn(bytes, at + 22, command.lsn);
    bytes.writeUInt32BE(command.rel.spc, at + 30);
    bytes.writeUInt32BE(command.rel.db, at + 34);
    bytes.writeUInt32BE(command.rel.rel, at + 38);
    bytes.writeUInt32BE(block, at + 43);
  });
  return bytes;
}

/** One link. */
class LoadLink {
  answers = 0;
  /** Of each request, ms, when there is one under way at a time. */
  readonly waits: number[] = [];
  private sentMs = 0;
  private readonly requests: Buffer;
  private readonly total: number;
  private readonly limit: number;
  private sent = 0;
  private socket!: net.Socket;
  /** Bytes of the answer that is being received. */
  private partial = 0;
  private stopped = false;
  private onDone: () => void = () => undefined;
  private onError: (error: Error) => void = () => undefined;
  private onLogin: ((bytes: Buffer) => void) | undefined;

  constructor(requests: Buffer, limit: number) {
    this.requests = requests;
    this.total = requests.length / REQUEST_BYTES;
    this.limit = limit;
  }

  connect(command: LoadCommand): Promise<void> {
    const buffer = Buffer.allocUnsafeSlow(READ_BUFFER_BYTES);
    return new Promise((resolve, reject) => {
      this.onError = reject;
      this.socket = net.connect({
        port: command.port,
        host: "127.0.0.1",
        noDelay: true,
        onread: {
          buffer,
          callback: (length) => {
            this.onBytes(buffer, length);
            return true;
          },
        },
      });
      this.socket.on("error", (error) => this.onError(error));
      this.socket.on("close", () => this.onError(new Error("the server closed the link")));
      this.socket.on("connect", () => {
        if (command.timeline === undefined) return resolve();
        this.login(command.timeline, resolve);
      });
    });
  }

  /** Trust authentication, then the pagestream. */
  private login(at: { tenant: string; timeline: string }, ready: () => void): void {
    const body = Buffer.from("\0\x03\0\0user\0bench\0\0", "latin1");
    const startup = Buffer.alloc(4 + body.length);
    startup.writeUInt32BE(startup.length);
    startup.set(body, 4);
    const query = Buffer.from(`Q\0\0\0\0pagestream_v3 ${at.tenant} ${at.timeline}\0`, "latin1");
    query.writeUInt32BE(query.length - 1, 1);
    let heard = Buffer.alloc(0);
    this.onLogin = (bytes) => {
      heard = Buffer.concat([heard, bytes]);
      const types = messageTypes(heard);
      if (types.includes("E")) return this.onError(new Error(heard.toString("latin1")));
      if (!types.endsWith("W")) {
        if (types.endsWith("Z")) this.socket.write(query);
        return;
      }
      this.onLogin = undefined;
      ready();
    };
    this.socket.write(startup);
  }

  /** Sends the first requests; resolves when all are answered, or all under way after stop(). */
  run(depth: number): Promise<void> {
    return new Promise((resolve, reject) => {
      this.onDone = resolve;
      this.onError = reject;
      this.send(depth);
    });
  }

  /** Sends nothing more. */
  stop(): void {
    this.stopped = true;
  }

  close(): void {
    this.onError = () => undefined;
    this.socket.destroy();
  }

  private send(count: number): void {
    let left = this.stopped ? 0 : Math.min(count, this.limit - this.sent);
    this.sentMs = performance.now();
    while (left > 0) {
      const from = this.sent % this.total;
      const n = Math.min(left, this.total - from);
      this.socket.write(this.requests.subarray(from * REQUEST_BYTES, (from + n) * REQUEST_BYTES));
      this.sent += n;
      left -= n;
    }
    if (this.answers === this.sent) this.onDone();
  }

  private onBytes(bytes: Buffer, length: number): void {
    if (this.onLogin !== undefined) return this.onLogin(Buffer.from(bytes.subarray(0, length)));
    const had = this.partial + length;
    // Where answers begin in `bytes`.
    for (
      let at = (ANSWER_BYTES - this.partial) % ANSWER_BYTES;
      at + 5 < length;
      at += ANSWER_BYTES
    ) {
      if (bytes[at] !== COPY_DATA || bytes[at + 5] !== PAGE) {
        return this.onError(new Error(`no page: ${bytes.toString("latin1", at, at + 300)}`));
      }
    }
    const whole = Math.floor(had / ANSWER_BYTES);
    this.partial = had - whole * ANSWER_BYTES;
    this.answers += whole;
    if (whole === 1) this.waits.push(performance.now() - this.sentMs);
    if (whole > 0) this.send(whole);
  }
}

/** Type letters of whole messages. */
function messageTypes(bytes: Buffer): string {
  let types = "";
  for (let at = 0; at + 5 <= bytes.length;) {
    const next = at + 1 + bytes.readUInt32BE(at + 1);
    if (next > bytes.length) break;
    types += String.fromCharCode(bytes[at]!);
    at = next;
  }
  return types;
}

/** What 99 of 100 do not exceed. */
function percentile(values: readonly number[]): number {
  const sorted = [...values].sort((x, y) => x - y);
  const found = sorted[Math.ceil(sorted.length * 0.99) - 1];
  if (found === undefined) throw new Error("a percentile of nothing");
  return found;
}

/** Runs the load; gives pages a second, or what is asked for. */
async function load(command: LoadCommand): Promise<number> {
  const { connections, depth, seconds } = command;
  const blocks = scattered(command.firstBlock, command.blocks);
  const links = Array.from({ length: connections }, (_, c) => {
    const own = blocks.filter((_, i) => i % connections === c);
    const limit = seconds === "once" ? own.length : Infinity;
    return new LoadLink(encodeRequests(command, own), limit);
  });
  try {
    await Promise.all(links.map((link) => link.connect(command)));
    const started = performance.now();
    const runs = links.map((link) => link.run(depth));
    if (seconds !== "once") {
      setTimeout(() => links.forEach((link) => link.stop()), seconds * 1000);
    }
    await Promise.all(runs);
    if (command.gives === "p99") return percentile(links.flatMap(({ waits }) => waits));
    const pages = links.reduce((sum, link) => sum + link.answers, 0);
    return (pages * 1000) / (performance.now() - started);
  } finally {
    for (const link of links) link.close();
  }
}

process.on("message", (command: LoadCommand) => {
  load(command).then(
    (value) => void process.send?.({ value }),
    (error: unknown) => void process.send?.({ error: String(error) }),
  );
});
process.on("disconnect", () => process.exit(0));
