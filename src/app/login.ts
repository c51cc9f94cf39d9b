// Who may come in, on both ports: anybody, or who shows a token. One verifier for libpq's password
// and HTTP's bearer, and one certificate for both; both are reloaded together or not at all.

import path from "node:path";
import { type Config, isReachable } from "../config.ts";
import { type Result, err, ok } from "../core/result.ts";
import type { CheckToken } from "../http/authorize.ts";
import type { Management } from "../http/management.ts";
import type { TenantId, TimelineId } from "../core/ids.ts";
import { formatTime } from "../core/time-text.ts";
import { type OwnKey, ownKey } from "../io/own-tokens.ts";
import { systemClock } from "../io/clock.ts";
import { meters } from "../io/meters.ts";
import type { Log } from "../io/log.ts";
import { ServerTls } from "../io/tls.ts";
import { TokenVerifier } from "../io/tokens.ts";
import { type Authenticate, trust } from "../protocol/pg-handshake.ts";
import type { AdminError } from "../core/admin-error.ts";
import type { LiveSettings } from "./live-settings.ts";
import type { Reloaded, SettingsReload } from "../protocol/api-status.ts";

export interface Login {
  /** Of the page service. */
  readonly authenticate: Authenticate;
  /** Of the management API; undefined: no token is asked for. */
  readonly checkToken: CheckToken | undefined;
  /** What a compute that we boot shows to our page service; undefined: nothing is asked for. */
  readonly computeToken: (tenant: TenantId, timeline: TimelineId) => Promise<string | undefined>;
  /** Certificate and key of both ports; undefined: they speak in clear. */
  readonly tls: ServerTls | undefined;
  readonly reload: Management["reload"];
  /** As `reload`, with the outcome in the log. */
  readonly reloadLogged: () => Promise<void>;
}

/** Private key of the tokens that computes get, in the data directory. */
const OWN_KEY_FILE = "compute-key.pem";

/** Loads the keys and the certificate that the settings name. Throws KeysUnusable or TlsUnusable. */
export async function createLogin(
  config: Config,
  dataDir: string,
  log: Log,
  settings?: LiveSettings,
): Promise<Login> {
  const tls = await loadTls(config);
  if (tls === undefined && isReachable(config)) {
    log.warn(
      "tokens and pages travel in clear; set tls_cert and tls_key, or keep the network private",
    );
  }
  const verifier = await loadVerifier(config, dataDir);
  const reload = (): Promise<Result<Reloaded, AdminError>> =>
    reloadAll({ verifier: verifier?.verifier, tls, settings });
  const reloadLogged = async (): Promise<void> => {
    const reloaded = await reload();
    if (reloaded.ok)
      log.info(reloaded.value, "settings, public keys and certificate are read again");
    else log.error({ reason: reloaded.error }, "nothing is reloaded");
  };
  return { ...(verifier === undefined ? OPEN_DOOR : asking(verifier)), tls, reload, reloadLogged };
}

/** Undefined: the settings name no certificate. Throws TlsUnusable. */
export async function loadTls(config: Config): Promise<ServerTls | undefined> {
  const { tlsCert: certFile, tlsKey: keyFile, tlsRequired } = config;
  if (certFile === undefined || keyFile === undefined) return undefined;
  return ServerTls.load({ certFile, keyFile, policy: tlsRequired ? "required" : "offered" });
}

interface Verifier {
  readonly verifier: TokenVerifier;
  readonly own: OwnKey;
}

async function loadVerifier(config: Config, dataDir: string): Promise<Verifier | undefined> {
  if (config.authKeys === undefined) return undefined;
  const own = await ownKey(path.join(dataDir, OWN_KEY_FILE));
  const verifier = await TokenVerifier.load({
    keys: config.authKeys,
    audience: config.authAudience,
    clockSkewS: config.authClockSkewS,
    requireExpiry: config.authRequireExpiry,
    nowMs: systemClock.nowMs,
    own: own.publicKey,
  });
  return { verifier, own };
}

type Door = Pick<Login, "authenticate" | "checkToken" | "computeToken">;

function asking({ verifier, own }: Verifier): Door {
  const check: CheckToken = async (token) => {
    const checked = await verifier.check(token);
    if (checked.ok) meters.tokensAccepted++;
    else meters.tokensRefused++;
    return checked;
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
  };
}

const OPEN_DOOR: Door = {
  authenticate: trust,
  checkToken: undefined,
  computeToken: () => Promise.resolve(undefined),
};

/** Everything is read and checked before anything of it counts. */
async function reloadAll(what: {
  readonly verifier: TokenVerifier | undefined;
  readonly tls: ServerTls | undefined;
  readonly settings: LiveSettings | undefined;
}): Promise<Result<Reloaded, AdminError>> {
  const { verifier, tls, settings } = what;
  let changed: SettingsReload | undefined;
  try {
    const takeSettings = settings?.prepare();
    const prepared = await Promise.all([verifier?.prepare(), tls?.prepare()]);
    for (const takeOver of prepared) takeOver?.();
    changed = takeSettings?.();
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error);
    const message = `${why}; settings, keys and certificate stay as they were`;
    return err({ kind: "precondition", message });
  }
  return ok({
    keys: verifier?.keyCount ?? 0,
    ...(tls && { certificate_not_after: formatTime(tls.notAfterMs * 1000) }),
    ...(changed !== undefined && { settings: changed }),
  });
}
