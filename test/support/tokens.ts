// Keys and tokens for tests of authentication, made as an operator would make them.

import { type KeyObject, generateKeyPairSync } from "node:crypto";
import { SignJWT } from "jose";

export interface TestKey {
  readonly algorithm: "EdDSA" | "RS256";
  readonly privateKey: KeyObject;
  readonly publicKey: KeyObject;
  /** The public key as PEM. */
  readonly pem: string;
}

export function ed25519Key(): TestKey {
  const { privateKey, publicKey } = generateKeyPairSync("ed25519");
  const pem = publicKey.export({ type: "spki", format: "pem" }).toString();
  return { algorithm: "EdDSA", privateKey, publicKey, pem };
}

export function rsaKey(bits = 2048): TestKey {
  const { privateKey, publicKey } = generateKeyPairSync("rsa", { modulusLength: bits });
  const pem = publicKey.export({ type: "spki", format: "pem" }).toString();
  return { algorithm: "RS256", privateKey, publicKey, pem };
}

export interface TokenTimes {
  /** Seconds from `nowS`; undefined: no such claim. */
  readonly expiresInS?: number | undefined;
  readonly notBeforeInS?: number;
  readonly nowS?: number;
  readonly kid?: string;
}

/** A signed token with these claims; it expires in an hour unless `times` says otherwise. */
export function sign(
  key: TestKey,
  claims: Readonly<Record<string, unknown>>,
  times: TokenTimes = {},
): Promise<string> {
  const nowS = times.nowS ?? Math.floor(Date.now() / 1000);
  const { expiresInS, notBeforeInS, kid } = { expiresInS: 3600, ...times };
  const jwt = new SignJWT({ ...claims }).setProtectedHeader({
    alg: key.algorithm,
    ...(kid !== undefined && { kid }),
  });
  if (expiresInS !== undefined) jwt.setExpirationTime(nowS + expiresInS);
  if (notBeforeInS !== undefined) jwt.setNotBefore(nowS + notBeforeInS);
  return jwt.sign(key.privateKey);
}
