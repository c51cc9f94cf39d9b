// A tenant's catalog and timeline stores in a scratch directory, closed and opened again at will.

import type { TimelineId } from "../../src/core/ids.ts";
import { LSN_INVALID, type Lsn } from "../../src/core/lsn.ts";
import { Catalog } from "../../src/store/catalog.ts";
import type { TimelineEntry } from "../../src/store/catalog-entries.ts";
import { OpenBudget } from "../../src/store/open-budget.ts";
import type { SealFault } from "../../src/store/seal-job.ts";
import { OpenFiles } from "../../src/store/sealed-file.ts";
import { TimelineStore } from "../../src/store/timeline-store.ts";

export const timelineId = (n: number): TimelineId => n.toString(16).padStart(32, "0") as TimelineId;

export function timelineEntry(
  n: number,
  over: Partial<TimelineEntry> & { readonly ancestor?: { id: TimelineId; lsn: Lsn } } = {},
): TimelineEntry {
  return {
    id: timelineId(n),
    name: `timeline-${n}`,
    pgVersion: 15,
    tli: 1,
    systemId: "7300000000000000000",
    baseLsn: LSN_INVALID,
    readableFrom: LSN_INVALID,
    sealedLsn: LSN_INVALID,
    sealedPrev: LSN_INVALID,
    state: "active",
    createdAtMs: 0,
    ...over,
  };
}

export class StoreFixture {
  readonly directory: string;
  catalog: Catalog;
  files = new OpenFiles(3);
  budget = new OpenBudget();
  sealFault: SealFault = () => {};
  private readonly stores = new Map<number, TimelineStore>();

  constructor(directory: string) {
    this.directory = directory;
    this.catalog = new Catalog(`${directory}/catalog`);
  }

  timelineDirectory(n: number): string {
    return `${this.directory}/timelines/${timelineId(n)}`;
  }

  create(n: number, ancestor?: { readonly n: number; readonly lsn: Lsn }): TimelineStore {
    const from =
      ancestor === undefined
        ? {}
        : {
            ancestor: { id: timelineId(ancestor.n), lsn: ancestor.lsn },
            sealedLsn: ancestor.lsn,
            baseLsn: ancestor.lsn,
          };
    this.catalog.change((change) => change.putTimeline(timelineEntry(n, from)));
    return this.store(n);
  }

  /** The store of a timeline, opened with its ancestors. */
  store(n: number): TimelineStore {
    let store = this.stores.get(n);
    if (store !== undefined) return store;
    const entry = this.catalog.timeline(timelineId(n))!;
    const { ancestor } = entry;
    store = new TimelineStore({
      id: entry.id,
      directory: this.timelineDirectory(n),
      catalog: this.catalog,
      files: this.files,
      budget: this.budget,
      ancestor:
        ancestor === undefined
          ? undefined
          : { store: this.store(parseInt(ancestor.id, 16)), lsn: ancestor.lsn },
      sealFault: (point) => this.sealFault(point),
    });
    this.stores.set(n, store);
    return store;
  }

  /** Forgets all that is in memory, as a crash does. */
  async reopen(): Promise<void> {
    await this.close();
    this.stores.clear();
    this.files = new OpenFiles(3);
    this.budget = new OpenBudget();
    this.catalog = new Catalog(`${this.directory}/catalog`);
  }

  async close(): Promise<void> {
    this.files.closeAll();
    await this.catalog.close();
  }
}

/** Seals the oldest frozen layer; an error leaves it frozen. */
export async function seal(store: TimelineStore): Promise<void> {
  const job = store.beginSeal(1_000);
  if (job === undefined) return;
  try {
    while (job.step());
    await job.finish();
  } catch (cause) {
    await job.abandon();
    throw cause;
  }
}
