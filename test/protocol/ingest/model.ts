// The naive store that ingest is tested against: every version of every key in a list, in the order
// they came. As nasty as the contract of ChangeSink allows: copied bytes go to the arena's free place
// at once (so a record that was not kept is overwritten), kept ones are looked at only when asked for.

import { Arena, type ArenaChunk } from "../../../src/core/arena.ts";
import type { ChangeSink, MetadataView } from "../../../src/core/change.ts";
import { type Group, GroupTable, KIND, type Kind } from "../../../src/core/key.ts";
import { LSN_MAX, Lsn } from "../../../src/core/lsn.ts";
import { Chain, type ChainOutcome } from "../../../src/core/reconstruct.ts";
import { VERSION, type Version, type VersionType } from "../../../src/core/version.ts";
import {
  CHECKPOINT_BYTES,
  type CheckPoint,
  buildCheckPoint,
  readCheckPoint,
} from "../../../src/protocol/control-file.ts";
import { WalIngest } from "../../../src/protocol/ingest/ingest.ts";
import { restorePage } from "../../../src/protocol/restore-page.ts";
import { WalDecoder } from "../../../src/protocol/wal/decoder.ts";
import type { RecordSpec } from "../../../src/protocol/wal/writer.ts";
import { WalBuilder } from "../../support/wal-builder.ts";
import { RM } from "../../../src/protocol/wal/rmgr.ts";

const NO_CHUNK = new Arena().chunk;
const keyOf = (g: Group, block: number): string => `${g.kind}/${g.a}/${g.b}/${g.c}/${g.d}/${block}`;

export class ModelStore implements ChangeSink, MetadataView {
  readonly groups = new GroupTable();
  arena = new Arena();
  readonly versions = new Map<string, Version[]>();
  readonly keys = new Map<string, { readonly group: number; readonly block: number }>();
  private readonly copies = new Arena();

  /** What an open layer's replacement does: records from now on lie in other memory. */
  replaceArena(): void {
    this.arena = new Arena();
  }

  private put(
    group: number,
    block: number,
    lsn: number,
    type: VersionType,
    flags: number,
    chunk: ArenaChunk,
    start: number,
    length: number,
    holeOffset = 0,
    holeLength = 0,
  ): void {
    const key = keyOf(this.groups.group(group), block);
    const list = this.versions.get(key) ?? [];
    const newest = list.at(-1);
    if (newest !== undefined && newest.lsn > lsn) throw new Error(`${key}: LSN goes back`);
    const at = Lsn.of(lsn);
    list.push({ type, flags, lsn: at, holeOffset, holeLength, bytes: chunk.bytes, start, length });
    this.versions.set(key, list);
    this.keys.set(key, { group, block });
  }

  private putCopy(
    group: number,
    block: number,
    lsn: number,
    type: VersionType,
    bytes: Uint8Array,
  ): void {
    const copy = bytes.slice();
    // Scribbles over whatever lies at the free place, as a sink may that copies to this arena.
    this.arena.reserve(copy.length + 64);
    this.arena.chunk.bytes.fill(0xee, this.arena.used, this.arena.used + copy.length + 64);
    this.copies.reserve(copy.length);
    const { chunk, used } = this.copies;
    chunk.bytes.set(copy, used);
    this.copies.commit(copy.length);
    this.put(group, block, lsn, type, 0, chunk, used, copy.length);
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
    this.put(group, block, lsn, VERSION.RECORD, flags, chunk, start, length);
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
    const hole = [holeOffset, holeLength] as const;
    this.put(group, block, lsn, VERSION.IMAGE, flags, chunk, start, length, ...hole);
  }

  putZeroPage(group: number, block: number, lsn: number): void {
    this.put(group, block, lsn, VERSION.IMAGE, 0, NO_CHUNK, 0, 0, 0, 8192);
  }

  putOp(group: number, block: number, lsn: number, op: Uint8Array): void {
    this.putCopy(group, block, lsn, VERSION.OP, op);
  }

  putValue(group: number, block: number, lsn: number, value: Uint8Array): void {
    this.putCopy(group, block, lsn, VERSION.VALUE, value);
  }

  putTombstone(group: number, block: number, lsn: number): void {
    this.put(group, block, lsn, VERSION.TOMBSTONE, 0, NO_CHUNK, 0, 0);
  }

