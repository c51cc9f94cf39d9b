// Who looks: the token of this tab. sessionStorage keeps it over reloads and forgets it with the tab;
// it leaves the page only in the Authorization header of requests to this server.

import { Client } from "../http/client.ts";

const KEY = "pageserver-token";

export const storedToken = (): string | undefined => sessionStorage.getItem(KEY) ?? undefined;

export function storeToken(token: string | undefined): void {
  if (token === undefined) sessionStorage.removeItem(KEY);
  else sessionStorage.setItem(KEY, token);
}

/** The API of the server that this page came from. */
export const clientOf = (token: string | undefined, tenant?: string): Client =>
  new Client(location.origin, tenant, token);

/** The tenant that a token is for; undefined: for all, or it says nothing. Not checked: the server does. */
export function tenantOfToken(token: string | undefined): string | undefined {
  const payload = token?.split(".")[1];
  if (payload === undefined) return undefined;
  try {
    const claims = JSON.parse(atob(payload.replaceAll("-", "+").replaceAll("_", "/"))) as {
      readonly tenant_id?: unknown;
    };
    return typeof claims.tenant_id === "string" ? claims.tenant_id : undefined;
  } catch {
    return undefined;
  }
}
