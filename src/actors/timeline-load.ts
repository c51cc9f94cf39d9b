// Opens a timeline: its store, then the WAL files behind the last sealed layer through the very
// ingest that live WAL takes. Long for much WAL, so it runs beside the actor, which is told the end.
//
// A record that cannot be followed leaves a part of its changes behind. The timeline is then opened
// once more, up to that record, and stays readable there; nothing is removed from its WAL files. Nor
// is it when they end before what was durable: that is damage, not the end of what came.

import path from "node:path";
import type { Catalog } from "../store/catalog.ts";
import type { TimelineEntry } from "../store/catalog-entries.ts";
import { OPEN_LAYER_BYTES_MAX } from "../core/limits.ts";
import { Lsn } from "../core/lsn.ts";
import type { CrashPoint } from "../store/crash-points.ts";
import { DurableFloor } from "../store/durable-floor.ts";
import type { OpenBudget } from "../store/open-budget.ts";
import { StoreCorrupt, type StoreFailed, StoreFull } from "../store/store-errors.ts";
import type { TimelineStore } from "../store/timeline-store.ts";
import { WalFiles } from "../store/wal-files.ts";
import { WalIntake } from "../store/wal-intake.ts";

export interface LoadParts {
  /** As the catalog has it now. */
  readonly entry: () => TimelineEntry;
  readonly openStore: () => TimelineStore;
  readonly walDirectory: string;
  readonly budget: OpenBudget;
  readonly nowMs: () => number;
  readonly onDurable: (upTo: Lsn) => void;
  readonly onFatal: (error: StoreFailed) => void;
  readonly crashPoint?: CrashPoint | undefined;
  /** True once nobody wants the outcome any more. */
  readonly cancelled: () => boolean;
}

export interface Loaded {
  readonly store: TimelineStore;
  readonly files: WalFiles;
  readonly intake: WalIntake;
  readonly floor: DurableFloor;
  /** Why the WAL files ended where they did; for the log. */
  readonly endReason: string | undefined;
  /** Why nothing can be taken in behind the last record: what the next one threw, or damage. */
  readonly failure: { readonly error: unknown } | undefined;
}

/** The load was given up because the timeline stops. */
class Cancelled extends Error {
  override readonly name = "Cancelled";
}

/** Throws StoreCorrupt, StoreFull (try again later), StoreFailed, MalformedInput. */
export async function loadTimeline(parts: LoadParts): Promise<Loaded> {
  const first = open(parts);
  try {
    const end = await replay(parts, first);
    const damage = damageOf(first, end?.message);
    if (damage === undefined) await first.files.settle(first.intake.visible);
    return { ...first, endReason: end?.message, failure: damage && { error: damage } };
  } catch (error) {
    first.store.close();
    if (!first.intake.failed) throw error;
    return await loadUpTo(parts, first.intake.visible, error);
  }
}

function damageOf(
  { intake, floor }: Opened,
  why = "there is no more of it",
): StoreCorrupt | undefined {
  const { visible } = intake;
  if (visible >= floor.lsn) return undefined;
  const [ends, was] = [visible, floor.lsn].map(Lsn.format);
  const remedy = `or, to go on without what is behind, remove ${floor.path}`;
  return new StoreCorrupt(
    path.dirname(floor.path),
    `its WAL was durable up to ${was}, and ends at ${ends}: ${why} (${remedy})`,
  );
}

async function loadUpTo(parts: LoadParts, limit: Lsn, error: unknown): Promise<Loaded> {
  const opened = open(parts);
  try {
    await replay(parts, opened, limit);
    await sealAll(opened.store, opened.intake, parts.nowMs).catch(unlessFull);
    return { ...opened, endReason: undefined, failure: { error } };
  } catch (cause) {
    opened.store.close();
    throw cause;
  }
}

type Opened = Pick<Loaded, "store" | "files" | "intake" | "floor">;

function open(parts: LoadParts): Opened {
  const entry = parts.entry();
  const store = parts.openStore();
  try {
    const files = new WalFiles({
      directory: parts.walDirectory,
      tli: entry.tli,
      start: entry.sealedLsn,
      onDurable: parts.onDurable,
      onFatal: parts.onFatal,
      crashPoint: parts.crashPoint,
    });
    const intake = new WalIntake({
      pgVersion: entry.pgVersion,
      systemId: entry.systemId,
      tli: entry.tli,
      sink: store.sink,
      meta: store.meta,
      last: entry.sealedLsn,
      prev: entry.sealedPrev,
      logicalSize: entry.sealedLogicalSize,
    });
    return { store, files, intake, floor: new DurableFloor(parts.walDirectory) };
  } catch (error) {
    store.close();
    throw error;
  }
}

function replay(
  parts: LoadParts,
  { store, files, intake }: Opened,
  limit?: Lsn,
): ReturnType<WalIntake["replay"]> {
  const afterPiece = async (): Promise<void> => {
    if (parts.cancelled()) throw new Cancelled("stopped while loading");
    store.account();
    const due = store.openBytes >= OPEN_LAYER_BYTES_MAX || parts.budget.mustFreeze(store);
    if (due) await sealAll(store, intake, parts.nowMs);
  };
  return intake.replay(files.read(), afterPiece, limit);
}

function unlessFull(cause: unknown): void {
  if (!(cause instanceof StoreFull)) throw cause;
}

/** Freezes the open layer and seals everything, a turn of the event loop between turns of work. */
export async function sealAll(
  store: TimelineStore,
  intake: Pick<WalIntake, "beforeFreeze" | "visible" | "prev" | "moveTo"> & {
    readonly logicalSize?: number | undefined;
  },
  nowMs: () => number,
): Promise<void> {
  if (!store.openIsEmpty) {
    intake.beforeFreeze();
    store.freeze(intake.visible, intake.prev, intake.logicalSize);
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
