// Checks JSON web tokens against public keys from a PEM file, a directory of them, or a JWKS (file
// or URL). Each key serves one algorithm, told by its type and never by the token: Ed25519 is EdDSA,
// RSA is RS256. Reloading is all or nothing: a set that cannot be read whole leaves the old one.

import { type JsonWebKey, type KeyObject, createPublicKey } from "node:crypto";
import fs from "node:fs/promises";
import path from "node:path";
import { decodeProtectedHeader, errors, jwtVerify } from "jose";
import { MalformedInput } from "../core/assert.ts";
import { AUTH_KEYS_MAX, AUTH_KEYS_MS_MAX, AUTH_KEY_BYTES_MAX } from "../core/limits.ts";
import { type Claims, parseClaims } from "../core/permission.ts";
import { type Result, err, ok } from "../core/result.ts";
import { OWN_KID } from "./own-tokens.ts";

/** Public keys cannot be loaded; the sentence names the file or URL. */
export class KeysUnusable extends Error {
  override readonly name = "KeysUnusable";
}

export interface TokenOptions {
  /** PEM file, directory of `*.pem`, JWKS file (`*.json`), or http(s) URL of a JWKS. */
  readonly keys: string;
  /** What `aud` has to contain; undefined: `aud` is not looked at. */
  readonly audience: string | undefined;
  /** Clocks may differ by so many seconds. */
  readonly clockSkewS: number;
  /** Tokens without `exp` are refused. */
  readonly requireExpiry: boolean;
  readonly nowMs: () => number;
  /** Of the tokens that we give out ourselves; undefined: none. */
  readonly own?: KeyObject;
}

interface VerificationKey {
  readonly key: KeyObject;
  readonly algorithm: "EdDSA" | "RS256";
  readonly kid: string | undefined;
}

const RSA_BITS_MIN = 2048;

export class TokenVerifier {
  private readonly options: TokenOptions;
  private keys: readonly VerificationKey[];

  private constructor(options: TokenOptions, keys: readonly VerificationKey[]) {
    this.options = options;
    this.keys = keys;
  }

  /** Throws KeysUnusable. */
  static async load(options: TokenOptions): Promise<TokenVerifier> {
    return new TokenVerifier(options, await loadKeys(options.keys));
  }

  /** Public keys in use. */
  get keyCount(): number {
    return this.keys.length;
  }

  /** Reads the keys that are there now; what it gives makes them count. Throws KeysUnusable. */
  async prepare(): Promise<() => void> {
    const next = await loadKeys(this.options.keys);
    return () => void (this.keys = next);
  }

  /** The claims of a good token, or why it is not one: a sentence without any part of the token. */
  async check(token: string): Promise<Result<Claims, string>> {
    try {
      const { alg, kid } = decodeProtectedHeader(token);
      const { own } = this.options;
      if (kid === OWN_KID && own !== undefined) {
        const { payload } = await jwtVerify(token, own, { algorithms: ["EdDSA"] });
        return ok(parseClaims(payload));
      }
      const candidates = this.keys.filter(
        (key) =>
          key.algorithm === alg && (kid === undefined || key.kid === undefined || key.kid === kid),
      );
      if (candidates.length === 0) {
        return err("no key of this server has the token's algorithm and key id");
      }
      return ok(parseClaims(await this.verified(token, candidates)));
    } catch (error) {
      if (error instanceof MalformedInput) return err(error.message);
      return err(refusal(error));
    }
  }

  private async verified(
    token: string,
    candidates: readonly VerificationKey[],
  ): Promise<Readonly<Record<string, unknown>>> {
    const { audience, clockSkewS, requireExpiry, nowMs } = this.options;
    let last: unknown;
    for (const { key, algorithm } of candidates) {
      try {
        const { payload } = await jwtVerify(token, key, {
          algorithms: [algorithm],
          clockTolerance: clockSkewS,
          currentDate: new Date(nowMs()),
          requiredClaims: requireExpiry ? ["exp"] : [],
          ...(audience !== undefined && { audience }),
        });
        return payload;
      } catch (error) {
        last = error;
        // Another key of the same algorithm may have signed it; anything else is final.
        if (!(error instanceof errors.JWSSignatureVerificationFailed)) throw error;
      }
    }
    throw last;
  }
}

function refusal(error: unknown): string {
  if (error instanceof errors.JWTExpired) return "the token has expired";
  if (error instanceof errors.JWSSignatureVerificationFailed) return "the signature is wrong";
  if (error instanceof errors.JWTClaimValidationFailed) {
    if (error.reason === "missing") return `the token has no ${error.claim}`;
    if (error.claim === "nbf") return "the token is not valid yet";
    if (error.claim === "aud") return "the token is for another audience";
    return `the token's ${error.claim} is wrong`;
  }
  return "this is not a signed token";
}

