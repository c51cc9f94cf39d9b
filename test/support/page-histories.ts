// Real WAL as redo requests: reads the WAL of a stopped cluster and gathers, for every main-fork
// page it names, the image or base page and the records that lead to its present state. A small,
// independent second opinion on what ingest and store do; slow, and whole in memory.

import fs from "node:fs";
import path from "node:path";

import { Arena } from "../../src/core/arena.ts";
import { Lsn, WAL_SEGMENT_BYTES } from "../../src/core/lsn.ts";
import { PAGE_BYTES, RELSEG_BLOCKS, type RelTag, SPC_GLOBAL } from "../../src/core/page.ts";
import {
  type RedoRecord,
  RedoRecords,
  type RedoRequest,
  type RedoStep,
} from "../../src/core/redo-request.ts";
import type { BlockRef, WalRecord } from "../../src/core/wal-record.ts";
import { stampPageLsn } from "../../src/protocol/page-header.ts";
import { WalDecoder } from "../../src/protocol/wal/decoder.ts";
import { restoreImage } from "../../src/protocol/wal/image.ts";
import { RM, SMGR } from "../../src/protocol/wal/rmgr.ts";
import { readDbase, readSmgrCreate, readSmgrTruncate } from "../../src/protocol/wal/storage.ts";
import { runPg } from "./postgres.ts";

interface Step extends Omit<RedoStep, "records"> {
  readonly records: RedoRecord[];
}

export interface PageHistory {
  readonly rel: RelTag;
  readonly block: number;
  readonly request: RedoRequest;
}

interface Chain {
  readonly rel: RelTag;
  readonly block: number;
  base: Uint8Array | undefined;
  steps: Step[];
}

const FIXED_RMGRS_WITH_PAGES: ReadonlySet<number> = new Set([
  RM.XLOG,
  RM.HEAP2,
  RM.HEAP,
  RM.BTREE,
  RM.HASH,
  RM.GIN,
  RM.GIST,
  RM.SEQ,
  RM.SPGIST,
  RM.BRIN,
  RM.GENERIC,
]);

/** Path of a relation's segment file in a data directory; only pg_default and pg_global. */
function segmentFile(dataDir: string, rel: RelTag, segment: number): string {
  const dir = rel.spc === SPC_GLOBAL ? "global" : path.join("base", `${rel.db}`);
  return path.join(dataDir, dir, segment === 0 ? `${rel.rel}` : `${rel.rel}.${segment}`);
}

/** A page of a relation file; undefined past the end of the file or without one. */
export function readPage(dataDir: string, rel: RelTag, block: number): Uint8Array | undefined {
  let fd: number;
  try {
    fd = fs.openSync(segmentFile(dataDir, rel, Math.floor(block / RELSEG_BLOCKS)), "r");
  } catch {
    return undefined;
  }
  const page = new Uint8Array(PAGE_BYTES);
  const got = fs.readSync(fd, page, 0, PAGE_BYTES, (block % RELSEG_BLOCKS) * PAGE_BYTES);
  fs.closeSync(fd);
  return got === PAGE_BYTES ? page : undefined;
}

class Collector {
  private readonly baseDir: string;
  readonly chains = new Map<string, Map<number, Chain>>();
  /** Relations of which the base directory's file says nothing any more, from this block on. */
  private readonly baseEnds = new Map<string, number>();
  private readonly copiedFrom = new Map<number, number>();
  records = 0;

  constructor(baseDir: string) {
    this.baseDir = baseDir;
  }

  private of(key: string): Map<number, Chain> {
    let chains = this.chains.get(key);
    if (chains === undefined) this.chains.set(key, (chains = new Map()));
    return chains;
  }

  take(record: WalRecord): void {
    this.records++;
    if (record.rmid === RM.SMGR) this.takeStorage(record);
    if (record.rmid === RM.DBASE) this.takeDatabase(record);
    let owned: Uint8Array | undefined;
    for (let i = 0; i < record.blockCount; i++) {
      const ref = record.blocks[i]!;
      if (ref.fork !== 0) continue;
      if (!FIXED_RMGRS_WITH_PAGES.has(record.rmid)) throw new Error(`rmgr ${record.rmid}`);
      if (record.rmid === RM.XLOG && !ref.applyImage) continue;
      owned ??= record.chunk.bytes.slice(record.start, record.start + record.length);
      this.takeBlock(record, ref, owned);
    }
  }

  private takeBlock(record: WalRecord, ref: BlockRef, bytes: Uint8Array): void {
    const rel: RelTag = { spc: ref.spc, db: ref.db, rel: ref.rel, fork: 0 };
    const chains = this.of(relKey(rel));
    const lsn = Lsn.of(record.endLsn);
    // GiST changes a page even after restoring it.
    if (ref.applyImage && record.rmid !== RM.GIST) {
      chains.set(ref.block, { rel, block: ref.block, base: imagePage(record, ref), steps: [] });
    } else if (ref.willInit || ref.applyImage) {
      chains.set(ref.block, { rel, block: ref.block, base: undefined, steps: [] });
    } else if (!chains.has(ref.block)) {
      const base = this.basePage(rel, ref.block);
      chains.set(ref.block, { rel, block: ref.block, base, steps: [] });
    }
    const chain = chains.get(ref.block)!;
    let step = chain.steps.at(-1);
    if (step === undefined || step.rel.db !== rel.db) {
      chain.steps.push((step = { rel, block: ref.block, records: [] }));
    }
    if (!ref.applyImage || record.rmid === RM.GIST) step.records.push({ lsn, bytes });
  }

