// Login of a frontend as a state machine: bytes in, bytes to send and a decision out; no socket.
//
//   SSLRequest -> 'S', TLS, or 'N'   first byte 0x16 -> TLS   GSSENCRequest -> 'N'
//   CancelRequest -> closed          StartupMessage -> login
//
// Inside TLS it goes on with the same machine. Who may come in is decided by an `Authenticate` that
// is handed in. Formats: "Message Formats" of PostgreSQL's documentation (StartupMessage,
// SSLRequest), pqcomm.h for the codes.

import { MalformedInput } from "../core/assert.ts";
import { STARTUP_PACKET_BYTES_MAX } from "../core/limits.ts";
import { type Claims, TRUSTED } from "../core/permission.ts";
import type { Result } from "../core/result.ts";
import { ByteReader } from "./bytes.ts";
import {
  SQLSTATE,
  type SqlState,
  authenticationCleartextPassword,
  authenticationOk,
  errorResponse,
  negotiateProtocolVersion,
  parameterStatus,
  readyForQuery,
} from "./pg-messages.ts";

/** Parameters of a startup packet: user, database, application_name, options … */
export type StartupParameters = ReadonlyMap<string, string>;

export type LoginDecision =
  | { readonly kind: "accept"; readonly claims: Claims }
  /** Ask for a password in clear text (a token) and check it. The error is the text for the client. */
  | {
      readonly kind: "ask-password";
      readonly check: (password: string) => Promise<Result<Claims, string>>;
    }
  | { readonly kind: "refuse"; readonly state: SqlState; readonly text: string };

export type Authenticate = (parameters: StartupParameters) => LoginDecision;

/** Everyone may come in: for a listener that only trusted machines reach. */
export const trust: Authenticate = () => ({ kind: "accept", claims: TRUSTED });

/** required: nobody logs in without it. */
export type TlsPolicy = "none" | "offered" | "required";

export type HandshakeStep =
  /** Send `bytes` (perhaps none) and go on. */
  | { readonly kind: "more"; readonly bytes: readonly Uint8Array[] }
  /**
   * Send `bytes` as they are, then go on inside TLS; `received` is the beginning of it. Without an
   * SSLRequest before it (`direct`) the client has to name the protocol by ALPN.
   */
  | {
      readonly kind: "tls";
      readonly bytes: readonly Uint8Array[];
      readonly received: Uint8Array;
      readonly direct: boolean;
    }
  /** Send `bytes`, wait for the verdict on the password and hand it to `checked`. */
  | {
      readonly kind: "check";
      readonly bytes: readonly Uint8Array[];
      readonly verdict: Promise<Result<Claims, string>>;
    }
  | {
      readonly kind: "done";
      readonly bytes: readonly Uint8Array[];
      readonly parameters: StartupParameters;
      readonly claims: Claims;
      /** What came after the login: messages for the framer. */
      readonly rest: Uint8Array;
    }
  /** Send `bytes` and close. `reason` is for the log, undefined if nothing is wrong. */
  | {
      readonly kind: "close";
      readonly bytes: readonly Uint8Array[];
      readonly reason: string | undefined;
    };

const SSL_REQUEST = 80_877_103;
const GSSENC_REQUEST = 80_877_104;
const CANCEL_REQUEST = 80_877_102;
const PROTOCOL_MAJOR = 3;
const DECLINED = new Uint8Array([0x4e]);
const TLS_FOLLOWS = new Uint8Array([0x53]);
const PASSWORD_MESSAGE = 0x70;
const TLS_HANDSHAKE_BYTE = 0x16;

/** What page servers of this protocol say to be, whatever the version of the data; drivers look at it. */
const SERVER_VERSION = "14.1";

/** What ALPN calls this protocol (IANA). */
export const ALPN_POSTGRESQL = "postgresql";

export class Handshake {
  private readonly authenticate: Authenticate;
  private readonly tls: TlsPolicy;
  private encrypted = false;
  private held: Uint8Array = new Uint8Array(0);
  private refusedEncryptions = 0;
  private startup: StartupParameters | undefined;
  private check: ((password: string) => Promise<Result<Claims, string>>) | undefined;
  private checking = false;

  constructor(authenticate: Authenticate, tls: TlsPolicy = "none") {
    this.authenticate = authenticate;
    this.tls = tls;
  }

  /** Takes a chunk of any size. Throws MalformedInput; the caller then closes. */
  push(chunk: Uint8Array): HandshakeStep {
    this.held = this.held.length === 0 ? chunk : concat(this.held, chunk);
    const sent: Uint8Array[] = [];
    for (;;) {
      if (this.checking) return { kind: "more", bytes: sent };
      const step = this.startup === undefined ? this.onPacket() : this.onPassword();
      if (step === undefined) return { kind: "more", bytes: sent };
      if (step.kind !== "more") return { ...step, bytes: [...sent, ...step.bytes] };
      sent.push(...step.bytes);
    }
  }

  /** The verdict on the password that `push` gave out. */
  checked(verdict: Result<Claims, string>): HandshakeStep {
    this.checking = false;
    if (verdict.ok) return this.accept(verdict.value, [], []);
    return refused(SQLSTATE.internalError, verdict.error);
  }

