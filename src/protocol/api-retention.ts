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
  /** When asked for: stored bytes that count for this LSN, with the first pin of each; see docs/retention.md. */
  bytes: Type.Optional(Type.Number()),
  /** Those that go when this pin goes and nothing else. */
  alone_bytes: Type.Optional(Type.Number()),
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
  /** When asked for: stored bytes that count for the window and for nobody; the rest is with the pins. */
  kept: Type.Optional(Type.Object({ window: Type.Number(), superseded: Type.Number() })),
  /** Layers that are in object storage only; absent: none. Then `kept` is absent, unless they were to be fetched. */
  remote_layers: Type.Optional(Type.Number()),
  remote_size: Type.Optional(Type.Number()),
  /** Tiers of sealed layers: at most so many are looked into by a read. */
  tiers: Type.Number(),
  merging: Type.Boolean(),
  /** Why the last merge failed; gone when one has not. */
  failure: Type.Optional(Type.String()),
});
export type RetentionInfo = Api<typeof RetentionInfo>;

/** How long history of a tenant's timelines is readable: at least so long, and at least so much WAL. */
export const RetentionPolicyInfo = Type.Object(
  {
    window_ms: Type.Integer({ minimum: 0 }),
    wal_bytes: Type.Integer({ minimum: 0 }),
  },
  { additionalProperties: false },
);
export type RetentionPolicyInfo = Api<typeof RetentionPolicyInfo>;

/** What is left out stays as it is. */
export const ChangeRetentionPolicy = Type.Partial(RetentionPolicyInfo, {
  additionalProperties: false,
});
export type ChangeRetentionPolicy = Api<typeof ChangeRetentionPolicy>;

/** Of do_gc: what is kept now and, by Neon's names, layers. Those that nobody needs go when layers are merged. */
export const GcResult = Type.Intersect([
  RetentionInfo,
  Type.Object({
    layers_total: Type.Number(),
    /** With versions above the cutoff. */
    layers_needed_by_cutoff: Type.Number(),
    /** By this call alone: always 0. */
    layers_removed: Type.Number(),
    /** ms */
    elapsed: Type.Number(),
  }),
]);
export type GcResult = Api<typeof GcResult>;

export const DeletedTimelines = Type.Object({ deleted: Type.Array(Type.String()) });