  private basePage(rel: RelTag, block: number): Uint8Array {
    const end = this.baseEnds.get(relKey(rel)) ?? Number.POSITIVE_INFINITY;
    let db = rel.db;
    for (let from = this.copiedFrom.get(db); from !== undefined;) {
      db = from;
      from = this.copiedFrom.get(db);
    }
    const page = block < end ? readPage(this.baseDir, { ...rel, db }, block) : undefined;
    return page ?? new Uint8Array(PAGE_BYTES);
  }

  private takeStorage(record: WalRecord): void {
    if ((record.info & 0x70) === SMGR.CREATE) {
      const create = readSmgrCreate(record);
      if (create.fork === 0) this.cut(create, 0);
    } else {
      const truncate = readSmgrTruncate(record);
      if ((truncate.flags & 1) !== 0) this.cut(truncate, truncate.blocks);
    }
  }

  private cut(rel: { spc: number; db: number; rel: number }, blocks: number): void {
    const key = relKey({ ...rel, fork: 0 });
    this.baseEnds.set(key, Math.min(blocks, this.baseEnds.get(key) ?? blocks));
    for (const block of this.of(key).keys()) if (block >= blocks) this.of(key).delete(block);
  }

  private takeDatabase(record: WalRecord): void {
    const dbase = readDbase(record, 15);
    if (dbase.kind !== "create-file-copy") return;
    this.copiedFrom.set(dbase.db, dbase.sourceDb);
    for (const [key, chains] of [...this.chains]) {
      for (const chain of chains.values()) {
        if (chain.rel.db !== dbase.sourceDb) break;
        const rel = { ...chain.rel, db: dbase.db };
        const steps = chain.steps.map((s) => ({ ...s, records: [...s.records] }));
        steps.push({ rel, block: chain.block, records: [] });
        this.of(relKey(rel)).set(chain.block, { ...chain, rel, steps });
      }
      const end = this.baseEnds.get(key);
      const first = chains.values().next().value;
      if (end !== undefined && first?.rel.db === dbase.sourceDb) {
        this.baseEnds.set(relKey({ ...first.rel, db: dbase.db }), end);
      }
    }
  }
}

const relKey = (rel: RelTag): string => `${rel.spc}/${rel.db}/${rel.rel}`;

function imagePage(record: WalRecord, ref: BlockRef): Uint8Array {
  const page = new Uint8Array(PAGE_BYTES);
  const { compression, holeOffset, holeLength, imageStart, imageLength } = ref;
  const { bytes } = record.chunk;
  restoreImage(compression, holeOffset, holeLength, bytes, imageStart, imageLength, page, 0);
  stampPageLsn(page, 0, Lsn.of(record.endLsn));
  return page;
}

/** Start of the last checkpoint record of a stopped cluster. */
export async function checkpointLsn(dataDir: string): Promise<Lsn> {
  const text = await runPg("pg_controldata", ["-D", dataDir]);
  const match = /Latest checkpoint location:\s*(\S+)/.exec(text);
  if (match === null) throw new Error("pg_controldata does not name a checkpoint");
  return Lsn.parse(match[1]!);
}

/**
 * Histories of all main-fork pages that WAL from `start` to its end names. `dataDir` is the stopped
 * cluster whose WAL is read, `baseDir` a copy of it from when its last record was at `start`.
 */
export function collectHistories(
  dataDir: string,
  baseDir: string,
  start: Lsn,
): { readonly histories: readonly PageHistory[]; readonly records: number } {
  const arena = new Arena();
  const collector = new Collector(baseDir);
  const onRecord = (record: WalRecord): void => collector.take(record);
  const decoder = new WalDecoder({ version: 15, start, arena, onRecord, atEnd: "stop" });
  let at: number = start;
  for (const name of walSegments(dataDir, start)) {
    const bytes = fs.readFileSync(path.join(dataDir, "pg_wal", name));
    decoder.feed(bytes.subarray(at % WAL_SEGMENT_BYTES));
    if (decoder.endReason !== undefined) break;
    at = (Math.floor(at / WAL_SEGMENT_BYTES) + 1) * WAL_SEGMENT_BYTES;
  }
  const histories: PageHistory[] = [];
  for (const chains of collector.chains.values()) {
    for (const { rel, block, base, steps: lists } of chains.values()) {
      const steps = lists.map((s) => ({ ...s, records: RedoRecords.of(s.records) }));
      const out = new Uint8Array(8192);
      histories.push({ rel, block, request: { base, out, steps, at: decoder.lastEnd } });
    }
  }
  return { histories, records: collector.records };
}

function walSegments(dataDir: string, start: Lsn): readonly string[] {
  const number = Math.floor(start / WAL_SEGMENT_BYTES);
  const hex = (n: number): string => n.toString(16).toUpperCase().padStart(8, "0");
  const first = `00000001${hex(Math.floor(number / 256))}${hex(number % 256)}`;
  return fs
    .readdirSync(path.join(dataDir, "pg_wal"))
    .filter((name) => /^[0-9A-F]{24}$/.test(name) && name >= first)
    .sort();
}
