// The law: what retention permits to be read is what the model says, and all else is refused.

import { assert } from "../../src/core/assert.ts";
import { KIND } from "../../src/core/key.ts";
import type { Lsn } from "../../src/core/lsn.ts";
import { PAGE_BYTES } from "../../src/core/page.ts";
import { type Readable, planRead } from "../../src/core/request-lsn.ts";
import { type PageReader, isRedo } from "../../src/store/read-page.ts";
import { MISSING } from "../../src/store/relations.ts";
import type { Model } from "./model.ts";
import type { Random } from "./random.ts";
import {
  BLOCKS_MAX,
  DBS,
  RELS,
  SLRU_BLOCKS,
  SPC,
  VALUES,
  pageName,
  redo,
  slruName,
} from "./workload.ts";

/** A timeline as it is looked at. */
export interface Subject {
  readonly name: string;
  readonly model: Model;
  readonly reader: PageReader;
  readonly readable: Readable;
}

/** As `assert`, for messages that cost something to make. */
export function must(condition: boolean, message: () => string): asserts condition {
  if (!condition) assert(false, message());
}

export function isPermitted(readable: Readable, lsn: Lsn): boolean {
  const request = { lsn, notModifiedSince: Math.min(lsn, readable.last) as Lsn };
  return planRead(request, readable).kind === "read";
}

/** Looks at everything as of `at`, of each relation at one page; false: refused, as it must be. */
export function verifyAt(subject: Subject, at: Lsn, random: Random): boolean {
  const { readable, model, reader, name } = subject;
  const may = at >= readable.cutoff || readable.pinned!.includes(at);
  const permitted = isPermitted(readable, at);
  must(permitted === may, () => `a read of ${name} at ${at} is permitted exactly when it may be`);
  if (!may) return false;
  const where = `${name} at ${at}`;
  for (const db of DBS) {
    for (const rel of RELS) {
      const tag = { spc: SPC, db, rel, fork: 0 };
      const size = model.size(`${db}/${rel}`, at);
      const found = reader.relations.relSize(tag, at);
      const right = found === (size < 0 ? MISSING : size);
      must(right, () => `size of ${db}/${rel}, ${where}: ${found}`);
      if (size < 0) continue;
      verifyPage(subject, db, rel, random.below(BLOCKS_MAX), at);
    }
  }
  verifyNative(model, reader, at, where);
  return true;
}

const page = new Uint8Array(PAGE_BYTES);
const ZEROS = new Uint8Array(PAGE_BYTES);

function verifyPage(subject: Subject, db: number, rel: number, block: number, at: Lsn): void {
  const { model, reader, name } = subject;
  const tag = { spc: SPC, db, rel, fork: 0 };
  const what = (): string => `page ${db}/${rel}/${block} of ${name} at ${at}`;
  const read = reader.readPage(tag, block, at, page, 0);
  let got: Uint8Array = page;
  if (read !== undefined) {
    must(isRedo(read), () => `${what()}: ${JSON.stringify(read)}`);
    const made = redo(read);
    assert(made.ok, "the simulator's redo does not fail");
    got = made.page;
    reader.remember(tag, block, read, got);
  }
  const isThere = block < model.size(`${db}/${rel}`, at);
  const truth = isThere ? model.page(pageName(db, rel, block), at) : ZEROS;
  must(Buffer.compare(got, truth) === 0, () => `${what()} differs`);
}

function verifyNative(model: Model, reader: PageReader, at: Lsn, where: string): void {
  const blocks = model.size("slru", at);
  must(reader.relations.slruSize(0, 0, at) === blocks, () => `SLRU size, ${where}`);
  if (blocks > 0) {
    const read = reader.readSlruSegment(0, 0, at);
    must(read.ok, () => `SLRU, ${where}: ${JSON.stringify(read)}`);
    for (let block = 0; block < Math.min(blocks, SLRU_BLOCKS); block++) {
      const found = read.value.subarray(block * PAGE_BYTES, (block + 1) * PAGE_BYTES);
      const truth = model.page(slruName(block), at);
      must(Buffer.compare(found, truth) === 0, () => `SLRU block ${block} differs, ${where}`);
    }
  }
  for (const key of VALUES) {
    const group = { kind: KIND.TWO_PHASE, a: 0, b: 0, c: key, d: 0 };
    const value = reader.store.value(group, 0, at)?.value;
    const text = value && Buffer.from(value).toString();
    must(text === model.value(key, at), () => `value ${key}, ${where}: ${text}`);
  }
}
