// What a base backup is made from: one timeline, frozen at one LSN. Implemented over the timeline
// actor by whoever serves the backup, over a store directly in tests.

import type { Lsn } from "./lsn.ts";
import type { RelTag } from "./page.ts";

export interface BackupSource {
  readonly lsn: Lsn;
  /** True start of the last record that ends at or below `lsn` (what the next record's xl_prev must hold); 0 if unknown. */
  readonly prevLsn: Lsn;
  readonly pgVersion: number;
  /** PostgreSQL's timeline id of the WAL. */
  readonly tli: number;
  /** Databases that exist at `lsn`; pg_global is spc 1664, db 0. `relmap` is pg_filenode.map. */
  databases(): Promise<
    readonly { readonly spc: number; readonly db: number; readonly relmap: Uint8Array }[]
  >;
  /** Relation forks of a database, with their size in blocks. */
  relations(
    spc: number,
    db: number,
  ): Promise<readonly { readonly rel: number; readonly fork: number; readonly blocks: number }[]>;
  /** `count` pages from block `from`: count * 8192 bytes, valid until the next call. Throws Error with the reason. */
  pages(rel: RelTag, from: number, count: number): Promise<Uint8Array>;
  /** Segment numbers of an SLRU, ascending. */
  slruSegments(slru: number): Promise<readonly number[]>;
  /** A segment's blocks: n * 8192 bytes. */
  slruSegment(slru: number, segment: number): Promise<Uint8Array>;
  /** Prepared transactions: xid and the main data of its PREPARE record. */
  twoPhase(): Promise<readonly { readonly xid: number; readonly body: Uint8Array }[]>;
  /** Replication origins with their remote LSN. */
  origins(): Promise<readonly { readonly id: number; readonly lsn: Lsn }[]>;
  /** pg_control as stored, 8192 bytes. */
  control(): Promise<Uint8Array>;
  /** The CheckPoint struct as of `lsn`, 88 bytes. */
  checkpoint(): Promise<Uint8Array>;
}
