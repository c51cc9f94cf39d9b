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

/** The name belongs to a timeline that is complete. */
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

  /** Enters it in the catalog. Throws NameInUse. */
  constructor(shared: TenantShared, tenant: TenantHandle, timeline: NewTimeline) {
    this.shared = shared;
    this.tenant = tenant;
    removeUnfinished(shared, tenant, timeline.name);
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
    this.store.account();
    if (this.store.openBytes >= OPEN_LAYER_BYTES_MAX) await this.seal();
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

  /** Forgets it. */
  abandon(): void {
    this.store.close();
    removeTimeline(this.shared, this.tenant, this.entry.id);
  }
}

function removeTimeline(shared: TenantShared, tenant: TenantHandle, id: TimelineId): void {
  tenant.catalog.change((change) => change.removeTimeline(id));
  removeTimelineFiles(timelinePath(shared.dataDir, tenant.id, id));
}

/** What an import that was cut short has left under this name. */
function removeUnfinished(shared: TenantShared, tenant: TenantHandle, name: string): void {
  for (const entry of tenant.catalog.timelines()) {
    if (entry.name === name && entry.state === "importing")
      removeTimeline(shared, tenant, entry.id);
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
