// Makes a timeline's first versions from a data directory: an initdb'd cluster, or the base backup
// of a running server. The timeline is in the catalog as "importing" meanwhile and lives only when
// all of it is in sealed layers; what a crash leaves is removed when the same name is made anew.

import type { Arena, ArenaChunk } from "../core/arena.ts";
import type { ChangeSink } from "../core/change.ts";
import type { TimelineId } from "../core/ids.ts";
import type { GroupTable } from "../core/key.ts";
import { OPEN_LAYER_BYTES_MAX } from "../core/limits.ts";
import { LSN_INVALID, type Lsn } from "../core/lsn.ts";
import type { TenantHandle } from "../actors/directory.ts";
import { sealAll } from "../actors/timeline-load.ts";
import type { TenantShared } from "../actors/tenant-timelines.ts";
import type { TimelineEntry, WalSource } from "../store/catalog-entries.ts";
import { makeDirectory, removeTimelineFiles, timelinePath, walPath } from "../store/data-dir.ts";
import { TimelineStore } from "../store/timeline-store.ts";
import { WalFiles } from "../store/wal-files.ts";

/** The name or the id belongs to a timeline that is complete. */
export class NameInUse extends Error {
  override readonly name = "NameInUse";
}

export type NewTimeline = Pick<
  TimelineEntry,
  "id" | "name" | "pgVersion" | "tli" | "systemId" | "baseLsn"
>;

/** A timeline under construction. */
export class TimelineImport {
  readonly sink: ChangeSink;
  private readonly shared: TenantShared;
  private readonly tenant: TenantHandle;
  private readonly entry: TimelineEntry;
  private readonly directory: string;
  private readonly store: TimelineStore;
  private readonly signal: AbortSignal | undefined;

  /**
   * Enters it in the catalog; what a failed import has left under this name or id goes. Given up when
   * `signal` says so: then the next step throws its reason. Throws NameInUse.
   */
  constructor(
    shared: TenantShared,
    tenant: TenantHandle,
    timeline: NewTimeline,
    signal?: AbortSignal,
  ) {
    this.shared = shared;
    this.tenant = tenant;
    this.signal = signal;
    removeUnfinished(shared, tenant, timeline);
    if (tenant.catalog.timeline(timeline.id) !== undefined) {
      throw new NameInUse(`timeline ${timeline.id} exists already`);
    }
    this.entry = {
      ...timeline,
      readableFrom: timeline.baseLsn,
      sealedLsn: timeline.baseLsn,
      sealedPrev: LSN_INVALID,
      state: "importing",
      createdAtMs: shared.clock.nowMs(),
    };
    const named = tenant.catalog.change((change) => change.putTimeline(this.entry));
    if (!named.ok) throw new NameInUse(`a timeline named "${timeline.name}" exists already`);
    this.directory = timelinePath(shared.dataDir, tenant.id, timeline.id);
    makeDirectory(this.directory);
    this.store = new TimelineStore({
      id: timeline.id,
      directory: this.directory,
      catalog: tenant.catalog,
      files: shared.files,
      budget: shared.budget,
      ancestor: undefined,
    });
    this.sink = new CurrentSink(() => this.store.sink);
  }

  /** Awaited between chunks: seals what has gathered. */
  readonly pressure = async (): Promise<void> => {
    const { store, shared, signal } = this;
    signal?.throwIfAborted();
    store.account();
    if (store.openBytes >= OPEN_LAYER_BYTES_MAX || shared.budget.mustFreeze(store)) {
      await this.seal();
    }
  };

  private seal(): Promise<void> {
    const { baseLsn } = this.entry;
    const nothing = (): void => undefined;
    const at = { visible: baseLsn, prev: LSN_INVALID, beforeFreeze: nothing, moveTo: nothing };
    return sealAll(this.store, at, this.shared.clock.nowMs);
  }

  /** Puts WAL that begins at the base LSN where the timeline finds it when it is loaded. */
  async addWal(bytes: Uint8Array): Promise<void> {
    const { baseLsn, tli } = this.entry;
    const files = new WalFiles({
      directory: walPath(this.directory),
      tli,
      start: baseLsn,
      onDurable: () => undefined,
      onFatal: this.shared.onFatal,
    });
    await files.settle(baseLsn);
    files.append(baseLsn, bytes);
    await files.flush();
    await files.close();
  }

  /** Seals the rest; from now on the timeline is complete. */
  async finish(end: {
    readonly readableFrom: Lsn;
    readonly source?: WalSource;
  }): Promise<TimelineId> {
    this.signal?.throwIfAborted();
    await this.seal();
    const { id } = this.entry;
    const sealed = this.tenant.catalog.timeline(id)!;
    this.tenant.catalog.change((change) =>
      change.putTimeline({
        ...sealed,
        readableFrom: end.readableFrom,
        state: "active",
        ...(end.source !== undefined && { source: end.source }),
      }),
    );
    this.store.close();
    return id;
  }

  /** Forgets it. What cannot be removed now (a full disk) is when the name is used again, or at the next start. */
  abandon(): void {
    const { shared, tenant, entry } = this;
    this.store.close();
    try {
      removeTimeline(shared, tenant, entry.id);
    } catch (error) {
      shared.log.error({ err: error, timeline: entry.id }, "an unfinished import is left");
    }
  }
}

function removeTimeline(shared: TenantShared, tenant: TenantHandle, id: TimelineId): void {
  tenant.catalog.change((change) => change.removeTimeline(id));
  removeTimelineFiles(timelinePath(shared.dataDir, tenant.id, id));
}

/** What an import that failed has left under this name or id. */
function removeUnfinished(
  shared: TenantShared,
  tenant: TenantHandle,
  { id, name }: NewTimeline,
): void {
  for (const entry of tenant.catalog.timelines()) {
    const same = entry.name === name || entry.id === id;
    if (same && entry.state === "importing") removeTimeline(shared, tenant, entry.id);
  }
}

/** Whatever layer is open when a change comes: an import outlives many. */
class CurrentSink implements ChangeSink {
  private readonly current: () => ChangeSink;

  constructor(current: () => ChangeSink) {
    this.current = current;
  }
  get groups(): GroupTable {
    return this.current().groups;
  }
  get arena(): Arena {
    return this.current().arena;
  }
  putRecord(
    group: number,
    block: number,
    lsn: number,
    flags: number,
    chunk: ArenaChunk,
    start: number,
    length: number,
  ): void {
    this.current().putRecord(group, block, lsn, flags, chunk, start, length);
  }
  putImage(
    group: number,
    block: number,
    lsn: number,
    flags: number,
    chunk: ArenaChunk,
    start: number,
    length: number,
    holeOffset: number,
    holeLength: number,
  ): void {
    const sink = this.current();
    sink.putImage(group, block, lsn, flags, chunk, start, length, holeOffset, holeLength);
  }
  putZeroPage(group: number, block: number, lsn: number): void {
    this.current().putZeroPage(group, block, lsn);
  }
  putOp(group: number, block: number, lsn: number, op: Uint8Array): void {
    this.current().putOp(group, block, lsn, op);
  }
  putValue(group: number, block: number, lsn: number, value: Uint8Array): void {
    this.current().putValue(group, block, lsn, value);
  }
  putTombstone(group: number, block: number, lsn: number): void {
    this.current().putTombstone(group, block, lsn);
  }
}
