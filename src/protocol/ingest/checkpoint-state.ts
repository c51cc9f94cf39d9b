// The CheckPoint struct as a server would write it if it stopped now: counters that every compute
// starts from. Changed by nearly every kind of record, stored when changed.

import { type CheckPoint, buildCheckPoint, readCheckPoint } from "../control-file.ts";
import type { PgVersion } from "../wal/format.ts";

const FIRST_NORMAL_XID = 3;
/** nextXid is kept up to this far ahead, so that not every transaction changes it. */
const NEXT_XID_STEP = 1_024;
const TWO_32 = 4_294_967_296;

/** TransactionIdPrecedes, MultiXactIdPrecedes …: on a circle, the nearer way round. */
export const precedes = (a: number, b: number): boolean => ((a - b) | 0) < 0;

type Counters = { -readonly [Field in keyof CheckPoint]: CheckPoint[Field] };

export class CheckpointState {
  /** Changed since it was last stored. */
  dirty = false;
  private readonly version: PgVersion;
  private now: Counters;
  /** Lower half of nextXid: what the hot path compares with. */
  private nextXid32: number;

  /** Throws MalformedInput unless `stored` is a CheckPoint struct. */
  constructor(stored: Uint8Array, version: PgVersion) {
    this.version = version;
    this.now = readCheckPoint(stored, version);
    this.nextXid32 = this.now.nextXid % TWO_32;
  }

  /** The struct as PostgreSQL stores it, 88 bytes. */
  bytes(): Uint8Array {
    return buildCheckPoint(this.now, this.version);
  }

  /** PostgreSQL's timeline id of the WAL. */
  get tli(): number {
    return this.now.tli;
  }
  /** Lower half of nextXid. */
  get nextXid(): number {
    return this.nextXid32;
  }
  get nextMulti(): number {
    return this.now.nextMulti;
  }

  /** Makes sure that nextXid lies beyond `xid`: AdvanceNextFullTransactionIdPastXid, in larger steps. */
  sawXid(xid: number): void {
    if (((xid - this.nextXid32) | 0) >= 0 && xid >= FIRST_NORMAL_XID) this.advanceXid(xid);
  }

  private advanceXid(xid: number): void {
    const next = this.now.nextXid + ((xid - this.nextXid32) >>> 0) + 1;
    const rounded = Math.ceil(next / NEXT_XID_STEP) * NEXT_XID_STEP;
    this.setNextXid(rounded % TWO_32 === 0 ? rounded + FIRST_NORMAL_XID : rounded);
  }

  private setNextXid(next: number): void {
    this.set("nextXid", next);
    this.nextXid32 = next % TWO_32;
  }

  /** Sets one field. */
  set<Field extends keyof CheckPoint>(field: Field, value: CheckPoint[Field]): void {
    if (this.now[field] === value) return;
    this.now[field] = value;
    this.dirty = true;
  }

  /** MultiXactAdvanceNextMXact. */
  sawMulti(nextMulti: number, nextOffset: number): void {
    if (precedes(this.now.nextMulti, nextMulti)) this.set("nextMulti", nextMulti);
    if (precedes(this.now.nextMultiOffset, nextOffset)) this.set("nextMultiOffset", nextOffset);
  }

  sawOldestXid(xid: number, db: number): void {
    if (!precedes(this.now.oldestXid, xid)) return;
    this.set("oldestXid", xid);
    this.set("oldestXidDb", db);
  }

  /** MultiXactAdvanceOldest. */
  sawOldestMulti(multi: number, db: number): void {
    if (!precedes(this.now.oldestMulti, multi)) return;
    this.set("oldestMulti", multi);
    this.set("oldestMultiDb", db);
  }

  /** A shutdown checkpoint: nothing ran, so its counters are exact. `oldestActiveXid`: of prepared transactions. */
  takeShutdown(record: CheckPoint, oldestActiveXid: number): void {
    const { oldestMulti, oldestMultiDb } = this.now;
    this.now = { ...record, oldestActiveXid };
    this.nextXid32 = record.nextXid % TWO_32;
    this.sawOldestMulti(oldestMulti, oldestMultiDb);
    this.dirty = true;
  }

  /** An online checkpoint: its counters are from its beginning, so lower bounds; its nextOid is not used. */
  takeOnline(record: CheckPoint): void {
    if (record.nextXid > this.now.nextXid) this.setNextXid(record.nextXid);
    this.sawMulti(record.nextMulti, record.nextMultiOffset);
    this.sawOldestMulti(record.oldestMulti, record.oldestMultiDb);
    this.sawOldestXid(record.oldestXid, record.oldestXidDb);
    const { nextXid, nextOid, nextMulti, nextMultiOffset } = this.now;
    const { oldestXid, oldestXidDb, oldestMulti, oldestMultiDb } = this.now;
    const counters = { nextXid, nextOid, nextMulti, nextMultiOffset };
    const oldest = { oldestXid, oldestXidDb, oldestMulti, oldestMultiDb };
    this.now = { ...record, ...counters, ...oldest };
    this.dirty = true;
  }
}
