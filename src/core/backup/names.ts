// Where everything lies in object storage. A name is never used for other bytes: it carries the
// generation of the server that wrote it, and for a layer the checksum of what is in it.
//
//   pageserver.json                                            this program's mark: core/backup/probe.ts
//   tenants/<tenant>/tenant.json                               generation, list of timelines; swapped
//   tenants/<tenant>/key.json                                  the tenant's key, wrapped by a master key
//   tenants/<tenant>/timelines/<timeline>/manifest.json        what counts; swapped
//   …/layers/<first key>-<last key>-<first LSN>-<last LSN>-<sequence>-<generation>-<CRC-32C>
//   …/wal/<generation>/<segment>                               a whole WAL segment, PostgreSQL's name and bytes
//   …/wal/<generation>/<segment>.<from>-<to>.part              a part of one that is not whole yet

import type { TenantId, TimelineId } from "../ids.ts";
import type { Lsn } from "../lsn.ts";

/** Number of an attachment of a tenant to a server; from 1 on. */
export type Generation = number;

const hex = (value: number, digits: number): string => value.toString(16).padStart(digits, "0");
const SEGMENTS_PER_ID = 256;

export const tenantPrefix = (tenant: TenantId): string => `tenants/${tenant}/`;
export const tenantName = (tenant: TenantId): string => `${tenantPrefix(tenant)}tenant.json`;
/** The tenant's key, wrapped: io/objects/tenant-keys.ts. */
export const keyName = (tenant: TenantId): string => `${tenantPrefix(tenant)}key.json`;
export const timelinesPrefix = (tenant: TenantId): string => `${tenantPrefix(tenant)}timelines/`;
export const timelinePrefix = (tenant: TenantId, timeline: TimelineId): string =>
  `${tenantPrefix(tenant)}timelines/${timeline}/`;
export const manifestName = (tenant: TenantId, timeline: TimelineId): string =>
  `${timelinePrefix(tenant, timeline)}manifest.json`;

/** What a layer's name is made of. */
export interface NamedLayer {
  readonly firstKey: string;
  readonly lastKey: string;
  readonly firstLsn: Lsn;
  readonly lastLsn: Lsn;
  readonly sequence: number;
  readonly crc: number;
}

/** Relative to the timeline's prefix, like all that follow. */
export function layerName(layer: NamedLayer, generation: Generation): string {
  const { firstKey, lastKey, firstLsn, lastLsn, sequence, crc } = layer;
  const lsns = `${hex(firstLsn, 16)}-${hex(lastLsn, 16)}`;
  return `layers/${firstKey}-${lastKey}-${lsns}-${hex(sequence, 8)}-${hex(generation, 8)}-${hex(crc, 8)}`;
}

/** "000000010000000000000002": as PostgreSQL names it, for 16 MiB segments. */
export function walSegmentName(tli: number, segment: number): string {
  const low = hex(segment % SEGMENTS_PER_ID, 8);
  return (hex(tli, 8) + hex(Math.floor(segment / SEGMENTS_PER_ID), 8) + low).toUpperCase();
}

export const segmentObject = (tli: number, segment: number, generation: Generation): string =>
  `wal/${hex(generation, 8)}/${walSegmentName(tli, segment)}`;

export const partObject = (
  tli: number,
  segment: number,
  generation: Generation,
  from: Lsn,
  to: Lsn,
): string => `${segmentObject(tli, segment, generation)}.${hex(from, 16)}-${hex(to, 16)}.part`;
