// Names of tenants and timelines: 16 random bytes, written as 32 lower-case hex characters.

import { MalformedInput } from "./assert.ts";
import type { Brand } from "./brand.ts";

export type TenantId = Brand<string, "TenantId">;
export type TimelineId = Brand<string, "TimelineId">;

const HEX32 = /^[0-9a-f]{32}$/;

/** Parses 32 hex characters (either case). Throws MalformedInput. */
export function parseTenantId(text: string): TenantId {
  const id = text.toLowerCase();
  if (!HEX32.test(id)) throw new MalformedInput(`not a tenant id (32 hex characters): "${text}"`);
  return id as TenantId;
}

/** Parses 32 hex characters (either case). Throws MalformedInput. */
export function parseTimelineId(text: string): TimelineId {
  const id = text.toLowerCase();
  if (!HEX32.test(id)) throw new MalformedInput(`not a timeline id (32 hex characters): "${text}"`);
  return id as TimelineId;
}
