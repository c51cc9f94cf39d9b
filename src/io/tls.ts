// Certificate and private key that both ports show, from two PEM files. Reloading is in two steps,
// so that several things can be reloaded together or not at all: `prepare` reads and checks, what it
// gives back takes over. Links that exist go on with what they began with.

import { X509Certificate, constants, createPrivateKey } from "node:crypto";
import fs from "node:fs/promises";
import { type SecureContext, createSecureContext } from "node:tls";
import { TLS_FILE_BYTES_MAX } from "../core/limits.ts";
import type { TlsPolicy } from "../protocol/pg-handshake.ts";

/** Certificate or key cannot be used; the sentence names the file and what is wrong. */
export class TlsUnusable extends Error {
  override readonly name = "TlsUnusable";
}

/** TLS of a listener's links. */
export interface LinkTls {
  readonly policy: Exclude<TlsPolicy, "none">;
  /** Certificate and key for a new link. */
  readonly context: SecureContext;
}

export interface TlsOptions {
  /** The server's certificate and, after it, those that lead to the root. */
  readonly certFile: string;
  /** Its private key, without a passphrase. */
  readonly keyFile: string;
  /** Of the page service. */
  readonly policy: LinkTls["policy"];
}

/** What Node's servers and sockets are given. */
export interface TlsMaterial {
  readonly cert: string;
  readonly key: string;
  readonly minVersion: "TLSv1.2";
  readonly secureOptions: number;
}

interface Loaded {
  readonly material: TlsMaterial;
  readonly context: SecureContext;
  readonly notAfterMs: number;
}

export class ServerTls implements LinkTls {
  private readonly options: TlsOptions;
  private loaded: Loaded;
  private readonly onChange: ((material: TlsMaterial) => void)[] = [];

  private constructor(options: TlsOptions, loaded: Loaded) {
    this.options = options;
    this.loaded = loaded;
  }

  /** Throws TlsUnusable. */
  static async load(options: TlsOptions): Promise<ServerTls> {
    return new ServerTls(options, await load(options));
  }

  get policy(): LinkTls["policy"] {
    return this.options.policy;
  }

  get context(): SecureContext {
    return this.loaded.context;
  }

  get material(): TlsMaterial {
    return this.loaded.material;
  }

  /** The end of the certificate's validity, Unix ms. */
  get notAfterMs(): number {
    return this.loaded.notAfterMs;
  }

  /** Hears of every change. */
  changed(listener: (material: TlsMaterial) => void): void {
    this.onChange.push(listener);
  }

  /** Reads the files again. What it gives makes new links use them. Throws TlsUnusable. */
  async prepare(): Promise<() => void> {
    const next = await load(this.options);
    return () => {
      this.loaded = next;
      for (const listener of this.onChange) listener(next.material);
    };
  }
}

async function load({ certFile, keyFile }: TlsOptions): Promise<Loaded> {
  const cert = await readPem(certFile, "certificate");
  await refuseReadable(keyFile);
  const key = await readPem(keyFile, "private key");
  const certificate = parsed(certFile, "certificate", () => new X509Certificate(cert));
  const privateKey = parsed(keyFile, "private key", () => createPrivateKey(key));
  if (!certificate.checkPrivateKey(privateKey)) {
    throw new TlsUnusable(`private key ${keyFile} does not belong to certificate ${certFile}`);
  }
  const secureOptions = constants.SSL_OP_NO_RENEGOTIATION | constants.SSL_OP_NO_COMPRESSION;
  const material = { cert, key, minVersion: "TLSv1.2", secureOptions } as const;
  const context = parsed(certFile, "certificate", () => createSecureContext(material));
  return { material, context, notAfterMs: Date.parse(certificate.validTo) };
}

async function readPem(file: string, what: string): Promise<string> {
  try {
    const { size } = await fs.stat(file);
    if (size > TLS_FILE_BYTES_MAX) throw new Error(`more than ${TLS_FILE_BYTES_MAX} bytes`);
    return await fs.readFile(file, "utf8");
  } catch (error) {
    throw new TlsUnusable(`${what} ${file} cannot be read: ${textOf(error)}`);
  }
}

/** As PostgreSQL has it: nobody else may read the key, or root's may be read by a group of ours. */
async function refuseReadable(file: string): Promise<void> {
  const stat = await fs.stat(file).catch(() => undefined);
  if (stat === undefined) return;
  const forbidden = stat.uid === 0 && process.getuid?.() !== 0 ? 0o027 : 0o077;
  if ((stat.mode & forbidden) === 0) return;
  const mode = (stat.mode & 0o777).toString(8);
  throw new TlsUnusable(`private key ${file} may be read by others (mode ${mode}); chmod 0600 it`);
}

/** OpenSSL's errors say little and may say much: only the kind of failure is passed on. */
function parsed<T>(file: string, what: string, parse: () => T): T {
  try {
    return parse();
  } catch (error) {
    const code = error instanceof Error && "code" in error ? ` (${String(error.code)})` : "";
    throw new TlsUnusable(`${file} holds no usable ${what} in PEM${code}`);
  }
}

const textOf = (error: unknown): string => (error instanceof Error ? error.message : String(error));
