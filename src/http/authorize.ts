// Who may use which route. Each route says in its `config.permission` what it needs; what says
// nothing needs everything. The token is checked when a request's head is in, before its body is
// read; every decision is core's `checkPermission`. Requests that change something are handed to
// the audit log with the outcome.

import type { FastifyReply, FastifyRequest } from "fastify";
import { type Claims, NOBODY, type Need, TRUSTED, checkPermission } from "../core/permission.ts";
import type { Result } from "../core/result.ts";
import { errorBody } from "./errors.ts";
import type { Management } from "./management.ts";
import { parseTenantRef, parseTimelineRef } from "./params.ts";
import type { App } from "./server.ts";

/**
 * `read` and `change`: of the tenant, and of the timeline if there is one, that the path names.
 * `manage`: the whole server. `open`: anybody; the handler shows only what anybody may see.
 */
export type RoutePermission = "open" | "read" | "change" | "manage";

declare module "fastify" {
  interface FastifyContextConfig {
    permission?: RoutePermission;
  }
  interface FastifyRequest {
    /** Of the request's bearer; null before it is known. */
    claims: Claims | null;
  }
}

/** Checks a bearer's token. */
export type CheckToken = (token: string) => Promise<Result<Claims, string>>;

/** One request that changed something or was refused. No query, no body: they may hold secrets. */
export interface AuditEntry {
  readonly method: string;
  readonly path: string;
  readonly status: number;
  readonly peer: string;
  readonly scope: Claims["scope"];
  readonly tenant: string | undefined;
}

export interface Authorization {
  /** Undefined: nobody has to show a token. */
  readonly checkToken: CheckToken | undefined;
  readonly audit: (entry: AuditEntry) => void;
  /** Hears of every route that is added. */
  readonly onRoute: (route: RouteInfo) => void;
}

export interface RouteInfo {
  readonly method: string;
  readonly path: string;
  /** Undefined: it says nothing, so it needs everything. */
  readonly permission: RoutePermission | undefined;
}

const BEARER = /^Bearer +([A-Za-z0-9._~+/=-]+) *$/i;

/** Has to be called before the routes are added. */
export function authorize(app: App, management: Management, options: Authorization): void {
  app.decorateRequest("claims", null);
  app.addHook("onRoute", ({ method, url, config }) => {
    for (const one of [method].flat()) {
      options.onRoute({ method: one, path: url, permission: config?.permission });
    }
  });
  app.addHook("onRequest", async (request, reply) => {
    const permission = permissionOf(request);
    const found = await claimsOf(request, options.checkToken);
    if (!found.ok) {
      if (permission !== "open") return refuse(reply, 401, found.error);
      request.claims = NOBODY;
      return undefined;
    }
    request.claims = found.value;
    if (permission === "open") return undefined;
    const allowed = checkPermission(found.value, needOf(request, permission, management));
    return allowed.ok ? undefined : refuse(reply, 403, allowed.error);
  });
  app.addHook("onResponse", (request, reply, done) => {
    const { method } = request;
    const refused = reply.statusCode === 401 || reply.statusCode === 403;
    if (refused || (method !== "GET" && method !== "HEAD")) options.audit(entryOf(request, reply));
    done();
  });
}

/** What the bearer of a request that got through may do. */
export const claimsOfRequest = (request: FastifyRequest): Claims => request.claims ?? NOBODY;

export const permissionOf = (request: FastifyRequest): RoutePermission =>
  request.routeOptions.config.permission ?? "manage";

async function claimsOf(
  request: FastifyRequest,
  check: CheckToken | undefined,
): Promise<Result<Claims, string>> {
  if (check === undefined) return { ok: true, value: TRUSTED };
  const header = request.headers.authorization;
  if (header === undefined) return { ok: false, error: "this needs a token" };
  const token = BEARER.exec(header)?.[1];
  if (token === undefined) return { ok: false, error: "expected Authorization: Bearer <token>" };
  return check(token);
}

function needOf(
  request: FastifyRequest,
  kind: Exclude<RoutePermission, "open">,
  management: Management,
): Need {
  if (kind === "manage") return { kind };
  const params = request.params as { readonly tenant?: string; readonly timeline?: string };
  if (params.tenant === undefined) return { kind: "manage" };
  const { tenant, timeline } = management.resolve(
    parseTenantRef(params.tenant),
    params.timeline === undefined ? undefined : parseTimelineRef(params.timeline),
  );
  // The default tenant, while there is none: whoever may use it would be making it.
  return tenant === undefined ? { kind: "manage" } : { kind, tenant, timeline };
}

function refuse(reply: FastifyReply, status: 401 | 403, why: string): FastifyReply {
  if (status === 401) reply.header("www-authenticate", "Bearer");
  return reply.code(status).send(errorBody(`JWT authentication error: ${why}`));
}

function entryOf(request: FastifyRequest, reply: FastifyReply): AuditEntry {
  const claims = claimsOfRequest(request);
  return {
    method: request.method,
    path: request.url.split("?")[0]!.slice(0, 300),
    status: reply.statusCode,
    peer: `${request.socket.remoteAddress ?? "?"}:${request.socket.remotePort ?? 0}`,
    scope: claims.scope,
    tenant: "tenant" in claims ? claims.tenant : undefined,
  };
}
