// Opens a timeline: its store, then the WAL files behind the last sealed layer through the very
// ingest that live WAL takes. Long for much WAL, so it runs beside the actor, which is told the end.

import type { Catalog } from "../store/catalog.ts";
import type { TimelineEntry } from "../store/catalog-entries.ts";
import { OPEN_LAYER_BYTES_MAX } from "../core/limits.ts";
import type { Lsn } from "../core/lsn.ts";
import type { StoreFailed } from "../store/store-errors.ts";
import type { TimelineStore } from "../store/timeline-store.ts";
import { WalFiles } from "../store/wal-files.ts";
import { WalIntake } from "../store/wal-intake.ts";

export interface LoadParts {
  readonly entry: TimelineEntry;
  readonly store: TimelineStore;
  readonly walDirectory: string;
  readonly nowMs: () => number;
  readonly onDurable: (upTo: Lsn) => void;
  readonly onFatal: (error: StoreFailed) => void;
  /** True once nobody wants the outcome any more. */
  readonly cancelled: () => boolean;
}

export interface Loaded {
  readonly files: WalFiles;
  readonly intake: WalIntake;
  /** Why the WAL files ended where they did; for the log. */
  readonly endReason: string | undefined;
}

/** Throws StoreCorrupt, StoreFull, StoreFailed, MalformedInput, UnsupportedWal. */
export async function loadTimeline(parts: LoadParts): Promise<Loaded> {
  const { entry, store } = parts;
  const files = new WalFiles({
    directory: parts.walDirectory,
    tli: entry.tli,
    start: entry.sealedLsn,
    onDurable: parts.onDurable,
    onFatal: parts.onFatal,
  });
  const intake = new WalIntake({
    pgVersion: entry.pgVersion,
    systemId: entry.systemId,
    tli: entry.tli,
    sink: store.sink,
    meta: store.meta,
    last: entry.sealedLsn,
    prev: entry.sealedPrev,
  });
  const end = await intake.replay(files.read(), async () => {
    if (parts.cancelled()) throw new Error("stopped while loading");
    store.account();
    if (store.openBytes >= OPEN_LAYER_BYTES_MAX) await sealAll(store, intake, parts.nowMs);
  });
  await files.settle(intake.visible);
  return { files, intake, endReason: end?.message };
}

/** Freezes the open layer and seals everything, a turn of the event loop between turns of work. */
export async function sealAll(
  store: TimelineStore,
  intake: Pick<WalIntake, "beforeFreeze" | "visible" | "prev" | "moveTo">,
  nowMs: () => number,
): Promise<void> {
  if (!store.openIsEmpty) {
    intake.beforeFreeze();
    store.freeze(intake.visible, intake.prev);
    intake.moveTo(store.sink);
  }
  for (let job = store.beginSeal(nowMs()); job !== undefined; job = store.beginSeal(nowMs())) {
    try {
      while (job.step()) await new Promise((resolve) => setImmediate(resolve));
      await job.finish();
    } catch (error) {
      await job.abandon();
      throw error;
    }
  }
}

/** The catalog's entry of a timeline that must be there. */
export function timelineEntryOf(catalog: Catalog, id: TimelineEntry["id"]): TimelineEntry {
  const entry = catalog.timeline(id);
  if (entry === undefined) throw new Error(`timeline ${id} is not in the catalog`);
  return entry;
}
