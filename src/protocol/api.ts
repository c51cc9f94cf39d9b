// The management API's requests and answers: one definition for validation, the server's and the
// client's types, and documentation. Field names that Neon's page server also has are Neon's, so
// that tools written for it work; the others are ours. LSNs are strings ("0/16B3748"), times are
// RFC 3339 in UTC. Jobs, computes and status live in api-work.ts and api-status.ts.

import Type, { type Static, type TSchema } from "typebox";

/** Answers are read, never changed. */
export type Readonlyed<T> = T extends object ? { readonly [K in keyof T]: Readonlyed<T[K]> } : T;
export type Api<S extends TSchema> = Readonlyed<Static<S>>;

/** A timeline's or compute's name: letters, digits, "_", "-", "."; starts with a letter; not 32 hex digits. */
export const NAME_PATTERN = "^(?![0-9a-fA-F]{32}$)[A-Za-z][A-Za-z0-9_.-]{0,62}$";
const HEX32_PATTERN = "^[0-9a-fA-F]{32}$";
const LSN_PATTERN = "^[0-9A-Fa-f]{1,8}/[0-9A-Fa-f]{1,8}$";

export const Hex32 = Type.String({ pattern: HEX32_PATTERN, description: "32 hex digits" });
export const Name = Type.String({ pattern: NAME_PATTERN });
export const LsnText = Type.String({ pattern: LSN_PATTERN, description: "LSN, e.g. 0/16B3748" });
/** RFC 3339 with a zone; up to microseconds. */
export const TimeText = Type.String({ minLength: 10, maxLength: 40 });

/** Every error: the sentence, as Neon's page server sends it. */
export const ErrorBody = Type.Object({ msg: Type.String() });
export type ErrorBody = Api<typeof ErrorBody>;

// ---- tenants

export const TenantState = Type.Object({
  slug: Type.Union([
    Type.Literal("Attaching"),
    Type.Literal("Active"),
    Type.Literal("Stopping"),
    Type.Literal("Broken"),
  ]),
  data: Type.Optional(Type.Object({ reason: Type.String() })),
});

export const TenantInfo = Type.Object({
  id: Hex32,
  state: TenantState,
  /** True for the tenant that the word "default" stands for. */
  is_default: Type.Boolean(),
  /** Bytes on disk: layers and WAL. */
  current_physical_size: Type.Number(),
  timelines: Type.Array(Hex32),
});
export type TenantInfo = Api<typeof TenantInfo>;

export const CreateTenantRequest = Type.Object(
  { new_tenant_id: Type.Optional(Hex32) },
  { additionalProperties: false },
);

export const DeletedTenant = Type.Object({ deleted: Hex32, timelines: Type.Array(Type.String()) });

// ---- timelines

/** The four positions a timeline has, always by these names (ARCHITECTURE.md). */
export const PositionsInfo = Type.Object({
  received: LsnText,
  visible: LsnText,
  durable: LsnText,
  uploaded: LsnText,
});
export type PositionsInfo = Api<typeof PositionsInfo>;

/** Where a timeline's WAL comes from. */
export const SourceInfo = Type.Object({
  kind: Type.Union([Type.Literal("follow"), Type.Literal("compute"), Type.Literal("none")]),
  connection: Type.Union([
    Type.Literal("none"),
    Type.Literal("connecting"),
    Type.Literal("streaming"),
    Type.Literal("backing-off"),
    /** Will not reconnect by itself: `reason` says why. */
    Type.Literal("refused"),
  ]),
  /** Connection string without its password. */
  conninfo: Type.Optional(Type.String()),
  /** Bytes of WAL that the sender has and we have not received. */
  lag_bytes: Type.Optional(Type.Number()),
  reconnects: Type.Optional(Type.Number()),
  reason: Type.Optional(Type.String()),
});
export type SourceInfo = Api<typeof SourceInfo>;

export const TimelineState = Type.Union([
  Type.Literal("Loading"),
  Type.Literal("Active"),
  Type.Literal("Stopping"),
  Type.Object({ Broken: Type.Object({ reason: Type.String(), backtrace: Type.String() }) }),
]);
export type TimelineState = Api<typeof TimelineState>;

/** What computes have read, counted up: two samples give a rate and a mean. */
export const ReadsInfo = Type.Object({
  pages: Type.Number(),
  /** Requests that came together and were answered together. */
  batches: Type.Number(),
  /** From their arrival to their answers, all batches together. */
  seconds: Type.Number(),
});
export type ReadsInfo = Api<typeof ReadsInfo>;

