// A client of the page service over a real socket: login, pagestream 2 and 3 with pipelining, backups,
// leases. Checks what it is sent: order, echoed headers, lengths. Written apart from the server's
// encoders, so that a mistake there is not repeated here. Pages it hands out may be kept.

import net from "node:net";
import tls from "node:tls";
import { Lsn } from "../../src/core/lsn.ts";
import { Framer } from "../../src/protocol/pg-frames.ts";
import { PageStreamClient } from "./page-stream-client.ts";

export { PageStreamClient, RequestError, type ReadAt } from "./page-stream-client.ts";

const MESSAGE_BYTES_MAX = 64 * 1024 * 1024;

/** An ErrorResponse. */
export class ServerError extends Error {
  readonly code: string;
  constructor(code: string, message: string) {
    super(message);
    this.code = code;
  }
}

export interface QueryResult {
  readonly columns: readonly string[];
  readonly rows: readonly (readonly (string | undefined)[])[];
  readonly tag: string;
}

export interface ConnectOptions {
  readonly host?: string;
  readonly port: number;
  readonly password?: string;
  readonly application?: string;
  /** Direct TLS, whatever the certificate. */
  readonly tls?: true;
}

interface Waiting {
  readonly onMessage: (type: string, body: Buffer) => void;
  readonly onClosed: (error: Error) => void;
}

const cstring = (text: string): Buffer => Buffer.from(`${text}\0`);

function frame(type: string, body: Uint8Array): Buffer {
  const out = Buffer.alloc(5 + body.length);
  out.write(type, 0, "latin1");
  out.writeUInt32BE(body.length + 4, 1);
  out.set(body, 5);
  return out;
}

export class PageClient {
  readonly socket: net.Socket;
  readonly parameters = new Map<string, string>();
  private waiting: Waiting | undefined;
  private closedBy: Error | undefined;
  /** Resolves when the socket is closed. */
  readonly closed: Promise<void>;

  private constructor(socket: net.Socket) {
    this.socket = socket;
    const framer = new Framer((type, body) => {
      const view = Buffer.from(body.buffer, body.byteOffset, body.byteLength);
      this.onMessage(String.fromCharCode(type), view);
    }, MESSAGE_BYTES_MAX);
    socket.on("data", (chunk) => {
      try {
        framer.push(chunk);
      } catch (error) {
        socket.destroy(error as Error);
      }
    });
    this.closed = new Promise((resolve) => {
      const onGone = (error: Error): void => {
        this.closedBy ??= error;
        const { waiting } = this;
        this.waiting = undefined;
        waiting?.onClosed(this.closedBy);
        resolve();
      };
      socket.on("error", (error) => onGone(error));
      socket.on("close", () => onGone(new Error("the server closed the connection")));
    });
  }

  /** Connects and logs in. Rejects with ServerError if refused. */
  static async connect(options: ConnectOptions): Promise<PageClient> {
    const to = { host: options.host ?? "127.0.0.1", port: options.port };
    const secure = { ...to, ALPNProtocols: ["postgresql"], rejectUnauthorized: false };
    const socket = options.tls === true ? tls.connect(secure) : net.connect(to);
    socket.setNoDelay(true);
    const client = new PageClient(socket);
    const parameters = ["user", "page_client", "database", "x", "client_encoding", "UTF8"];
    parameters.push("application_name", options.application ?? "page-client");
    const body = Buffer.concat([
      Buffer.from([0, 3, 0, 0]),
      ...parameters.map(cstring),
      cstring(""),
    ]);
    const startup = Buffer.alloc(4 + body.length);
    startup.writeUInt32BE(startup.length, 0);
    startup.set(body, 4);
    socket.write(startup);
    await client.until<void>((type, message, done) => {
      if (type === "R" && message.readUInt32BE(0) === 3) {
        socket.write(frame("p", cstring(options.password ?? "")));
      }
      if (type === "S") {
        const [name, value] = message.toString("utf8").split("\0");
        client.parameters.set(name!, value!);
      }
      if (type === "Z") done();
    });
    return client;
  }

  /** Feeds messages to `on` until it calls `done`. Rejects with what the server or the socket says. */
  private until<T>(
    on: (type: string, body: Buffer, done: (value: T) => void) => void,
    afterError: "fail" | "wait-ready" = "fail",
  ): Promise<T> {
    if (this.waiting !== undefined) throw new Error("one command at a time");
    return new Promise<T>((resolve, reject) => {
      if (this.closedBy !== undefined) return reject(this.closedBy);
      let failed: ServerError | undefined;
      const finish = (settle: () => void): void => {
        this.waiting = undefined;
        settle();
      };
      this.waiting = {
        onClosed: (error) => reject(failed ?? error),
        onMessage: (type, body) => {
          if (type === "E") {
            failed = parseError(body);
            if (afterError === "fail") finish(() => reject(failed!));
          } else if (failed !== undefined) {
            if (type === "Z") finish(() => reject(failed!));
          } else {
            on(type, body, (value) => finish(() => resolve(value)));
          }
        },
      };
    });
  }

  private onMessage(type: string, body: Buffer): void {
    if (this.waiting !== undefined) this.waiting.onMessage(type, body);
    else if (type === "E") this.closedBy ??= parseError(body);
  }

