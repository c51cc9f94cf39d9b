// Who may come in, on both ports: anybody, or who shows a token. One verifier for libpq's password
// and HTTP's bearer, so that its keys are reloaded once.

import path from "node:path";
import type { Config } from "../config.ts";
import { type Result, err, ok } from "../core/result.ts";
import type { CheckToken } from "../http/authorize.ts";
import type { Management } from "../http/management.ts";
import type { TenantId, TimelineId } from "../core/ids.ts";
import { ownKey } from "../io/own-tokens.ts";
import { systemClock } from "../io/clock.ts";
import { meters } from "../io/meters.ts";
import type { Log } from "../io/log.ts";
import { TokenVerifier } from "../io/tokens.ts";
import { type Authenticate, trust } from "../protocol/pg-handshake.ts";
import type { AdminError } from "../core/admin-error.ts";
import type { ReloadedKeys } from "../protocol/api-status.ts";

export interface Login {
  /** Of the page service. */
  readonly authenticate: Authenticate;
  /** Of the management API; undefined: no token is asked for. */
  readonly checkToken: CheckToken | undefined;
  /** What a compute that we boot shows to our page service; undefined: nothing is asked for. */
  readonly computeToken: (tenant: TenantId, timeline: TimelineId) => Promise<string | undefined>;
  readonly reloadKeys: Management["reloadKeys"];
  /** As `reloadKeys`, with the outcome in the log. */
  readonly reload: () => Promise<void>;
}

/** Private key of the tokens that computes get, in the data directory. */
const OWN_KEY_FILE = "compute-key.pem";

/** Loads the keys that the settings name. Throws KeysUnusable. */
export async function createLogin(config: Config, dataDir: string, log: Log): Promise<Login> {
  if (config.authKeys === undefined) return openDoor(log);
  const own = await ownKey(path.join(dataDir, OWN_KEY_FILE));
  const verifier = await TokenVerifier.load({
    keys: config.authKeys,
    audience: config.authAudience,
    clockSkewS: config.authClockSkewS,
    requireExpiry: config.authRequireExpiry,
    nowMs: systemClock.nowMs,
    own: own.publicKey,
  });
  const check: CheckToken = async (token) => {
    const checked = await verifier.check(token);
    if (checked.ok) meters.tokensAccepted++;
    else meters.tokensRefused++;
    return checked;
  };
  const reloadKeys = async (): Promise<Result<ReloadedKeys, AdminError>> => {
    try {
      return ok({ keys: await verifier.reload() });
    } catch (error) {
      const message = error instanceof Error ? error.message : String(error);
      return err({ kind: "precondition", message: `${message}; the keys stay as they were` });
    }
  };
  return {
    authenticate: () => ({
      kind: "ask-password",
      check: async (password) => {
        const checked = await check(password);
        return checked.ok ? checked : err(`JWT authentication error: ${checked.error}`);
      },
    }),
    checkToken: check,
    computeToken: (tenant, timeline) => own.sign(tenant, timeline),
    reloadKeys,
    reload: async () => {
      const reloaded = await reloadKeys();
      if (reloaded.ok) log.info({ keys: reloaded.value.keys }, "public keys are read again");
      else log.error({ reason: reloaded.error }, "public keys could not be read again");
    },
  };
}

function openDoor(log: Log): Login {
  const message = "no token is asked for here, so there are no keys (auth_keys)";
  return {
    authenticate: trust,
    checkToken: undefined,
    computeToken: () => Promise.resolve(undefined),
    reloadKeys: () => Promise.resolve(err({ kind: "precondition", message })),
    reload: () => Promise.resolve(log.info(message)),
  };
}