  value(group: number, block: number): Uint8Array | undefined {
    const newest = this.versionsOf(this.groups.group(group), block).at(-1);
    if (newest?.type !== VERSION.VALUE) return undefined;
    return newest.bytes.slice(newest.start, newest.start + newest.length);
  }

  list(
    kind: number,
    a: number | undefined,
    b: number | undefined,
    each: (group: number, block: number, value: Uint8Array) => void,
  ): void {
    for (const { group, block } of [...this.keys.values()]) {
      const g = this.groups.group(group);
      const value = this.value(group, block);
      if (g.kind !== kind || value === undefined) continue;
      if ((a ?? g.a) === g.a && (b ?? g.b) === g.b) each(group, block, value);
    }
  }

  /** Versions of a key, oldest first. */
  versionsOf(group: Group, block: number): readonly Version[] {
    return this.versions.get(keyOf(group, block)) ?? [];
  }

  /** "IMAGE", "RECORD init" … of a key, oldest first. */
  types(group: Group, block = 0): readonly string[] {
    const names = Object.entries(VERSION);
    return this.versionsOf(group, block).map((v) => {
      const name = names.find(([, type]) => type === v.type)![0];
      const zero = v.type === VERSION.IMAGE && v.length === 0;
      if (zero) return "ZERO";
      return v.type === VERSION.RECORD && (v.flags & 1) !== 0 ? "RECORD init" : name;
    });
  }

  /** What a key is at an LSN, as a reader would find out. */
  read(group: Group, block: number, at: Lsn = LSN_MAX, page = new Uint8Array(8192)): ChainOutcome {
    const chain = new Chain(restorePage);
    chain.begin(at, page);
    const versions = this.versionsOf(group, block).filter((v) => v.lsn <= at);
    for (let i = versions.length - 1; i >= 0 && chain.offer(versions[i]!); i--);
    return chain.outcome();
  }

  /** The page of a native or image-only chain. */
  page(group: Group, block: number, at: Lsn = LSN_MAX): Uint8Array {
    const page = new Uint8Array(8192);
    const outcome = this.read(group, block, at, page);
    if (outcome.kind !== "page")
      throw new Error(`${keyOf(group, block)}: ${JSON.stringify(outcome)}`);
    return page;
  }

  /** A REL_SIZE or SLRU_SIZE, or undefined when it does not exist. */
  size(group: Group, at: Lsn = LSN_MAX): number | undefined {
    const outcome = this.read(group, 0, at);
    if (outcome.kind !== "value") return undefined;
    return new DataView(outcome.value.buffer).getUint32(0, true);
  }

  /** Everything, comparable: key to its versions as text. */
  dump(): Record<string, readonly string[]> {
    return Object.fromEntries(
      [...this.versions]
        .sort(([x], [y]) => (x < y ? -1 : 1))
        .map(([key, list]) => [
          key,
          list.map((v) => {
            const payload = Buffer.from(v.bytes.subarray(v.start, v.start + v.length)).toString(
              "hex",
            );
            return `${v.lsn} ${v.type} ${v.flags} ${v.holeOffset}+${v.holeLength} ${payload}`;
          }),
        ]),
    );
  }
}

const group = (kind: Kind, a: number, b: number, c: number, d: number): Group => ({
  kind,
  a,
  b,
  c,
  d,
});

/** Keys by short names; relations are in tablespace 1663, database 5 unless said. */
export const at = {
  page: (rel: number, fork = 0, db = 5): Group => group(KIND.PAGE, 1663, db, rel, fork),
  relSize: (rel: number, fork = 0, db = 5): Group => group(KIND.REL_SIZE, 1663, db, rel, fork),
  slru: (slru: number, segment: number): Group => group(KIND.SLRU_PAGE, slru, 0, segment, 0),
  slruSize: (slru: number, segment: number): Group => group(KIND.SLRU_SIZE, slru, 0, segment, 0),
  relmap: (db: number, spc = 1663): Group => group(KIND.RELMAP, spc, db, 0, 0),
  dbCopy: (db: number): Group => group(KIND.DB_COPY, 1663, db, 0, 0),
  twoPhase: (xid: number): Group => group(KIND.TWO_PHASE, 0, 0, xid, 0),
  origin: (id: number): Group => group(KIND.ORIGIN, 0, 0, id, 0),
  checkpoint: group(KIND.CHECKPOINT, 0, 0, 0, 0),
  control: group(KIND.CONTROL, 0, 0, 0, 0),
  commitTimes: group(KIND.COMMIT_TIME, 0, 0, 0, 0),
  boundaries: group(KIND.BOUNDARY, 0, 0, 0, 0),
};

