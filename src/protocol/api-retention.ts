// Management API: what of a timeline's history is kept and why; moving the cutoff, merging, deleting.

import Type from "typebox";
import { type Api, Hex32, LsnText, TimeText } from "./api.ts";

/** Neon's do_gc: `gc_horizon` bytes of WAL stay readable. Without either, the tenant's policy counts. */
export const GcRequest = Type.Object(
  {
    gc_horizon: Type.Optional(Type.Integer({ minimum: 0 })),
    window_ms: Type.Optional(Type.Integer({ minimum: 0 })),
  },
  { additionalProperties: false },
);
export type GcRequest = Api<typeof GcRequest>;

export const PinInfo = Type.Object({
  lsn: LsnText,
  reason: Type.Union([
    Type.Literal("branch"),
    Type.Literal("lease"),
    Type.Literal("snapshot"),
    Type.Literal("reader"),
  ]),
  /** Of a branch. */
  timeline_id: Type.Optional(Hex32),
  timeline_name: Type.Optional(Type.String()),
  /** Of a lease. */
  owner: Type.Optional(Type.String()),
  expires_at: Type.Optional(TimeText),
  /** Of a snapshot. */
  snapshot: Type.Optional(Type.String()),
});
export type PinInfo = Api<typeof PinInfo>;

export const RetentionInfo = Type.Object({
  timeline_id: Hex32,
  name: Type.String(),
  /** Everything at or above can be read; below only what is pinned. */
  cutoff_lsn: LsnText,
  last_record_lsn: LsnText,
  /** The tenant's policy. */
  window_ms: Type.Number(),
  wal_bytes: Type.Number(),
  /** LSNs below the cutoff that are kept, newest first. */
  pins: Type.Array(PinInfo),
  /** Bytes of all relations as of the last record. */
  logical_size: Type.Number(),
  /** Bytes of the timeline's own sealed layers. */
  physical_size: Type.Number(),
  /** Layers with versions above the cutoff; layers wholly at or below it: what pins and the cutoff need. */
  window_size: Type.Number(),
  below_cutoff_size: Type.Number(),
  /** Tiers of sealed layers: at most so many are looked into by a read. */
  tiers: Type.Number(),
  merging: Type.Boolean(),
  /** Why the last merge failed; gone when one has not. */
  failure: Type.Optional(Type.String()),
});
export type RetentionInfo = Api<typeof RetentionInfo>;
