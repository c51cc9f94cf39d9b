// What the management API needs from the program. Routes parse requests into these values and
// print what comes back; the program implements it over its actors, tests in memory. Every method
// answers: refusals are values, a rejected promise is a bug and becomes a 500.

import type { AdminError } from "../core/admin-error.ts";
import type { TenantId, TimelineId } from "../core/ids.ts";
import type { Group } from "../core/key.ts";
import type { Lsn } from "../core/lsn.ts";
import type { RelTag } from "../core/page.ts";
import type { Result } from "../core/result.ts";
import type { LsnByTimestamp, PageVersionInfo, TenantInfo, TimelineInfo } from "../protocol/api.ts";
import type { LeaseInfo, SnapshotInfo } from "../protocol/api-holds.ts";
import type {
  ChangeRetentionPolicy,
  GcRequest,
  GcResult,
  RetentionInfo,
  RetentionPolicyInfo,
} from "../protocol/api-retention.ts";
import type { CheckReport, Reloaded, Status } from "../protocol/api-status.ts";
import type { Keyspace, TenantConfig, TenantConfigInfo } from "../protocol/api-compat.ts";
import type { ComputeInfo, Job } from "../protocol/api-work.ts";

/** "default" is the one tenant of a program that was not told otherwise. */
export type TenantRef =
  { readonly kind: "default" } | { readonly kind: "id"; readonly id: TenantId };

export type TimelineRef =
  | { readonly kind: "id"; readonly id: TimelineId }
  | { readonly kind: "name"; readonly name: string };

export type BranchPoint =
  /** The last record when the request is handled. */
  | { readonly kind: "latest" }
  | { readonly kind: "lsn"; readonly lsn: Lsn }
  /** The newest LSN whose commits all happened at or before this moment, Unix microseconds. */
  | { readonly kind: "time"; readonly unixUs: number }
  /** A snapshot of that timeline. */
  | { readonly kind: "snapshot"; readonly name: string };

export type CreateTimeline =
  | {
      readonly kind: "bootstrap";
      /** Given by the caller (Neon's clients do) or chosen by the program. */
      readonly timelineId: TimelineId | undefined;
      readonly name: string | undefined;
      /** Major version, e.g. 15. */
      readonly pgVersion: number | undefined;
    }
  | {
      readonly kind: "branch";
      readonly timelineId: TimelineId | undefined;
      readonly name: string | undefined;
      readonly ancestor: TimelineRef;
      readonly at: BranchPoint;
    };

export interface Follow {
  /** Contains the password: never log it. */
  readonly conninfo: string;
  readonly name: string;
  readonly timelineId: TimelineId | undefined;
  /** Bytes a second of the base backup. */
  readonly maxRateBytes: number | undefined;
  readonly slot: string | undefined;
}

export interface ComputeStart {
  readonly timeline: TimelineRef;
  readonly port: number | undefined;
  readonly dir: string | undefined;
  /** Commits wait until the page server has fsynced them. */
  readonly synchronous: boolean;
  /** Pages are read from here when they are needed, instead of copied at the start. */
  readonly diskless: boolean;
  /** Takes the place of a compute that runs there. */
  readonly replace: boolean;
  /** Shows this moment, read-only; undefined: writes. */
  readonly at: BranchPoint | undefined;
  /** PostgreSQL settings; they win over ours. */
  readonly settings: Readonly<Record<string, string>>;
}

/** What to dump: a block of a relation, or any key. */
export type DumpTarget =
  | { readonly kind: "rel"; readonly rel: RelTag; readonly block: number }
  | { readonly kind: "key"; readonly group: Group; readonly block: number };

/** The route adds the key's text, the decoded header and base64. */
export interface Dumped {
  readonly tenantId: TenantId;
  readonly timelineId: TimelineId;
  /** The LSN that was read at. */
  readonly lsn: Lsn;
  /** The relation's blocks at that LSN; undefined for keys that are not pages of a relation. */
  readonly relBlocks: number | undefined;
  /** 8192 bytes; undefined for keys that are not pages. */
  readonly page: Uint8Array | undefined;
  /** Newest first, down to the first that needs nothing older. */
  readonly versions: readonly PageVersionInfo[];
}

