// Random changes, told to a model and to a store's sink alike: relations that grow, shrink, go and come
// again, pages changed by records, images and native operations, databases copied from one another.
// Records are the simulator's own; `redo` is what applies them.

import type { ChangeSink } from "../../src/core/change.ts";
import { encodeDbCopy } from "../../src/core/db-copy.ts";
import { KIND } from "../../src/core/key.ts";
import type { Lsn } from "../../src/core/lsn.ts";
import { PAGE_BYTES } from "../../src/core/page.ts";
import { CLOG_COMMITTED, SMALL_OP_BYTES, applyOp, writeClogSet } from "../../src/core/page-op.ts";
import type { RedoRequest, RedoResult } from "../../src/core/redo-request.ts";
import { VERSION_FLAG } from "../../src/core/version.ts";
import { type Model } from "./model.ts";
import type { Random } from "./random.ts";

export const SPC = 1663;
export const DBS = [1, 2];
export const RELS = [10, 11];
export const BLOCKS_MAX = 3;
export const SLRU_BLOCKS = 2;
export const VALUES = [700, 701];
const CLOG = 0;

const relName = (db: number, rel: number): string => `${db}/${rel}`;
export const pageName = (db: number, rel: number, block: number): string => `${db}/${rel}/${block}`;
export const slruName = (block: number): string => `slru/${block}`;

/** A record: two bytes of offset and the byte to add there, a few times. Changes the page. */
function applyRecord(page: Uint8Array, record: Uint8Array): void {
  for (let i = 0; i + 2 < record.length; i += 3) {
    const offset = (record[i]! | (record[i + 1]! << 8)) % PAGE_BYTES;
    page[offset] = (page[offset]! * 31 + record[i + 2]! + 1) & 255;
  }
}

/** What stands for PostgreSQL's redo. */
export function redo(request: RedoRequest): RedoResult {
  const page = request.base?.slice() ?? new Uint8Array(PAGE_BYTES);
  for (const { records } of request.steps) {
    for (const { bytes } of records) applyRecord(page, bytes);
  }
  return { ok: true, page };
}

const u32 = (value: number): Uint8Array => {
  const bytes = new Uint8Array(4);
  new DataView(bytes.buffer).setUint32(0, value, true);
  return bytes;
};

/** One change as it goes into a sink: kept, so that a crash can replay what was not sealed. */
export interface Logged {
  readonly lsn: number;
  readonly put: (sink: ChangeSink) => void;
}

export class Workload {
  private readonly random: Random;
  readonly log: Logged[];
  private readonly model: Model;
  private lsn = 0;

  constructor(random: Random, model: Model, log: Logged[]) {
    this.random = random;
    this.model = model;
    this.log = log;
  }

  /** One record. */
  change(): void {
    const { random, model } = this;
    this.lsn = model.last + 8 * (1 + random.below(4));
    model.last = this.lsn;
    const db = random.pick(DBS);
    const rel = random.pick(RELS);
    const blocks = model.size(relName(db, rel), this.lsn);
    const kind = random.below(100);
    if (kind < 3) return this.copyDatabase(db, random.pick(DBS));
    if (kind < 8) return this.value();
    if (kind < 18) return this.slru();
    if (blocks < 0) return this.setSize(db, rel, 0);
    if (kind < 20) return this.drop(db, rel);
    if (kind < 23) return this.setSize(db, rel, random.below(blocks + 1));
    if (blocks === 0 || (kind < 33 && blocks < BLOCKS_MAX)) return this.extend(db, rel, blocks);
    this.update(db, rel, random.below(blocks), random.below(100));
  }

  private put(put: (sink: ChangeSink) => void): void {
    this.log.push({ lsn: this.lsn, put });
  }

  private setSize(db: number, rel: number, blocks: number): void {
    const { lsn } = this;
    this.model.setSize(relName(db, rel), lsn, blocks);
    this.put((sink) =>
      sink.putValue(sink.groups.id(KIND.REL_SIZE, SPC, db, rel, 0), 0, lsn, u32(blocks)),
    );
  }

  private drop(db: number, rel: number): void {
    const { lsn } = this;
    this.model.setSize(relName(db, rel), lsn, -1);
    this.put((sink) => sink.putTombstone(sink.groups.id(KIND.REL_SIZE, SPC, db, rel, 0), 0, lsn));
  }

