// What a name in object storage stands for: names.ts read backwards. A name that nothing of ours makes
// is none; whoever walks a place leaves it alone.

import { type TenantId, type TimelineId, parseTenantId, parseTimelineId } from "../ids.ts";
import { WAL_SEGMENT_BYTES } from "../lsn.ts";
import type { Generation } from "./names.ts";
import { MARKER_NAME } from "./probe.ts";

export type NamedObject =
  | { readonly kind: "mark" | "probe" }
  | { readonly kind: "tenant" | "key"; readonly tenant: TenantId }
  | { readonly kind: "manifest"; readonly tenant: TenantId; readonly timeline: TimelineId }
  | {
      readonly kind: "layer" | "wal";
      readonly tenant: TenantId;
      readonly timeline: TimelineId;
      /** Of the server that wrote it. */
      readonly generation: Generation;
      /** Relative to the timeline's prefix. */
      readonly name: string;
    };

const TENANT = /^tenants\/([0-9a-f]{32})\/(tenant|key)\.json$/;
const TIMELINE = /^tenants\/([0-9a-f]{32})\/timelines\/([0-9a-f]{32})\/(.+)$/;
const LAYER = /^layers\/(?:[0-9a-f]+-){5}([0-9a-f]{8})-[0-9a-f]{8}$/;
const WAL = /^wal\/([0-9a-f]{8})\/[0-9A-F]{24}(?:\.[0-9a-f]{16}-[0-9a-f]{16}\.part)?$/;

/** Undefined: not a name of ours. */
export function parseObjectName(name: string): NamedObject | undefined {
  if (name === MARKER_NAME) return { kind: "mark" };
  if (name.startsWith("probe/")) return { kind: "probe" };
  const [, owner, what] = TENANT.exec(name) ?? [];
  if (owner !== undefined) {
    return { kind: what === "key" ? "key" : "tenant", tenant: parseTenantId(owner) };
  }
  const [, tenantText, timelineText, rest] = TIMELINE.exec(name) ?? [];
  if (tenantText === undefined || timelineText === undefined || rest === undefined) {
    return undefined;
  }
  const tenant = parseTenantId(tenantText);
  const timeline = parseTimelineId(timelineText);
  if (rest === "manifest.json") return { kind: "manifest", tenant, timeline };
  const kind = rest.startsWith("layers/") ? "layer" : "wal";
  const [, written] = (kind === "layer" ? LAYER : WAL).exec(rest) ?? [];
  if (written === undefined) return undefined;
  return { kind, tenant, timeline, generation: parseInt(written, 16), name: rest };
}

const SEGMENT = /^wal\/[0-9a-f]{8}\/[0-9A-F]{8}([0-9A-F]{8})([0-9A-F]{8})/;

/** LSN behind the segment that an object of WAL belongs to; undefined: it holds no WAL. */
export function segmentEnd(name: string): number | undefined {
  const [, high, low] = SEGMENT.exec(name) ?? [];
  if (high === undefined || low === undefined) return undefined;
  return parseInt(high, 16) * 2 ** 32 + (parseInt(low, 16) + 1) * WAL_SEGMENT_BYTES;
}