type Answer<T> = Promise<Result<T, AdminError>>;

export interface Management {
  /**
   * What references stand for now, to decide who may use them. An id stands for itself, whether it
   * exists or not; undefined is a name or a default tenant that does not exist.
   */
  resolve(
    tenant: TenantRef,
    timeline: TimelineRef | undefined,
  ): { readonly tenant: TenantId | undefined; readonly timeline: TimelineId | undefined };

  status(): Answer<Status>;
  /** In Prometheus's text format. */
  metrics(): Answer<string>;

  listTenants(): Answer<readonly TenantInfo[]>;
  getTenant(tenant: TenantRef): Answer<TenantInfo>;
  /** Same id again: the existing one. */
  createTenant(id: TenantId | undefined): Answer<TenantInfo>;

  /** With its timelines, if `recursive`; else it is refused while there are any. The names of those. */
  /** Takes a tenant over from object storage; `fetch`: with all of its layers, not only what is read. */
  attachTenant(tenant: TenantId, layers: "when-read" | "fetch"): Answer<Job>;
  /** Walks the objects of a tenant's backup, or of all tenants. */
  scrub(tenant: TenantId | undefined, unnamed: "purge" | "keep"): Answer<Job>;
  /** Restores samples of the backups of a tenant's timelines, or of all, and compares them with what is served. */
  drill(tenant: TenantId | undefined, seed: number | undefined): Answer<Job>;
  /** Wraps the keys of all tenants in the place with the newest master key. */
  rotateKeys(): Answer<Job>;
  deleteTenant(
    tenant: TenantId,
    recursive: boolean,
    backup: "keep" | "remove",
  ): Answer<readonly string[]>;

  listTimelines(tenant: TenantRef): Answer<readonly TimelineInfo[]>;
  /** `sizes`: with its sizes, which takes longer. */
  getTimeline(
    tenant: TenantRef,
    timeline: TimelineRef,
    detail: "brief" | "sizes",
  ): Answer<TimelineInfo>;
  /** The same request again (same id, same ancestor and LSN) answers the existing timeline. */
  createTimeline(tenant: TenantRef, request: CreateTimeline): Answer<TimelineInfo>;

  follow(tenant: TenantRef, request: Follow): Answer<Job>;
  computeStart(tenant: TenantRef, request: ComputeStart): Answer<Job>;
  /** `at` undefined: the one that writes; else the one that shows this moment. */
  computeStop(tenant: TenantRef, timeline: TimelineRef, at: Lsn | undefined): Answer<Job>;
  listComputes(tenant: TenantRef): Answer<readonly ComputeInfo[]>;

  listJobs(): Answer<readonly Job[]>;
  /** Answers when the job has ended, at the latest after `waitMs` (0: at once). */
  getJob(id: string, waitMs: number): Answer<Job>;
  /** Tells a running job to give up; one that has ended is answered as it is. */
  cancelJob(id: string): Answer<Job>;

  tenantConfig(tenant: TenantRef): Answer<TenantConfigInfo>;
  /** `replace`: what is not given gets its default; else it stays as it is. */
  setTenantConfig(
    tenant: TenantRef,
    config: TenantConfig,
    how: "replace" | "patch",
  ): Answer<undefined>;
  /** All pages that exist at `at` (undefined: the last record), as ranges of keys. */
  keyspace(tenant: TenantRef, timeline: TimelineRef, at: Lsn | undefined): Answer<Keyspace>;
  /** Whether all timelines have come so far, at the latest after `waitMs`. */
  waitLsn(
    tenant: TenantRef,
    wanted: readonly { readonly timeline: TimelineId; readonly lsn: Lsn }[],
    waitMs: number,
  ): Answer<boolean>;

