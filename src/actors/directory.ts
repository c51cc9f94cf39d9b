// Which timelines live: a lookup in memory for connections and the management API, written by the
// tenant and timeline actors only. What a timeline publishes here is a snapshot it replaces whole,
// so reading it needs no message and costs the timeline nothing.

import type { Boundary } from "../core/boundaries.ts";
import type { Pin } from "../core/gc.ts";
import type { TenantId, TimelineId } from "../core/ids.ts";
import type { Lsn } from "../core/lsn.ts";
import type { TimelinePhase } from "../core/timeline.ts";
import type { Catalog } from "../store/catalog.ts";
import type { TimelineEntry } from "../store/catalog-entries.ts";
import type { TimelineStore } from "../store/timeline-store.ts";
import type { ActorRef } from "./runtime.ts";
import type { TenantMsg } from "./tenant.ts";
import type { Positions, TimelineMsg } from "./timeline-messages.ts";
import type { BackupFacts } from "./timeline-backup-state.ts";
import type { ReadFrom } from "./timeline-reads.ts";
import type { EvictableFile, ResidenceFacts } from "./timeline-residence.ts";
import type { WalReceiverStatus } from "./wal-receiver.ts";

/** What a timeline tells of itself. */
export interface TimelineFacts {
  readonly phase: TimelinePhase;
  readonly positions: Positions;
  /** Start of the last record taken in. */
  readonly prev: Lsn;
  /** Its WAL connection, when there is one. */
  readonly receiver: WalReceiverStatus | undefined;
  /** Taking in WAL waits for this, e.g. disk space. */
  readonly stalled: string | undefined;
}

/** What lies on disk of a timeline that sleeps: actors/timeline-address.ts. */
export interface Asleep {
  /** Sealed layers of its own, and their bytes. */
  readonly layers: number;
  readonly bytes: number;
}

export interface TimelineHandle {
  readonly tenantId: TenantId;
  readonly entry: TimelineEntry;
  readonly ref: ActorRef<TimelineMsg>;
  /** It sleeps: nothing of it is loaded, and whoever tells it something wakes it. */
  readonly asleep?: Asleep | undefined;
  /** Undefined while it sleeps, is loading or has crashed. */
  readonly store: TimelineStore | undefined;
  /** How its pages are read. */
  readonly readFrom: ReadFrom | undefined;
  /** The newest record boundary at or below an LSN, from the timeline's own WAL. */
  readonly boundary: ((lsn: Lsn) => Boundary | undefined) | undefined;
  /** Commit times that ingest has not put into the store yet. */
  readonly pendingCommits:
    (() => { readonly second: number; readonly value: Uint8Array } | undefined) | undefined;
  /** LSNs that its own readers need, whatever its cutoff. */
  readonly pins?: (() => readonly Pin[]) | undefined;
  /** How merging its layers goes. */
  readonly merge?:
    (() => { readonly merging: boolean; readonly failure: string | undefined }) | undefined;
  /** Bytes of all relations as of the last record, and of WAL files. */
  readonly sizes?: (() => { readonly logical: number; readonly wal: number }) | undefined;
  /** How its backup goes; undefined: there is none. */
  readonly backup?: (() => BackupFacts | undefined) | undefined;
  /** Which of its layers are here; undefined: all of them, there is no backup. */
  readonly residence?: (() => ResidenceFacts | undefined) | undefined;
  /** Layers that may leave the disk. */
  readonly evictable?: (() => readonly EvictableFile[]) | undefined;
  readonly facts: TimelineFacts;
}

export interface TenantHandle {
  readonly id: TenantId;
  readonly catalog: Catalog;
  readonly ref: ActorRef<TenantMsg>;
  readonly timelines: Map<TimelineId, TimelineHandle>;
  /** Why the tenant cannot be used, when it cannot. */
  broken: string | undefined;
}

/** Sealed layers of its own, and their bytes. */
export const sealedOf = ({ store, asleep }: TimelineHandle): Asleep =>
  store === undefined
    ? (asleep ?? NOTHING)
    : { layers: store.map.layers.length, bytes: store.sealedBytes };

const NOTHING: Asleep = { layers: 0, bytes: 0 };

/** All tenants of the process. */
export class Directory {
  readonly tenants = new Map<TenantId, TenantHandle>();
  /** Tenants that exist and cannot be used, with the reason: being opened, damaged, crashed too often. */
  readonly unusable = new Map<TenantId, string>();

  find(tenant: TenantId, timeline: TimelineId): TimelineHandle | undefined {
    return this.tenants.get(tenant)?.timelines.get(timeline);
  }

  findByName(tenant: TenantId, name: string): TimelineHandle | undefined {
    for (const handle of this.tenants.get(tenant)?.timelines.values() ?? []) {
      if (handle.entry.name === name) return handle;
    }
    return undefined;
  }

  /** Replaces parts of what is known of a timeline. */
  publish(tenant: TenantId, timeline: TimelineId, change: Partial<TimelineHandle>): void {
    const known = this.find(tenant, timeline);
    if (known === undefined) return;
    this.tenants.get(tenant)!.timelines.set(timeline, { ...known, ...change });
  }
}
