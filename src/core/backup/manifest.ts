// What object storage holds of a timeline, as one value: with the objects that it names, and nothing
// else, the timeline is made again. It is replaced as a whole, by one conditional write; what it does
// not name does not count. store/manifest.ts has its bytes.
//
//   layers: everything up to sealedLsn     wal: from there (or before) without a gap to `uploaded`

import type { TenantId, TimelineId } from "../ids.ts";
import { LSN_INVALID, type Lsn } from "../lsn.ts";
import type { Generation, NamedLayer } from "./names.ts";

/** Where a layer lies in object storage. */
export interface LayerObject {
  /** Relative to the timeline's prefix. */
  readonly name: string;
  /** Of the object: a layer is compressed. */
  readonly bytes: number;
}

export interface BackedLayer extends NamedLayer {
  readonly file: string;
  readonly bytes: number;
  readonly object?: LayerObject | undefined;
}

/** WAL in one object, within one segment. */
export interface WalObject {
  readonly name: string;
  readonly from: Lsn;
  readonly to: Lsn;
  /** part: bytes from `from` to `to`. segment: all 16 MiB, of which those count. */
  readonly kind: "part" | "segment";
  readonly crc: number;
}

/** Whole segments, first to last, that are kept for restore_command though layers hold what they say. */
export interface WalArchive {
  readonly generation: Generation;
  readonly tli: number;
  readonly first: number;
  readonly last: number;
}

export interface BackedTimeline {
  readonly id: TimelineId;
  readonly tli: number;
  readonly ancestor?: { readonly id: TimelineId; readonly lsn: Lsn } | undefined;
  readonly sealedLsn: Lsn;
  readonly sealedPrev: Lsn;
  /** Bytes of all relations at sealedLsn; undefined: whoever needs it counts. */
  readonly sealedLogicalSize?: number | undefined;
  readonly cutoff?: Lsn | undefined;
}

/** How often a layer is read: one more is twice as often. Layers that nobody reads have none. */
export interface LayerHeat {
  readonly file: string;
  readonly heat: number;
}

export interface Manifest<
  T extends BackedTimeline = BackedTimeline,
  L extends BackedLayer = BackedLayer,
  S = unknown,
> {
  readonly tenant: TenantId;
  readonly generation: Generation;
  /** The process that wrote it: a random word. */
  readonly writer: string;
  /** One more with each that is written. */
  readonly sequence: number;
  readonly writtenAtMs: number;
  /** As the catalog had it; sealedLsn is the end of what `layers` hold. */
  readonly timeline: T;
  /** Each has an object. */
  readonly layers: readonly L[];
  /** In order, each where the last one ended. */
  readonly wal: readonly WalObject[];
  readonly archive: readonly WalArchive[];
  readonly snapshots: readonly S[];
  /** For whoever attaches the tenant: which layers to fetch first. */
  readonly heat?: readonly LayerHeat[] | undefined;
  /** Names that the manifest before named and this one does not: to be deleted. */
  readonly garbage: readonly string[];
}

/** Everything up to here can be restored. */
export const uploadedLsn = (manifest: Pick<Manifest, "timeline" | "wal"> | undefined): Lsn =>
  manifest === undefined
    ? LSN_INVALID
    : (Math.max(manifest.timeline.sealedLsn, manifest.wal.at(-1)?.to ?? LSN_INVALID) as Lsn);

/** What the tenant's one object says. */
export interface TenantManifest {
  readonly tenant: TenantId;
  readonly generation: Generation;
  /** A random word of the attachment: two data directories never share one. */
  readonly claim: string;
  readonly createdAtMs: number;
  readonly attachedAtMs: number;
  readonly timelines: readonly TimelineId[];
  /** The catalog's settings that belong to the tenant wherever it is (retention). */
  readonly settings: Readonly<Record<string, unknown>>;
}