  /** Runs one simple query to its ReadyForQuery. */
  query(text: string): Promise<QueryResult> {
    const columns: string[] = [];
    const rows: (string | undefined)[][] = [];
    let tag = "";
    this.socket.write(frame("Q", cstring(text)));
    return this.until<QueryResult>((type, body, done) => {
      if (type === "T") columns.push(...parseColumns(body));
      if (type === "D") rows.push(parseRow(body));
      if (type === "C") tag = body.toString("utf8", 0, body.length - 1);
      if (type === "Z") done({ columns, rows, tag });
    }, "wait-ready");
  }

  /** Runs a query that answers with COPY OUT; gives every CopyData to `onChunk` as it comes. */
  copyOut(text: string, onChunk: (chunk: Buffer) => void): Promise<void> {
    let state: "before" | "copy" | "done" | "complete" = "before";
    this.socket.write(frame("Q", cstring(text)));
    return this.until<void>((type, body, done) => {
      const next = `${state} ${type}`;
      if (next === "before H") state = "copy";
      else if (next === "copy d") onChunk(body);
      else if (next === "copy c") state = "done";
      else if (next === "done C") state = "complete";
      else if (next === "complete Z") done();
      else this.socket.destroy(new Error(`unexpected message during COPY OUT: ${next}`));
    }, "wait-ready");
  }

  /** The tar of a basebackup (or gzip of it), in memory. */
  async basebackup(
    tenant: string,
    timeline: string,
    options: { lsn?: Lsn | "latest"; gzip?: boolean; replica?: boolean } = {},
  ): Promise<Buffer> {
    const words = ["basebackup", tenant, timeline];
    if (options.lsn !== undefined) {
      words.push(options.lsn === "latest" ? "latest" : Lsn.format(options.lsn));
    }
    if (options.gzip === true) words.push("--gzip");
    if (options.replica === true) words.push("--replica");
    return this.collect(words.join(" "));
  }

  /** The tar of a fullbackup, in memory. */
  async fullbackup(
    tenant: string,
    timeline: string,
    options: { lsn?: Lsn; prevLsn?: Lsn } = {},
  ): Promise<Buffer> {
    const words = ["fullbackup", tenant, timeline];
    if (options.lsn !== undefined) words.push(Lsn.format(options.lsn));
    if (options.prevLsn !== undefined) words.push(Lsn.format(options.prevLsn));
    return this.collect(words.join(" "));
  }

  private async collect(text: string): Promise<Buffer> {
    const chunks: Buffer[] = [];
    await this.copyOut(text, (chunk) => chunks.push(chunk));
    return Buffer.concat(chunks);
  }

  /** End of the lease in Unix ms, or undefined if refused. */
  async lease(tenant: string, timeline: string, lsn: Lsn): Promise<number | undefined> {
    const result = await this.query(`lease lsn ${tenant} ${timeline} ${Lsn.format(lsn)}`);
    const value = result.rows[0]![0];
    return value === undefined ? undefined : Number(value);
  }

  /** Begins a pagestream. The connection is the stream's from then on. */
  async pagestream(
    tenant: string,
    timeline: string,
    version: 2 | 3 = 3,
  ): Promise<PageStreamClient> {
    this.socket.write(frame("Q", cstring(`pagestream_v${version} ${tenant} ${timeline}`)));
    await this.until<void>((type, _body, done) => {
      if (type === "W") done();
    }, "wait-ready");
    const stream = new PageStreamClient(version, this.socket);
    this.waiting = {
      onClosed: (error) => stream.onClosed(error),
      onMessage: (type, body) => {
        if (type === "d") {
          stream.onAnswer(body);
        } else if (type === "E") {
          stream.onClosed(parseError(body));
        } else if (type === "Z") {
          this.waiting = undefined;
        }
      },
    };
    return stream;
  }

  /** Says goodbye and waits for the end. */
  async close(): Promise<void> {
    this.socket.end(frame("X", Buffer.alloc(0)));
    await this.closed;
  }
}

function parseError(body: Buffer): ServerError {
  const fields = new Map<string, string>();
  for (const field of body.toString("utf8").split("\0")) {
    if (field !== "") fields.set(field[0]!, field.slice(1));
  }
  return new ServerError(fields.get("C") ?? "?", fields.get("M") ?? "?");
}

function parseColumns(body: Buffer): string[] {
  const names: string[] = [];
  let at = 2;
  for (let i = 0; i < body.readUInt16BE(0); i++) {
    const end = body.indexOf(0, at);
    names.push(body.toString("utf8", at, end));
    at = end + 1 + 18;
  }
  if (at !== body.length) throw new Error("RowDescription has a wrong length");
  return names;
}

function parseRow(body: Buffer): (string | undefined)[] {
  const values: (string | undefined)[] = [];
  let at = 2;
  for (let i = 0; i < body.readUInt16BE(0); i++) {
    const size = body.readInt32BE(at);
    at += 4;
    values.push(size < 0 ? undefined : body.toString("utf8", at, at + size));
    at += Math.max(size, 0);
  }
  return values;
}
