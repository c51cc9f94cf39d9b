// What the catalog of a tenant holds, as values that were validated when they were read. JSON, so
// that a person can read it; strict, so that nothing unknown is silently dropped by an older program.

import { z } from "zod";
import { LAYER_PINS_MAX } from "../core/limits.ts";
import { type TenantId, type TimelineId, parseTenantId, parseTimelineId } from "../core/ids.ts";
import { countField, crcField, keyField, lsnField } from "./layer-header.ts";

const timelineId = z.string().transform((text): TimelineId => parseTimelineId(text));
const timeMs = z.number().int().nonnegative();

export const tenantEntry = z.strictObject({
  id: z.string().transform((text): TenantId => parseTenantId(text)),
  createdAtMs: timeMs,
});
export type TenantEntry = Readonly<z.infer<typeof tenantEntry>>;

/** Where a timeline's WAL comes from. */
export const walSource = z.strictObject({
  kind: z.enum(["primary", "compute", "safekeeper"]),
  /** A connection URI or string. May hold a password: never logged. */
  conninfo: z.string(),
  /** Physical replication slot; undefined where there is none (safekeeper). */
  slot: z.string().optional(),
});
export type WalSource = Readonly<z.infer<typeof walSource>>;

export const timelineEntry = z.strictObject({
  id: timelineId,
  /** Unique in the tenant. */
  name: z.string().min(1).max(63),
  ancestor: z.strictObject({ id: timelineId, lsn: lsnField }).optional(),
  /** Major version of PostgreSQL, e.g. 15. */
  pgVersion: z.number().int().positive(),
  /** PostgreSQL's timeline id of its WAL. */
  tli: z.number().int().positive().max(0xffff_ffff),
  /** pg_control's system identifier: a u64 in decimal. */
  systemId: z.string().regex(/^\d{1,20}$/),
  /** LSN of the imported pages (initdb, base backup); of the branch point for a branch. */
  baseLsn: lsnField,
  /** Reads below are refused: a base backup is consistent only from its stop LSN on. */
  readableFrom: lsnField,
  /** Everything up to here is in sealed layers; WAL is replayed from here on. */
  sealedLsn: lsnField,
  /** Reads below are refused unless pinned; what they would need may be gone. None yet: undefined. */
  cutoff: lsnField.optional(),
  /** Start of the last record that ends at or below sealedLsn; 0 if unknown. */
  sealedPrev: lsnField,
  /** I14: bytes of all relations as of sealedLsn. Unknown until the first layer with WAL is sealed. */
  sealedLogicalSize: countField.optional(),
  /** importing: its base is not complete, after a restart it begins anew or is removed. */
  state: z.enum(["importing", "active", "broken"]),
  brokenReason: z.string().optional(),
  source: walSource.optional(),
  /** How many computes have been started on it; only the last one writes and reads. None yet: undefined. */
  generation: countField.optional(),
  createdAtMs: timeMs,
});
export type TimelineEntry = Readonly<z.infer<typeof timelineEntry>>;

export const layerEntry = z.strictObject({
  /** File name in the timeline's layers directory. */
  file: z.string().regex(/^[0-9A-Za-z._-]+\.layer$/),
  timeline: timelineId,
  /** Order of layers: of two that hold a key, the one with the higher number is newer. */
  sequence: countField,
  firstLsn: lsnField,
  lastLsn: lsnField,
  firstKey: keyField,
  lastKey: keyField,
  /** Size of the file and CRC-32C of all its bytes. */
  bytes: countField,
  crc: crcField,
  keys: countField,
  runs: countField,
  versions: countField,
  /** Bit n: some key is of kind n. */
  kinds: countField,
  /** Merged: of what lies at or below this LSN, only what was needed then was carried over. */
  reducedTo: lsnField.optional(),
  /** LSNs below it that somebody read then; unknown when they were too many. */
  pins: z.array(lsnField).max(LAYER_PINS_MAX).optional(),
  /** Sealed, not merged: the most records of it that a read of its newest versions applies. */
  chainRecords: countField.optional(),
  createdAtMs: timeMs,
  /** Where it lies in object storage, once a manifest there names it: core/backup/names.ts. */
  object: z.strictObject({ name: z.string().min(1).max(400), bytes: countField }).optional(),
});
export type LayerEntry = Readonly<z.infer<typeof layerEntry>>;

export const leaseEntry = z.strictObject({
  timeline: timelineId,
  lsn: lsnField,
  owner: z.string().max(200),
  expiresAtMs: timeMs,
});
export type LeaseEntry = Readonly<z.infer<typeof leaseEntry>>;

/** A moment that is kept under a name until it is deleted. */
export const snapshotEntry = z.strictObject({
  timeline: timelineId,
  /** Unique in the timeline. */
  name: z.string().min(1).max(63),
  /** A record boundary. */
  lsn: lsnField,
  createdAtMs: timeMs,
});
export type SnapshotEntry = Readonly<z.infer<typeof snapshotEntry>>;

const drillProblem = z.strictObject({
  kind: z.enum(["missing", "corrupt", "wrong", "differs"]),
  name: z.string(),
  detail: z.string(),
});

/** What restore drills have found, by timeline; in the tenant's settings as "drills". See core/backup/drill.ts. */
export const drillRecords = z.record(
  z.string(),
  z.strictObject({
    verified: z.strictObject({ lsn: lsnField, atMs: timeMs }).optional(),
    endedAtMs: timeMs,
    ...{ pages: countField, skipped: countField, layers: countField, bytes: countField },
    problems: z.array(drillProblem),
    failure: z.string().optional(),
  }),
);

export const settingValue = z.json();
export type SettingValue = z.infer<typeof settingValue>;
