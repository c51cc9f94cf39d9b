// Messages of PostgreSQL's frontend/backend protocol 3.0, as far as a server of our kind speaks it:
// what it sends, encoded, and what it is sent, decoded. Framing is in pg-frames.ts, the startup
// packet in pg-handshake.ts. Formats: PostgreSQL's documentation, "Message Formats".

import type { FrontendKind } from "../core/connection.ts";
import { ByteReader, ByteWriter } from "./bytes.ts";

/** SQLSTATEs that the page service sends (errcodes.txt). */
export const SQLSTATE = {
  internalError: "XX000",
  protocolViolation: "08P01",
  /** How the client connects is not allowed; libpq may try it the other way. */
  invalidAuthorization: "28000",
  tooManyConnections: "53300",
  /** The server stops; the client may reconnect when it is back. */
  adminShutdown: "57P01",
  /** Whatever the link was for has moved or is not ready: reconnect. */
  connectionFailure: "08006",
} as const;
export type SqlState = (typeof SQLSTATE)[keyof typeof SQLSTATE];

function message(type: string, fill: (w: ByteWriter) => unknown): Uint8Array {
  const writer = new ByteWriter(64);
  writer.u8(type.charCodeAt(0)).u32(0);
  fill(writer);
  writer.patchU32(1, writer.length - 1);
  return writer.done();
}

const empty = (type: string): Uint8Array => message(type, () => undefined);

export const authenticationOk = (): Uint8Array => message("R", (w) => w.u32(0));
export const authenticationCleartextPassword = (): Uint8Array => message("R", (w) => w.u32(3));

export const parameterStatus = (name: string, value: string): Uint8Array =>
  message("S", (w) => w.cstring(name).cstring(value));

/** Answers a startup packet of a later minor version or with options we do not know. */
export const negotiateProtocolVersion = (
  newestMinor: number,
  unknownOptions: readonly string[],
): Uint8Array =>
  message("v", (w) => {
    w.u32(newestMinor).u32(unknownOptions.length);
    for (const option of unknownOptions) w.cstring(option);
  });

/** Always idle: there are no transactions here. */
export const readyForQuery = (): Uint8Array => message("Z", (w) => w.text("I"));

/** ErrorResponse with the fields severity, SQLSTATE and text, in this order. */
export const errorResponse = (state: SqlState, text: string): Uint8Array =>
  message("E", (w) =>
    w
      .text("S")
      .cstring("ERROR")
      .text("C")
      .cstring(state)
      .text("M")
      .cstring(text.replaceAll("\0", "\uFFFD"))
      .u8(0),
  );

/** Every command of the page service ends with the same tag. */
export const commandComplete = (): Uint8Array => message("C", (w) => w.cstring("SELECT 1"));

const OID_TEXT = 25;

/** One column of type text, as RowDescription. */
export const textColumn = (name: string): Uint8Array =>
  message("T", (w) =>
    w.u16(1).cstring(name).u32(0).u16(0).u32(OID_TEXT).u16(0xffff).u32(0xffff_ffff).u16(0),
  );

/** DataRow of one column; undefined is NULL. */
export const textRow = (value: string | undefined): Uint8Array =>
  message("D", (w) => {
    w.u16(1);
    if (value === undefined) return w.u32(0xffff_ffff);
    const bytes = new TextEncoder().encode(value);
    return w.u32(bytes.length).raw(bytes);
  });

export const copyOutResponse = (): Uint8Array => message("H", (w) => w.u8(0).u16(0));
export const copyBothResponse = (): Uint8Array => message("W", (w) => w.u8(0).u16(0));
export const copyDone = (): Uint8Array => empty("c");
/** The five bytes that go before `size` bytes of CopyData. */
export const copyDataHeader = (size: number): Uint8Array =>
  new ByteWriter(5)
    .u8(0x64)
    .u32(size + 4)
    .done();

export const parseComplete = (): Uint8Array => empty("1");
export const bindComplete = (): Uint8Array => empty("2");
export const closeComplete = (): Uint8Array => empty("3");
export const noData = (): Uint8Array => empty("n");
export const noParameters = (): Uint8Array => message("t", (w) => w.u16(0));

/** Type byte of CopyData, the one message that comes by the hundred thousand. */
export const COPY_DATA = 0x64;

/** Text of a Query. Throws MalformedInput. */
export function decodeQuery(body: Uint8Array): string {
  const reader = new ByteReader(body);
  const text = reader.cstring("query");
  reader.end("Query");
  return text;
}

/** Statement name and text of a Parse; types of parameters are of no use to us. Throws MalformedInput. */
export function decodeParse(body: Uint8Array): { readonly name: string; readonly text: string } {
  const reader = new ByteReader(body);
  const name = reader.cstring("statement name");
  const text = reader.cstring("statement");
  reader.raw("parameter types", reader.u16("parameter count") * 4);
  reader.end("Parse");
  return { name, text };
}

/** Portal and statement name of a Bind. Throws MalformedInput. */
export function decodeBind(body: Uint8Array): {
  readonly portal: string;
  readonly name: string;
  readonly parameters: number;
} {
  const reader = new ByteReader(body);
  const portal = reader.cstring("portal name");
  const name = reader.cstring("statement name");
  reader.raw("parameter formats", reader.u16("format count") * 2);
  const parameters = reader.u16("parameter count");
  for (let i = 0; i < parameters; i++) {
    const size = reader.i32("parameter size");
    if (size > 0) reader.raw("parameter", size);
  }
  reader.raw("result formats", reader.u16("result format count") * 2);
  reader.end("Bind");
  return { portal, name, parameters };
}

/** Name in a Describe or Close, after its 'S' or 'P'. Throws MalformedInput. */
export function decodeTarget(body: Uint8Array): string {
  const reader = new ByteReader(body);
  reader.u8("kind");
  const name = reader.cstring("name");
  reader.end("Describe or Close");
  return name;
}

/** Portal name of an Execute. Throws MalformedInput. */
export function decodeExecute(body: Uint8Array): string {
  const reader = new ByteReader(body);
  const portal = reader.cstring("portal name");
  reader.u32("row limit");
  reader.end("Execute");
  return portal;
}

const FRONTEND_KINDS: Readonly<Record<string, FrontendKind>> = {
  Q: "query",
  P: "parse",
  B: "bind",
  D: "describe",
  E: "execute",
  C: "close",
  S: "sync",
  H: "flush",
  d: "copy-data",
  c: "copy-done",
  f: "copy-fail",
  X: "terminate",
};

/** What a frontend's message is, by its type byte. */
export const frontendKind = (type: number): FrontendKind =>
  FRONTEND_KINDS[String.fromCharCode(type)] ?? "unknown";