  private extend(db: number, rel: number, block: number): void {
    const { lsn } = this;
    this.setSize(db, rel, block + 1);
    this.model.setPage(pageName(db, rel, block), lsn, new Uint8Array(PAGE_BYTES));
    this.put((sink) => sink.putZeroPage(sink.groups.id(KIND.PAGE, SPC, db, rel, 0), block, lsn));
    this.update(db, rel, block, 0);
  }

  private update(db: number, rel: number, block: number, kind: number): void {
    const { lsn, random, model } = this;
    const name = pageName(db, rel, block);
    const bytes = Uint8Array.from({ length: 3 * (1 + random.below(4)) }, () => random.below(256));
    const asImage = kind > 98;
    const flags = kind > 96 && !asImage ? VERSION_FLAG.WILL_INIT : 0;
    const isFresh = asImage || flags !== 0;
    const page = isFresh ? new Uint8Array(PAGE_BYTES) : model.page(name, lsn).slice();
    applyRecord(page, bytes);
    model.setPage(name, lsn, page);
    const payload = asImage ? page : bytes;
    this.put((sink) => {
      const group = sink.groups.id(KIND.PAGE, SPC, db, rel, 0);
      const { arena } = sink;
      arena.reserve(payload.length);
      const { chunk, used } = arena;
      chunk.bytes.set(payload, used);
      const { length } = payload;
      if (asImage) sink.putImage(group, block, lsn, 0, chunk, used, length, 0, 0);
      else sink.putRecord(group, block, lsn, flags, chunk, used, length);
      arena.commit(length);
    });
  }

  private slru(): void {
    const { lsn, random, model } = this;
    const block = random.below(SLRU_BLOCKS);
    const name = slruName(block);
    const known = model.size("slru", lsn);
    if (known <= block) {
      model.setSize("slru", lsn, block + 1);
      for (let b = Math.max(known, 0); b <= block; b++) {
        model.setPage(slruName(b), lsn, new Uint8Array(PAGE_BYTES));
        this.put((sink) => sink.putZeroPage(sink.groups.id(KIND.SLRU_PAGE, CLOG, 0, 0, 0), b, lsn));
      }
      this.put((sink) =>
        sink.putValue(sink.groups.id(KIND.SLRU_SIZE, CLOG, 0, 0, 0), 0, lsn, u32(block + 1)),
      );
    }
    const op = new Uint8Array(SMALL_OP_BYTES);
    writeClogSet(op, CLOG_COMMITTED, random.below(30_000));
    const page = model.page(name, lsn).slice();
    applyOp(op, 0, op.length, page, lsn);
    model.setPage(name, lsn, page);
    this.put((sink) => sink.putOp(sink.groups.id(KIND.SLRU_PAGE, CLOG, 0, 0, 0), block, lsn, op));
  }

  private value(): void {
    const { lsn, random } = this;
    const key = random.pick(VALUES);
    const ended = random.below(3) === 0;
    const text = `value ${lsn}`;
    this.model.setValue(key, lsn, ended ? undefined : text);
    this.put((sink) => {
      const group = sink.groups.id(KIND.TWO_PHASE, 0, 0, key, 0);
      if (ended) sink.putTombstone(group, 0, lsn);
      else sink.putValue(group, 0, lsn, Buffer.from(text));
    });
  }

  /** As ingest does it: everything of the target ends, then the source's sizes appear under it. */
  private copyDatabase(target: number, source: number): void {
    const { lsn, model } = this;
    if (target === source) return;
    for (const rel of RELS) {
      const blocks = model.size(relName(source, rel), lsn);
      if (model.size(relName(target, rel), lsn) >= 0) this.drop(target, rel);
      if (blocks >= 0) this.setSize(target, rel, blocks);
      for (let block = 0; block < blocks; block++) {
        model.setPage(
          pageName(target, rel, block),
          lsn,
          model.page(pageName(source, rel, block), lsn),
        );
      }
    }
    const value = encodeDbCopy({ srcSpc: SPC, srcDb: source, lsn: lsn as Lsn });
    this.put((sink) =>
      sink.putValue(sink.groups.id(KIND.DB_COPY, SPC, target, 0, 0), 0, lsn, value),
    );
  }
}
