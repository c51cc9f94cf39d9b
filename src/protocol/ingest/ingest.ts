// WAL records to changes: what each record of a stock PostgreSQL 15 does to pages, sizes, maps and
// counters, as calls on a ChangeSink. docs/wal-ingest.md has the table. One call a record, nothing
// allocated for common ones, nothing forgotten: what cannot be followed is an error, not a guess.
//
// State that is not in the sink after every record (the boundary window and commit times that are
// being filled) is put there by beforeFreeze(), so that a new WalIngest that starts where a layer
// was frozen goes on exactly like the one before it.

import { assert } from "../../core/assert.ts";
import { BoundaryWindow } from "../../core/boundaries.ts";
import type { ChangeSink, MetadataView } from "../../core/change.ts";
import { KIND } from "../../core/key.ts";
import { LSN_INVALID, Lsn } from "../../core/lsn.ts";
import type { WalRecord } from "../../core/wal-record.ts";
import type { PgVersion } from "../wal/format.ts";
import { RM } from "../wal/rmgr.ts";
import { IngestContext, storedCheckpoint } from "./context.ts";
import { onDatabase, onRelmap } from "./databases.ts";
import { clearVisibility } from "./heap-visibility.ts";
import { onOrigin } from "./origins.ts";
import { changesPages, storeBlocks } from "./pages.ts";
import { onSmgr } from "./relations.ts";
import { onClog, onMultixact } from "./slru.ts";
import { onXact } from "./xact.ts";
import { onStandby, onXlog } from "./xlog.ts";

export interface WalIngestOptions {
  /** Only 15 is followed: the others' records have not been gone through. */
  readonly version: PgVersion;
  readonly sink: ChangeSink;
  /** Its answers must include what was put into the sink. */
  readonly meta: MetadataView;
  /** End of the last record that the store has. */
  readonly last: Lsn;
  /** Start of that record; 0 if unknown. */
  readonly prev: Lsn;
  /** The CheckPoint struct as of `last`, 88 bytes; read from `meta` when not given. */
  readonly checkpoint?: Uint8Array;
}

export class WalIngest {
  /** End of the last record taken in. */
  lastLsn: Lsn;
  /** Start of the last record: what the next one's xl_prev must hold. 0 if unknown. */
  prevLsn: Lsn;
  private readonly context: IngestContext;
  private readonly window: BoundaryWindow;
  /** Where the last layer was frozen: at this LSN nothing is pending. */
  private frozenLsn: Lsn;

  constructor(options: WalIngestOptions) {
    const { version, sink, meta, last, prev } = options;
    assert(version === 15, `WAL of PostgreSQL ${version} is not followed, only 15's`);
    this.lastLsn = last;
    this.prevLsn = prev;
    this.frozenLsn = last;
    this.context = new IngestContext(
      sink,
      meta,
      options.checkpoint ?? storedCheckpoint(sink, meta),
      version,
    );
    // The start of the last record must be known: it is the `prev` of the boundary at `last`.
    const from = prev === LSN_INVALID ? Lsn.normalize(last) : prev;
    const { start } = new BoundaryWindow(from, undefined);
    this.window = new BoundaryWindow(from, meta.value(boundaryGroup(sink, start), Lsn.low(start)));
    if (prev !== LSN_INVALID) this.window.add(prev);
  }

  /**
   * Takes in one record, which lies at the free place of the sink's arena. Throws WalCorrupt for
   * bytes that are not what PostgreSQL writes, UnsupportedWal for what cannot be followed. After a
   * throw the sink may hold a part of the record's changes: the timeline is broken at this LSN.
   */
  ingest(record: WalRecord): void {
    const { context } = this;
    assert(record.startLsn >= this.lastLsn, "I: WAL goes forward");
    assert(
      record.prevLsn === this.prevLsn || this.prevLsn === LSN_INVALID,
      "I: a record follows the last one taken in",
    );
    context.begin();
    context.checkpoint.sawXid(record.xid);
    if (record.blockCount > 0 && changesPages(record)) {
      context.keep(record);
      if (record.rmid === RM.HEAP || record.rmid === RM.HEAP2) clearVisibility(context, record);
      storeBlocks(context, record);
    }
    this.special(record);
    context.putCheckpoint(record.endLsn);
    this.noteBoundary(record);
    this.prevLsn = record.startLsn as Lsn;
    this.lastLsn = record.endLsn as Lsn;
  }

  /** What a record does beyond the pages it names. */
  private special(record: WalRecord): void {
    const { context } = this;
    switch (record.rmid) {
      case RM.XLOG:
        return onXlog(context, record);
      case RM.XACT:
        return onXact(context, record);
      case RM.SMGR:
        return onSmgr(context, record);
      case RM.CLOG:
        return onClog(context, record);
      case RM.DBASE:
        return onDatabase(context, record);
      case RM.MULTIXACT:
        return onMultixact(context, record);
      case RM.RELMAP:
        return onRelmap(context, record);
      case RM.STANDBY:
        return onStandby(context, record);
      case RM.REPLORIGIN:
        return onOrigin(context, record);
      default:
        return; // nothing: commit timestamps, logical messages and tablespaces are not kept
    }
  }

  private noteBoundary(record: WalRecord): void {
    if (!this.window.contains(record.startLsn)) {
      this.putWindow(record.endLsn);
      this.window.moveTo(record.startLsn);
    }
    this.window.add(record.startLsn);
  }

  private putWindow(lsn: number): void {
    if (!this.window.dirty) return;
    const { start } = this.window;
    const { sink } = this.context;
    sink.putValue(boundaryGroup(sink, start), Lsn.low(start), lsn, this.window.value());
    this.window.dirty = false;
  }

  /** Puts what is pending into the sink at `lastLsn`: the open layer is about to be frozen. */
  beforeFreeze(): void {
    const { context } = this;
    if (this.lastLsn === this.frozenLsn) return;
    this.frozenLsn = this.lastLsn;
    this.putWindow(this.lastLsn);
    context.putCommitSecond(this.lastLsn);
    // A restarted ingest finds its second in the store when its next commit comes: so does this one.
    context.commitSecond.forget();
  }

  /** Changes go to `sink` from now on: the open layer was frozen and replaced. It has the same GroupTable. */
  moveTo(sink: ChangeSink): void {
    assert(sink.groups === this.context.sink.groups, "the layers of a timeline share their groups");
    this.context.sink = sink;
  }

  /** Record starts that are not in the store yet: the value of the window that begins at `window`, if it is that one. */
  pendingWindow(window: Lsn): Uint8Array | undefined {
    return window === this.window.start ? this.window.value().slice() : undefined;
  }

  /** Commit times that are not in the store yet: overrides what is stored for that second. */
  pendingCommits(): { readonly second: number; readonly value: Uint8Array } | undefined {
    const { second, dirty } = this.context.commitSecond;
    return dirty ? { second, value: this.context.commitSecond.value().slice() } : undefined;
  }

  /** Blocks that all relation forks have at `lastLsn`, less those that they had at the beginning. */
  get growth(): number {
    return this.context.sizes.growth;
  }

  /** The CheckPoint struct as of `lastLsn`, a copy. */
  checkpoint(): Uint8Array {
    return this.context.checkpoint.bytes();
  }
}

const boundaryGroup = (sink: ChangeSink, window: Lsn): number =>
  sink.groups.id(KIND.BOUNDARY, 0, 0, Lsn.high(window), 0);