/** Sizes of a timeline, bytes. docs/retention.md says what they mean. */
export const SizesInfo = Type.Object({
  /** All relations of all databases as of the last record. */
  logical: Type.Number(),
  /** On disk: layers and WAL files of the timeline itself, its ancestors' not. */
  physical: Type.Number(),
  layers: Type.Number(),
  wal: Type.Number(),
  /** WAL of its own from which every moment back to the cutoff, or to its branch point, can be had. */
  history: Type.Number(),
  /** The whole branch tree, if nothing were stored twice. Absent while a timeline of it is loading. */
  synthetic: Type.Optional(Type.Number()),
});
export type SizesInfo = Api<typeof SizesInfo>;

export const DamagedLayers = Type.Array(
  Type.Object({ file: Type.String(), reason: Type.String() }),
);

/** A timeline's backup; absent where none is configured. */
/** What is wrong with an object of a backup, as a restore drill met it. */
export const DrillProblemInfo = Type.Object({
  kind: Type.Union([
    Type.Literal("missing"),
    Type.Literal("corrupt"),
    /** Whole, and not what the manifest says. */
    Type.Literal("wrong"),
    /** It makes another page than the one that is served. */
    Type.Literal("differs"),
  ]),
  /** Of the object. */
  name: Type.String(),
  detail: Type.String(),
});

/** Restore drills of a timeline: the last one, and the last one that found nothing wrong (`verified`). */
export const DrillFacts = Type.Object({
  verified_lsn: Type.Optional(LsnText),
  verified_at: Type.Optional(TimeText),
  age_seconds: Type.Optional(Type.Number()),
  ended_at: TimeText,
  /** Compared, each as of one LSN; and those that could not be. */
  pages: Type.Number(),
  skipped: Type.Number(),
  layers: Type.Number(),
  bytes: Type.Number(),
  problems: Type.Array(DrillProblemInfo),
  /** Why the last one was not brought to its end. */
  failure: Type.Optional(Type.String()),
});
export type DrillFacts = Api<typeof DrillFacts>;

export const BackupInfo = Type.Object({
  state: Type.Union([
    Type.Literal("backing-up"),
    /** It is tried again: `reason`. */
    Type.Literal("failing"),
    /** This server may not write it any more: `reason`. */
    Type.Literal("fenced"),
  ]),
  reason: Type.Optional(Type.String()),
  /** WAL that is durable here and not in object storage. */
  lag_bytes: Type.Number(),
  layers_waiting: Type.Number(),
  /** The last time that something was called uploaded. */
  written_at: Type.Optional(TimeText),
  /** Sealed layers whose files are on the local disk, and those that are in object storage only. */
  local_layers: Type.Number(),
  local_bytes: Type.Number(),
  remote_layers: Type.Number(),
  remote_bytes: Type.Number(),
  /** Layers that left the disk, and that came back, since the timeline was loaded. */
  evicted_layers: Type.Number(),
  fetched_layers: Type.Number(),
  /** Absent before the first one. */
  drill: Type.Optional(DrillFacts),
});
export type BackupInfo = Api<typeof BackupInfo>;

export const TimelineInfo = Type.Object({
  tenant_id: Hex32,
  timeline_id: Hex32,
  name: Type.String(),
  state: TimelineState,
  pg_version: Type.Number(),
  /** pg_control's system identifier, decimal. */
  system_id: Type.String(),
  created_at: TimeText,

  ancestor_timeline_id: Type.Optional(Hex32),
  ancestor_name: Type.Optional(Type.String()),
  ancestor_lsn: Type.Optional(LsnText),

  positions: PositionsInfo,
  backup: Type.Optional(BackupInfo),
  /** = positions.visible, the end of the newest record that can be read. */
  last_record_lsn: LsnText,
  prev_record_lsn: Type.Optional(LsnText),
  /** = positions.durable. */
  disk_consistent_lsn: LsnText,
  /** = positions.uploaded. */
  remote_consistent_lsn: LsnText,
  initdb_lsn: LsnText,
  /** Reads below it are refused. */
  min_readable_lsn: LsnText,
  current_physical_size: Type.Number(),

  source: SourceInfo,
  /** Sealed layers. */
  layers: Type.Number(),
  /** Layers that were found damaged: reads that need them fail. Absent when there is none. */
  damaged_layers: Type.Optional(DamagedLayers),
  /** When asked for. */
  sizes: Type.Optional(SizesInfo),
  /** Page reads since the server was started; absent while there were none. */
  reads: Type.Optional(ReadsInfo),
});
export type TimelineInfo = Api<typeof TimelineInfo>;