async function loadKeys(source: string): Promise<readonly VerificationKey[]> {
  try {
    const keys = await readKeys(source);
    if (keys.length === 0) throw new KeysUnusable("holds no Ed25519 or RSA key for signatures");
    if (keys.length > AUTH_KEYS_MAX)
      throw new KeysUnusable(`holds more than ${AUTH_KEYS_MAX} keys`);
    return keys;
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error);
    throw new KeysUnusable(`public keys "${source}": ${why}`);
  }
}

async function readKeys(source: string): Promise<readonly VerificationKey[]> {
  if (/^https?:\/\//i.test(source)) return parseJwks(await fetchText(source));
  if (!(await fs.stat(source)).isDirectory()) return parseFile(source, await readText(source));
  const names = (await fs.readdir(source)).filter((name) => name.endsWith(".pem")).sort();
  const keys: VerificationKey[] = [];
  for (const name of names.slice(0, AUTH_KEYS_MAX + 1)) {
    const file = path.join(source, name);
    keys.push(...parseFile(file, await readText(file)));
  }
  return keys;
}

function parseFile(file: string, text: string): readonly VerificationKey[] {
  try {
    if (text.trimStart().startsWith("{")) return parseJwks(text);
    // A private key would do as well, which is why it must be said that it lies in the wrong place.
    if (text.includes("PRIVATE KEY")) throw new KeysUnusable("this is a private key");
    const key = usable(createPublicKey(text), undefined);
    if (key === undefined) throw new KeysUnusable("not an Ed25519 key, and not an RSA key");
    return [key];
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error);
    throw new KeysUnusable(`${path.basename(file)}: ${why}`);
  }
}

/** Keys of other types and uses are no concern of ours; secrets are. */
function parseJwks(text: string): readonly VerificationKey[] {
  const set = JSON.parse(text) as { readonly keys?: unknown };
  if (!Array.isArray(set.keys)) throw new KeysUnusable('not a JWKS: it has no array "keys"');
  const found: VerificationKey[] = [];
  for (const jwk of set.keys as readonly JsonWebKey[]) {
    if (jwk.kty === "oct" || jwk.d !== undefined) {
      throw new KeysUnusable("the JWKS holds a secret or private key");
    }
    if (jwk["use"] !== undefined && jwk["use"] !== "sig") continue;
    if (jwk.kty !== "RSA" && !(jwk.kty === "OKP" && jwk.crv === "Ed25519")) continue;
    const { kid, alg } = jwk as { readonly kid?: unknown; readonly alg?: unknown };
    const key = usable(
      createPublicKey({ key: jwk, format: "jwk" }),
      typeof kid === "string" ? kid : undefined,
    );
    if (key === undefined || (alg !== undefined && alg !== key.algorithm)) continue;
    found.push(key);
  }
  return found;
}

function usable(key: KeyObject, kid: string | undefined): VerificationKey | undefined {
  if (key.asymmetricKeyType === "ed25519") return { key, algorithm: "EdDSA", kid };
  if (key.asymmetricKeyType !== "rsa") return undefined;
  const bits = key.asymmetricKeyDetails?.modulusLength ?? 0;
  if (bits < RSA_BITS_MIN) {
    throw new KeysUnusable(`an RSA key of ${bits} bits; at least ${RSA_BITS_MIN} are wanted`);
  }
  return { key, algorithm: "RS256", kid };
}

async function readText(file: string): Promise<string> {
  const { size } = await fs.stat(file);
  if (size > AUTH_KEY_BYTES_MAX) {
    throw new KeysUnusable(`${path.basename(file)}: more than ${AUTH_KEY_BYTES_MAX} bytes`);
  }
  return fs.readFile(file, "utf8");
}

async function fetchText(url: string): Promise<string> {
  const response = await fetch(url, { signal: AbortSignal.timeout(AUTH_KEYS_MS_MAX) });
  if (!response.ok) throw new KeysUnusable(`HTTP status ${response.status}`);
  const chunks: Uint8Array[] = [];
  let size = 0;
  for await (const chunk of response.body ?? []) {
    const bytes = chunk as Uint8Array;
    size += bytes.length;
    if (size > AUTH_KEY_BYTES_MAX) throw new KeysUnusable(`more than ${AUTH_KEY_BYTES_MAX} bytes`);
    chunks.push(bytes);
  }
  return Buffer.concat(chunks).toString("utf8");
}
