// Who may do what: the one place where it is decided. Every command of the page service and every
// route of the management API says what it needs and asks `checkPermission`; a token's claims are
// parsed once, when its bearer comes in. Scopes `tenant` and `pageserverapi` are Neon's
// (libs/utils/src/auth.rs); `tenant:read` and `timeline_id` are ours and only ever take away.

import { MalformedInput, unreachable } from "./assert.ts";
import { type TenantId, type TimelineId, parseTenantId, parseTimelineId } from "./ids.ts";
import { type Result, err, ok } from "./result.ts";

export type Claims =
  /** Nobody has to show a token here. No token can say this of itself. */
  | { readonly scope: "trusted" }
  /** Nobody yet. */
  | { readonly scope: "nobody" }
  /** Every tenant, and what belongs to none. */
  | { readonly scope: "pageserverapi" }
  /** One tenant; `timeline` undefined: all of its timelines. `tenant:read` changes nothing. */
  | {
      readonly scope: "tenant" | "tenant:read";
      readonly tenant: TenantId;
      readonly timeline: TimelineId | undefined;
    };

export const TRUSTED: Claims = { scope: "trusted" };
export const NOBODY: Claims = { scope: "nobody" };

/** What an action is about. */
export type Need =
  /** The whole program, or things outside of it: its processes, files and connections. */
  | { readonly kind: "manage" }
  | {
      readonly kind: "read" | "change";
      readonly tenant: TenantId;
      /** Undefined: the tenant as a whole, for example the list of its timelines. */
      readonly timeline: TimelineId | undefined;
    };

/** Whether the bearer of `claims` may do it. The error says why not, without naming other tenants. */
export function checkPermission(claims: Claims, need: Need): Result<undefined, string> {
  switch (claims.scope) {
    case "trusted":
    case "pageserverapi":
      return ok(undefined);
    case "nobody":
      return err("no token was shown");
    case "tenant":
    case "tenant:read":
      if (need.kind === "manage") return err(`scope ${claims.scope} does not manage the server`);
      if (need.tenant !== claims.tenant) return err("the token is for another tenant");
      if (claims.timeline !== undefined && need.timeline !== claims.timeline) {
        return err("the token is for one timeline, and not for this");
      }
      if (need.kind === "change" && claims.scope !== "tenant") {
        return err("the token is for reading only");
      }
      return ok(undefined);
    default:
      return unreachable(claims);
  }
}

/**
 * The claims of a token whose signature and times are good. Throws MalformedInput: an unknown scope
 * permits nothing here, and a tenant's scope without a tenant would be nobody's.
 */
export function parseClaims(payload: Readonly<Record<string, unknown>>): Claims {
  const { scope, tenant_id: tenant, timeline_id: timeline } = payload;
  switch (scope) {
    case "pageserverapi":
      if (timeline !== undefined) throw new MalformedInput("timeline_id needs a tenant's scope");
      return { scope };
    case "tenant":
    case "tenant:read":
      return {
        scope,
        tenant: parseTenantId(text(tenant, "tenant_id")),
        timeline:
          timeline === undefined ? undefined : parseTimelineId(text(timeline, "timeline_id")),
      };
    default:
      throw new MalformedInput(`scope ${JSON.stringify(scope)?.slice(0, 40)} permits nothing here`);
  }
}

function text(value: unknown, name: string): string {
  if (typeof value === "string") return value;
  throw new MalformedInput(`the token has no ${name}`);
}