export const FIRST_CHECKPOINT: CheckPoint = {
  redo: Lsn.of(0x1000_0028),
  tli: 1,
  previousTli: 1,
  fullPageWrites: true,
  walLevel: 0,
  nextXid: 700,
  nextOid: 10_000,
  nextMulti: 1,
  nextMultiOffset: 0,
  oldestXid: 3,
  oldestXidDb: 1,
  oldestMulti: 1,
  oldestMultiDb: 1,
  time: 0,
  oldestCommitTsXid: 0,
  newestCommitTsXid: 0,
  oldestActiveXid: 0,
};

export const START = Lsn.of(0x1000_0100);
export const PREV = Lsn.of(0x1000_0028);

/** A timeline without store or actors: records in, versions in a ModelStore out. */
export class Harness {
  readonly store = new ModelStore();
  readonly wal = new WalBuilder({ start: START, previous: PREV });
  ingest: WalIngest;
  decoder: WalDecoder;
  private fed = 0;

  constructor(checkpoint: Partial<CheckPoint> = {}) {
    const bytes = buildCheckPoint({ ...FIRST_CHECKPOINT, ...checkpoint }, 15);
    this.store.putValue(this.id(at.checkpoint), 0, START, bytes);
    this.ingest = this.makeIngest(START, PREV);
    this.decoder = this.makeDecoder(START, PREV);
  }

  id(g: Group): number {
    return this.store.groups.id(g.kind, g.a, g.b, g.c, g.d);
  }

  private makeIngest(last: Lsn, prev: Lsn): WalIngest {
    return new WalIngest({ version: 15, sink: this.store, meta: this.store, last, prev });
  }

  private makeDecoder(start: Lsn, previous: Lsn): WalDecoder {
    const { arena } = this.store;
    const onRecord = (record: Parameters<WalIngest["ingest"]>[0]): void =>
      this.ingest.ingest(record);
    return new WalDecoder({ version: 15, start, previous, arena, onRecord });
  }

  /** Takes in records; gives the end LSN of the last. */
  add(...specs: readonly RecordSpec[]): Lsn {
    for (const spec of specs) this.wal.add(spec);
    this.feed();
    return this.wal.end;
  }

  feed(): void {
    const bytes = this.wal.bytes();
    this.decoder.feed(bytes, this.fed, bytes.length);
    this.fed = bytes.length;
  }

  /** Freezes the open layer; "restart" goes on with a new ingest and decoder. */
  freeze(then: "continue" | "restart"): void {
    this.ingest.beforeFreeze();
    this.store.replaceArena();
    if (then === "continue") {
      this.decoder.moveTo(this.store.arena);
      this.ingest.moveTo(this.store);
    } else {
      const { lastLsn, prevLsn } = this.ingest;
      this.ingest = this.makeIngest(lastLsn, prevLsn);
      this.decoder = this.makeDecoder(lastLsn, prevLsn);
    }
  }

  checkpoint(): CheckPoint {
    const outcome = this.store.read(at.checkpoint, 0);
    if (outcome.kind !== "value" || outcome.value.length !== CHECKPOINT_BYTES)
      throw new Error("none");
    return readCheckPoint(outcome.value, 15);
  }
}

/** Little-endian main data: numbers are u32s, bytes go in as they are. */
export function main(...fields: readonly (number | Uint8Array)[]): Uint8Array {
  return Uint8Array.from(
    fields.flatMap((f) => {
      if (typeof f !== "number") return [...f];
      return [f & 255, (f >>> 8) & 255, (f >>> 16) & 255, f >>> 24];
    }),
  );
}

/** A commit (info 0) or an abort (0x20) that has nothing but its transaction. */
export const plainEnd = (info: number, xid: number): RecordSpec => ({
  rmid: RM.XACT,
  info,
  xid,
  main: main(1, 0),
});