/** Branch if an ancestor is named, else bootstrap by initdb (Neon tells them apart in the same way). */
export const CreateTimelineRequest = Type.Object(
  {
    new_timeline_id: Type.Optional(Hex32),
    name: Type.Optional(Name),
    pg_version: Type.Optional(Type.Integer()),
    ancestor_timeline_id: Type.Optional(Hex32),
    ancestor_name: Type.Optional(Name),
    ancestor_start_lsn: Type.Optional(LsnText),
    ancestor_start_timestamp: Type.Optional(TimeText),
    /** Name of a snapshot of the ancestor. */
    ancestor_start_snapshot: Type.Optional(Name),
  },
  { additionalProperties: false },
);
export type CreateTimelineRequest = Api<typeof CreateTimelineRequest>;

export const CreatedTimeline = Type.Intersect([
  TimelineInfo,
  /** Time the server spent on the request, ms with fractions. */
  Type.Object({ server_ms: Type.Number() }),
]);
export type CreatedTimeline = Api<typeof CreatedTimeline>;

// ---- time and LSN

export const LsnByTimestamp = Type.Object({
  lsn: LsnText,
  /** present: commits exist on both sides. future, past: beyond what was seen or is kept. */
  kind: Type.Union([
    Type.Literal("present"),
    Type.Literal("future"),
    Type.Literal("past"),
    Type.Literal("nodata"),
  ]),
  /** The end of the lease, if one was asked for. */
  valid_until: Type.Optional(TimeText),
});
export type LsnByTimestamp = Api<typeof LsnByTimestamp>;

export const LeaseRequest = Type.Object({ lsn: LsnText }, { additionalProperties: false });
export const LeaseAnswer = Type.Object({ valid_until: TimeText });
export type LeaseAnswer = Api<typeof LeaseAnswer>;

// ---- one page

export const PageVersionInfo = Type.Object({
  lsn: LsnText,
  type: Type.Union([
    Type.Literal("image"),
    Type.Literal("record"),
    Type.Literal("op"),
    Type.Literal("value"),
    Type.Literal("tombstone"),
  ]),
  /** Bytes as stored. */
  length: Type.Number(),
  /** True when nothing older is needed. */
  will_init: Type.Boolean(),
  /** Where it was found: "open", "frozen", or a sealed layer's file name. */
  layer: Type.String(),
  /** The timeline whose layer it is: this one or an ancestor. */
  timeline: Type.String(),
  /** Resource manager and operation, compression, … */
  detail: Type.Optional(Type.String()),
});
export type PageVersionInfo = Api<typeof PageVersionInfo>;

/** PageHeaderData of bufpage.h, decoded. */
export const PageHeaderInfo = Type.Object({
  lsn: LsnText,
  checksum: Type.Number(),
  flags: Type.Array(Type.String()),
  lower: Type.Number(),
  upper: Type.Number(),
  special: Type.Number(),
  page_size: Type.Number(),
  layout_version: Type.Number(),
  prune_xid: Type.Number(),
  /** Line pointers, if lower says so. */
  items: Type.Number(),
});
export type PageHeaderInfo = Api<typeof PageHeaderInfo>;

export const PageDump = Type.Object({
  tenant_id: Hex32,
  timeline_id: Hex32,
  /** Our 18-byte key (core/key.ts), 36 hex digits. */
  key: Type.String(),
  rel: Type.Optional(Type.String()),
  block: Type.Number(),
  /** The LSN that was read at. */
  lsn: LsnText,
  /** Blocks of the relation at that LSN, if the key is a page of one. */
  rel_blocks: Type.Optional(Type.Number()),
  all_zero: Type.Boolean(),
  header: Type.Optional(PageHeaderInfo),
  /** The page, base64; absent for keys that are not pages. */
  page_base64: Type.Optional(Type.String()),
  /** Newest first, down to the first that needs nothing older. */
  versions: Type.Array(PageVersionInfo),
});
export type PageDump = Api<typeof PageDump>;