  /** One packet before the login; undefined while it is not whole. */
  private onPacket(): HandshakeStep | undefined {
    if (this.held[0] === TLS_HANDSHAKE_BYTE && !this.encrypted) return this.onDirectTls();
    const body = this.takeBody(0, 8, "startup packet");
    if (body === undefined) return undefined;
    const reader = new ByteReader(body);
    const code = reader.u32("protocol version");
    if (code === CANCEL_REQUEST) return { kind: "close", bytes: [], reason: undefined };
    if (code === SSL_REQUEST || code === GSSENC_REQUEST) {
      reader.end("encryption request");
      if (code === SSL_REQUEST && this.tls !== "none" && !this.encrypted)
        return this.onSslRequest();
      if (++this.refusedEncryptions > 2) {
        throw new MalformedInput("encryption was declined and is asked for again");
      }
      return { kind: "more", bytes: [DECLINED] };
    }
    const major = code >>> 16;
    const minor = code & 0xffff;
    if (major !== PROTOCOL_MAJOR) {
      throw new MalformedInput(`unsupported frontend protocol ${major}.${minor}: 3.0 is spoken`);
    }
    if (this.tls === "required" && !this.encrypted) {
      return refused(SQLSTATE.invalidAuthorization, "must connect with TLS");
    }
    this.startup = readParameters(reader);
    const unknown = [...this.startup.keys()].filter((name) => name.startsWith("_pq_."));
    const negotiated =
      minor > 0 || unknown.length > 0 ? [negotiateProtocolVersion(0, unknown)] : [];
    const decision = this.authenticate(this.startup);
    if (decision.kind === "ask-password") {
      this.check = decision.check;
      return { kind: "more", bytes: [...negotiated, authenticationCleartextPassword()] };
    }
    if (decision.kind === "refuse") return refused(decision.state, decision.text);
    const settings = [
      parameterStatus("integer_datetimes", "on"),
      parameterStatus("server_version", SERVER_VERSION),
    ];
    return this.accept(decision.claims, negotiated, settings);
  }

  private onDirectTls(): HandshakeStep {
    if (this.tls === "none") {
      throw new MalformedInput("the client starts with TLS, which is not configured here");
    }
    return this.goSecure([], true);
  }

  private onSslRequest(): HandshakeStep {
    // Bytes that came in clear before the answer would be taken for encrypted ones (CVE-2021-23214).
    if (this.held.length > 0) throw new MalformedInput("unencrypted data after the SSL request");
    return this.goSecure([TLS_FOLLOWS], false);
  }

  private goSecure(bytes: readonly Uint8Array[], direct: boolean): HandshakeStep {
    this.encrypted = true;
    const received = this.held;
    this.held = new Uint8Array(0);
    return { kind: "tls", bytes, received, direct };
  }

  private onPassword(): HandshakeStep | undefined {
    if (this.held.length === 0) return undefined;
    if (this.held[0] !== PASSWORD_MESSAGE) {
      throw new MalformedInput(`expected a password message, got type ${this.held[0]}`);
    }
    const body = this.takeBody(1, 4, "password message");
    if (body === undefined) return undefined;
    const reader = new ByteReader(body);
    const password = reader.cstring("password");
    reader.end("password message");
    this.checking = true;
    return { kind: "check", bytes: [], verdict: this.check!(password) };
  }

  private accept(
    claims: Claims,
    before: readonly Uint8Array[],
    settings: readonly Uint8Array[],
  ): HandshakeStep {
    const rest = this.held;
    this.held = new Uint8Array(0);
    const bytes = [
      ...before,
      authenticationOk(),
      parameterStatus("client_encoding", "UTF8"),
      ...settings,
      readyForQuery(),
    ];
    return { kind: "done", bytes, parameters: this.startup!, claims, rest };
  }

  /** Cuts off a message whose length word, itself included, stands at `at`; gives what follows the word. */
  private takeBody(at: number, sizeMin: number, what: string): Uint8Array | undefined {
    if (this.held.length < at + 4) return undefined;
    const size = new ByteReader(this.held, at).u32("length");
    if (size < sizeMin || size > STARTUP_PACKET_BYTES_MAX) {
      throw new MalformedInput(
        `${what} says ${size} bytes; ${sizeMin} to ${STARTUP_PACKET_BYTES_MAX} are accepted`,
      );
    }
    if (this.held.length < at + size) return undefined;
    const body = this.held.subarray(at + 4, at + size);
    this.held = this.held.subarray(at + size);
    return body;
  }
}

const refused = (state: SqlState, text: string): HandshakeStep => ({
  kind: "close",
  bytes: [errorResponse(state, text)],
  reason: `login refused: ${text}`,
});

function readParameters(reader: ByteReader): StartupParameters {
  const parameters = new Map<string, string>();
  for (;;) {
    const name = reader.cstring("startup parameter");
    if (name === "") break;
    parameters.set(name, reader.cstring(`startup parameter ${name}`));
  }
  reader.end("startup packet");
  return parameters;
}

function concat(a: Uint8Array, b: Uint8Array): Uint8Array {
  const joined = new Uint8Array(a.length + b.length);
  joined.set(a);
  joined.set(b, a.length);
  return joined;
}
