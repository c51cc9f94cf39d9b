// What the program's backup is made of, shared by all tenants; undefined where none is configured.

import { BACKUP_WAL_WAITING_BYTES } from "../core/limits.ts";
import type { Lsn } from "../core/lsn.ts";
import type { TenantId, TimelineId } from "../core/ids.ts";
import type { ObjectStorage } from "../core/object-storage.ts";
import type { TenantKeys } from "../io/objects/tenant-keys.ts";
import type { Catalog } from "../store/catalog.ts";
import type { LayerFiles } from "../store/layer-files.ts";
import { type DrillState, noDrills } from "./driller.ts";
import type { EvictionState } from "./evictor.ts";
import { LayerFetcher } from "./layer-fetcher.ts";
import { TenantBackup } from "./backup-tenant.ts";
import type { ActorRef } from "./runtime.ts";
import type { UploaderMsg } from "./uploader.ts";
import type { WarmUp } from "./warm-up.ts";

/** Since the start: requests, those that were tried again, those given up, bytes both ways. */
export interface BackupCounts {
  readonly calls: number;
  readonly retries: number;
  readonly failures: number;
  readonly bytesUp: number;
  readonly bytesDown: number;
}

export interface BackupOptions {
  readonly storage: ObjectStorage;
  /** For what a reader waits for. */
  readonly urgent: ObjectStorage;
  /** Least time between two turns of a timeline, ms. */
  readonly intervalMs: number;
  /** Whole WAL segments are kept for restore_command, as far back as history is. */
  readonly archive: boolean;
  /** A scrub deletes only what is older, by the clock of the back end. */
  readonly purgeAgeMs: number;
  /** Of layers that an attach fetches before anybody asks, bytes. */
  readonly warmUpBytes: number;
  /** From where on a followed primary's slot keeps WAL for us. */
  readonly sourceKeeps: "uploaded" | "durable";
  readonly nowMs: () => number;
  /** Of tenants, when objects are encrypted; for rotating. */
  readonly keys?: TenantKeys;
  /** Resolves when the back end was found fit; asked again after it was not. */
  readonly ready: () => Promise<void>;
  /** Why object storage is left alone for the moment. */
  readonly resting: () => string | undefined;
  readonly counts: () => BackupCounts;
  /** A word of lower-case hex characters, never the same. */
  readonly randomWord: () => string;
}

export class Backup {
  readonly options: BackupOptions;
  readonly uploader: ActorRef<UploaderMsg>;
  readonly fetcher: LayerFetcher;
  /** Since the start, by tenant: what was, or is being, fetched after an attach. */
  readonly warmUps = new Map<TenantId, WarmUp>();
  readonly eviction: EvictionState = { layers: 0, bytes: 0, short: undefined };
  readonly drills: DrillState = noDrills();
  /** This process, in the manifests that it writes. */
  readonly writer: string;
  private readonly tenants = new Map<TenantId, TenantBackup>();
  private readonly working = new Map<TimelineId, Set<Promise<unknown>>>();

  constructor(options: BackupOptions, uploader: ActorRef<UploaderMsg>, files: LayerFiles) {
    this.options = options;
    this.uploader = uploader;
    const { storage: background, urgent } = options;
    this.fetcher = new LayerFetcher({ background, urgent }, files);
    this.writer = options.randomWord();
  }

  tenant(tenant: TenantId, catalog: Catalog): TenantBackup {
    let known = this.tenants.get(tenant);
    if (known === undefined) {
      const { storage, nowMs, randomWord, ready } = this.options;
      known = new TenantBackup({ storage, tenant, catalog, nowMs, randomWord, ready });
      this.tenants.set(tenant, known);
    }
    return known;
  }

  /** Timelines that are deleted and whose objects are going: none of these ids is backed up meanwhile. */
  readonly removing = new Set<TimelineId>();

  /** Notes work on a timeline's objects that may outlive its actor. */
  track<T>(timeline: TimelineId, work: Promise<T>): Promise<T> {
    const all = this.working.get(timeline) ?? new Set();
    this.working.set(timeline, all);
    all.add(work);
    const over = (): void => {
      all.delete(work);
      if (all.size === 0) this.working.delete(timeline);
    };
    work.then(over, over);
    return work;
  }

  /** Resolves when nothing is under way any more that writes objects of the timeline. Its actor has ended. */
  async idle(timeline: TimelineId): Promise<void> {
    await Promise.allSettled([...(this.working.get(timeline) ?? [])]);
  }

  /** The tenant was attached anew, or let go: what was known of it counts no more. */
  forget(tenant: TenantId): void {
    this.tenants.delete(tenant);
  }
}

/** WAL files below this LSN may go: sealed layers have it, and object storage too, or it waits too long. */
export const letGoBelow = (sealedLsn: Lsn, uploaded: Lsn): Lsn =>
  Math.max(Math.min(sealedLsn, uploaded), sealedLsn - BACKUP_WAL_WAITING_BYTES) as Lsn;
