// What the parts of ingest share: the sink that changes go to, sizes, the checkpoint, and the one rule
// about the record's memory: it lies at the arena's free place and is overwritten by the next thing
// that is put there. Whoever is going to point at it, or to read on after a put, calls keep() first.

import { InvariantViolation, assert } from "../../core/assert.ts";
import type { ChangeSink, MetadataView } from "../../core/change.ts";
import { CommitSecond } from "../../core/commit-times.ts";
import { KIND } from "../../core/key.ts";
import { GAP_BLOCKS_MAX } from "../../core/limits.ts";
import { Lsn } from "../../core/lsn.ts";
import { SMALL_OP_BYTES } from "../../core/page-op.ts";
import type { WalRecord } from "../../core/wal-record.ts";
import type { PgVersion } from "../wal/format.ts";
import { CheckpointState } from "./checkpoint-state.ts";
import { Sizes } from "./sizes.ts";

/** WAL that is sound, but says something this program cannot follow. Reading on would give wrong pages; reading it again does not help. */
export class UnsupportedWal extends Error {
  override readonly name = "UnsupportedWal";

  constructor(record: WalRecord, message: string) {
    super(`WAL record at ${Lsn.format(record.startLsn as Lsn)}: ${message}`);
  }
}

const OP_BYTES_AT_FIRST = 256;

export class IngestContext {
  sink: ChangeSink;
  readonly meta: MetadataView;
  readonly version: PgVersion;
  readonly sizes: Sizes;
  readonly checkpoint: CheckpointState;
  readonly commitSecond = new CommitSecond();
  /** Where operations are made: one of three bytes, and a longer one that is made to grow. */
  readonly smallOp = new Uint8Array(SMALL_OP_BYTES);
  op: Uint8Array = new Uint8Array(OP_BYTES_AT_FIRST);
  private kept = false;

  constructor(sink: ChangeSink, meta: MetadataView, checkpoint: Uint8Array, version: PgVersion) {
    this.version = version;
    this.sink = sink;
    this.meta = meta;
    this.sizes = new Sizes(meta);
    this.checkpoint = new CheckpointState(checkpoint, version);
  }

  /** A new record is looked at: nothing of it is kept yet. */
  begin(): void {
    this.kept = false;
  }

  /** Makes the record's bytes stay. */
  keep(record: WalRecord): void {
    if (this.kept) return;
    const { arena } = this.sink;
    assert(
      record.chunk === arena.chunk && record.start === arena.used,
      "a record is kept that does not lie at the arena's free place",
    );
    arena.commit(record.length);
    this.kept = true;
  }

  /** Makes `op` hold at least `length` bytes; what it held stays. */
  growOp(length: number): Uint8Array {
    if (this.op.length < length) {
      const larger = new Uint8Array(Math.max(length, this.op.length * 2));
      larger.set(this.op);
      this.op = larger;
    }
    return this.op;
  }

  pageGroup(spc: number, db: number, rel: number, fork: number): number {
    return this.sink.groups.id(KIND.PAGE, spc, db, rel, fork);
  }

  slruGroup(kind: number, segment: number): number {
    return this.sink.groups.id(KIND.SLRU_PAGE, kind, 0, segment, 0);
  }

  /** Size of a relation fork or SLRU segment, or MISSING. */
  size(pageGroup: number): number {
    return this.sizes.get(this.sink, pageGroup);
  }

  /**
   * Makes sure that `block` exists, creating what is missing. Blocks of the gap become zero pages;
   * so does `block` itself unless its first version needs nothing older ("whole"): an old version
   * from before a truncation must not show through.
   */
  extend(record: WalRecord, pageGroup: number, block: number, first: "whole" | "change"): void {
    const size = Math.max(this.size(pageGroup), 0);
    if (block < size) return;
    if (block - size > GAP_BLOCKS_MAX || block === 0xffff_ffff) {
      throw new UnsupportedWal(record, `block ${block} of a relation of ${size} blocks`);
    }
    const end = first === "whole" ? block : block + 1;
    for (let b = size; b < end; b++) this.sink.putZeroPage(pageGroup, b, record.endLsn);
    this.sizes.set(this.sink, pageGroup, block + 1, record.endLsn);
  }

  /** Notes a commit for finding LSNs by time. `timeUs` is PostgreSQL's. */
  noteCommit(timeUs: number, lsn: number): void {
    const second = this.commitSecond;
    if (timeUs < 0) return; // a clock before 2000 is not one to ask
    if (!second.takes(timeUs)) {
      this.putCommitSecond(lsn);
      second.moveTo(timeUs, this.storedCommits);
    }
    second.add(timeUs, lsn);
  }

  /** Stores the commit times that are not yet. */
  putCommitSecond(lsn: number): void {
    const { second, dirty } = this.commitSecond;
    if (!dirty) return;
    this.sink.putValue(this.commitGroup(), second, lsn, this.commitSecond.value());
    this.commitSecond.dirty = false;
  }

  /** Stores the checkpoint if it has changed. */
  putCheckpoint(lsn: number): void {
    if (!this.checkpoint.dirty) return;
    this.sink.putValue(checkpointGroup(this.sink), 0, lsn, this.checkpoint.bytes());
    this.checkpoint.dirty = false;
  }

  private readonly storedCommits = (second: number): Uint8Array | undefined =>
    this.meta.value(this.commitGroup(), second);

  private commitGroup(): number {
    return this.sink.groups.id(KIND.COMMIT_TIME, 0, 0, 0, 0);
  }
}

export const checkpointGroup = (sink: ChangeSink): number =>
  sink.groups.id(KIND.CHECKPOINT, 0, 0, 0, 0);

/** The checkpoint a timeline has. Throws when there is none: every import stores one. */
export function storedCheckpoint(sink: ChangeSink, meta: MetadataView): Uint8Array {
  const stored = meta.value(checkpointGroup(sink), 0);
  if (stored === undefined) throw new InvariantViolation("a timeline has no checkpoint");
  return stored;
}
