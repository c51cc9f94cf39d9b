// Accepts TCP connections and gives each as a Link: bytes in, bytes out, a way to stop reading, and
// one `closed` at the end. Knows nothing of what the bytes mean. A link may go on inside TLS; the bytes
// are then those inside.

import net from "node:net";
import { type SecureContext, TLSSocket } from "node:tls";
import { CLOSE_GRACE_MS } from "../core/limits.ts";
import { ALPN_POSTGRESQL } from "../protocol/pg-handshake.ts";

export interface LinkHandlers {
  readonly onBytes: (chunk: Uint8Array) => void;
  /** The peer will send nothing more; it may still read. */
  readonly onEnd: () => void;
  /** Called once, last. `error` if the link broke. */
  readonly onClosed: (error: Error | undefined) => void;
}

export interface SecureUpgrade {
  /** Was read already, and is the beginning of TLS. */
  readonly received: Uint8Array;
  /** Without a word before: the client has to name the protocol by ALPN. */
  readonly direct: boolean;
}

/** One accepted connection. */
export interface Link {
  /** "address:port" of the other side. */
  readonly peer: string;
  /** Begins reading; called once. */
  start(handlers: LinkHandlers): void;
  /** Sends all pieces with one system call if it can. Their memory is used until `sent`. */
  write(pieces: readonly Uint8Array[], sent: (error: Error | undefined) => void): void;
  /** Goes on inside TLS. What goes wrong in there ends the link. */
  secure(context: SecureContext, upgrade: SecureUpgrade): void;
  pause(): void;
  resume(): void;
  /** Sends what was written, then closes; the peer has a little while to take it and close too. */
  end(): void;
  /** As `end`, but closed for certain after that little while, even if nothing is taken. */
  endSoon(): void;
  destroy(): void;
}

export interface Listener {
  readonly host: string;
  readonly port: number;
  /** Who gets new links. Without anyone they are closed at once. */
  setHandler(handler: ((link: Link) => void) | undefined): void;
  /** Accepts no more; resolves when all links are closed. */
  close(): Promise<void>;
}

export interface ListenOptions {
  readonly host: string;
  /** 0: any free port. */
  readonly port: number;
  /** Errors of accepting, once listening: out of file descriptors, for one. */
  readonly onError: (error: Error) => void;
}

/** Opens the port. Rejects with Node's error, which names address and port (EADDRINUSE, EACCES). */
export function listen(options: ListenOptions): Promise<Listener> {
  let handler: ((link: Link) => void) | undefined;
  const server = net.createServer(
    { noDelay: true, keepAlive: true, allowHalfOpen: true, pauseOnConnect: true },
    (socket) => {
      if (handler === undefined) socket.destroy();
      else handler(new SocketLink(socket));
    },
  );
  return new Promise((resolve, reject) => {
    server.once("error", reject);
    server.listen({ host: options.host, port: options.port }, () => {
      server.off("error", reject);
      server.on("error", options.onError);
      const address = server.address() as net.AddressInfo;
      resolve({
        host: address.address,
        port: address.port,
        setHandler: (next) => void (handler = next),
        close: () => new Promise((closed) => server.close(() => closed())),
      });
    });
  });
}

class SocketLink implements Link {
  readonly peer: string;
  private socket: net.Socket;
  private handlers: LinkHandlers | undefined;
  private error: Error | undefined;
  private grace: NodeJS.Timeout | undefined;

  constructor(socket: net.Socket) {
    this.socket = socket;
    this.peer = `${socket.remoteAddress ?? "?"}:${socket.remotePort ?? 0}`;
    socket.on("error", (error) => (this.error ??= error));
    socket.on("close", () => clearTimeout(this.grace));
  }

  start(handlers: LinkHandlers): void {
    this.handlers = handlers;
    this.socket.on("close", () => handlers.onClosed(this.error));
    this.listenTo(this.socket, handlers);
    this.socket.resume();
  }

  private listenTo(socket: net.Socket, handlers: LinkHandlers): void {
    socket.on("data", handlers.onBytes);
    socket.on("end", handlers.onEnd);
  }

  secure(context: SecureContext, { received, direct }: SecureUpgrade): void {
    const plain = this.socket;
    const handlers = this.handlers!;
    plain.off("data", handlers.onBytes);
    plain.off("end", handlers.onEnd);
    plain.pause();
    if (received.length > 0) plain.unshift(received);
    const socket = new TLSSocket(plain, {
      isServer: true,
      secureContext: context,
      ALPNProtocols: [ALPN_POSTGRESQL],
    });
    const broken = (error: Error): void => {
      this.error ??= error;
      socket.destroy();
    };
    socket.on("error", broken);
    // After the handshake Node tells a server's own socket of errors by this name only.
    socket.on("_tlsError", broken);
    socket.on("secure", () => {
      if (direct && socket.alpnProtocol !== ALPN_POSTGRESQL) {
        broken(new Error(`direct TLS without naming the protocol ${ALPN_POSTGRESQL} (ALPN)`));
      }
    });
    this.socket = socket;
    this.listenTo(socket, handlers);
    socket.resume();
  }

  write(pieces: readonly Uint8Array[], sent: (error: Error | undefined) => void): void {
    const { socket } = this;
    const done = (error: Error | null | undefined): void => sent(error ?? undefined);
    const last = pieces.length - 1;
    if (last < 0) {
      queueMicrotask(() => sent(undefined));
    } else if (last === 0) {
      socket.write(pieces[0]!, done);
    } else {
      socket.cork();
      for (let i = 0; i < last; i++) socket.write(pieces[i]!);
      socket.write(pieces[last]!, done);
      socket.uncork();
    }
  }

  pause(): void {
    if (!this.socket.isPaused()) this.socket.pause();
  }

  resume(): void {
    if (this.socket.isPaused()) this.socket.resume();
  }

  end(): void {
    this.socket.end(() => this.destroyLater());
  }

  endSoon(): void {
    this.socket.end();
    this.destroyLater();
  }

  destroy(): void {
    this.socket.destroy();
  }

  private destroyLater(): void {
    if (this.socket.destroyed) return;
    this.grace ??= setTimeout(() => this.socket.destroy(), CLOSE_GRACE_MS);
  }
}
