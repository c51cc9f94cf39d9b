// Tokens that the server itself gives to the computes it boots: for one timeline, without an end,
// because a compute outlives the server. Signed with a key that never leaves the data directory;
// whoever takes that file away makes them all worthless at the next start.

import {
  type KeyObject,
  createPrivateKey,
  createPublicKey,
  generateKeyPairSync,
} from "node:crypto";
import fs from "node:fs/promises";
import { SignJWT } from "jose";
import type { TenantId, TimelineId } from "../core/ids.ts";

/** Key id of these tokens; no other key is tried for it. */
export const OWN_KID = "pageserver-own";

export interface OwnKey {
  readonly publicKey: KeyObject;
  sign(tenant: TenantId, timeline: TimelineId): Promise<string>;
}

/** The key in `file`, made when there is none. */
export async function ownKey(file: string): Promise<OwnKey> {
  const privateKey = createPrivateKey(await readOrMake(file));
  return {
    publicKey: createPublicKey(privateKey),
    sign: (tenant, timeline) =>
      new SignJWT({ scope: "tenant", tenant_id: tenant, timeline_id: timeline })
        .setProtectedHeader({ alg: "EdDSA", kid: OWN_KID })
        .sign(privateKey),
  };
}

async function readOrMake(file: string): Promise<string> {
  try {
    return await fs.readFile(file, "utf8");
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "ENOENT") throw error;
  }
  const { privateKey } = generateKeyPairSync("ed25519");
  const pem = privateKey.export({ type: "pkcs8", format: "pem" }).toString();
  // Whole or not at all: a start that is cut short must not leave half a key.
  await fs.writeFile(`${file}.new`, pem, { mode: 0o600 });
  await fs.rename(`${file}.new`, file);
  return pem;
}