  /** `at` undefined: at the last record. */
  dumpPage(
    tenant: TenantRef,
    timeline: TimelineRef,
    target: DumpTarget,
    at: Lsn | undefined,
  ): Answer<Dumped>;
  /** A tar of a whole data directory at `at` (undefined: the last record), to start or to recover from. */
  fullBackup(
    tenant: TenantRef,
    timeline: TimelineRef,
    at: Lsn | undefined,
    use: "start" | "recovery",
  ): Answer<NodeJS.ReadableStream>;
  lsnByTimestamp(tenant: TenantRef, timeline: TimelineRef, unixUs: number): Answer<LsnByTimestamp>;
  /** Unix microseconds of the newest commit at or before `lsn`; undefined: none is known. */
  timestampOfLsn(tenant: TenantRef, timeline: TimelineRef, lsn: Lsn): Answer<number | undefined>;
  /** In order of names. */
  snapshots(tenant: TenantRef, timeline: TimelineRef): Answer<readonly SnapshotInfo[]>;
  /** The same name and moment again answers the existing one. */
  createSnapshot(
    tenant: TenantRef,
    timeline: TimelineRef,
    name: string,
    at: BranchPoint,
  ): Answer<SnapshotInfo>;
  deleteSnapshot(tenant: TenantRef, timeline: TimelineRef, name: string): Answer<undefined>;
  /** Those that have not ended. */
  leases(tenant: TenantRef, timeline: TimelineRef): Answer<readonly LeaseInfo[]>;
  /** The same owner and moment again renews the lease. */
  acquireLease(
    tenant: TenantRef,
    timeline: TimelineRef,
    lease: {
      readonly owner: string;
      readonly at: BranchPoint;
      readonly durationMs: number | undefined;
    },
  ): Answer<LeaseInfo>;
  /** Ends all leases that match; answers them. */
  releaseLeases(
    tenant: TenantRef,
    timeline: TimelineRef,
    which: { readonly owner: string | undefined; readonly lsn: Lsn | undefined },
  ): Answer<readonly LeaseInfo[]>;
  /** Keeps history readable at `lsn`; the end of the lease in Unix ms. */
  lease(tenant: TenantRef, timeline: TimelineRef, lsn: Lsn): Answer<number>;

  /** Seals what the timeline holds in memory; answers when that is done. */
  checkpoint(tenant: TenantRef, timeline: TimelineRef): Answer<TimelineInfo>;
  /**
   * What is kept of the timeline, and why. `bytes`: how much for each reason, when all layers are here;
   * they are walked. `fetch`: those that are not are fetched.
   */
  retention(
    tenant: TenantRef,
    timeline: TimelineRef,
    detail: "brief" | "bytes" | "fetch",
  ): Answer<RetentionInfo>;
  /** Changes what is given; answers what holds then. */
  retentionPolicy(tenant: TenantRef, change: ChangeRetentionPolicy): Answer<RetentionPolicyInfo>;
  /** Moves the cutoff. */
  collect(tenant: TenantRef, timeline: TimelineRef, request: GcRequest): Answer<GcResult>;
  /** Seals, and merges all layers; answers when that is done. */
  compact(tenant: TenantRef, timeline: TimelineRef): Answer<RetentionInfo>;
  /** Refused while it has branches, unless `recursive`. The names of what was deleted. */
  deleteTimeline(
    tenant: TenantRef,
    timeline: TimelineRef,
    recursive: boolean,
  ): Answer<readonly string[]>;
  /** Walks the whole store and reports every broken invariant. */
  /** Layers that are in object storage only are fetched, or counted and not checked. */
  check(tenant: TenantRef, remote: "fetch" | "count"): Answer<CheckReport>;
  /** Takes the public keys of tokens and the certificate that are there now; all or, refused, nothing. */
  reload(): Answer<Reloaded>;
  /** Begins an orderly stop and answers at once. */
  shutdown(): Answer<undefined>;
}
