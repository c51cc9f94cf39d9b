// Redo requests made by hand: sequence records, which make a whole page out of nothing and put our
// own bytes on it, and generic records, which change bytes of a page.

import { Lsn } from "../../src/core/lsn.ts";
import { type RelTag, SPC_DEFAULT } from "../../src/core/page.ts";
import { type RedoRecord, RedoRecords, type RedoRequest } from "../../src/core/redo-request.ts";
import { ByteWriter } from "../../src/protocol/bytes.ts";
import { walFormat } from "../../src/protocol/wal/format.ts";
import { RM } from "../../src/protocol/wal/rmgr.ts";
import { type RecordSpec, buildRecord } from "../../src/protocol/wal/writer.ts";

export const REL: RelTag = { spc: SPC_DEFAULT, db: 5, rel: 16_384, fork: 0 };
/** Bytes of ours on a sequence page. */
const ITEM_BYTES = 48;
/** Where they are: the item goes before the 8 bytes of special space. */
const ITEM_AT = 8192 - 8 - ITEM_BYTES;

export function redoRecord(spec: RecordSpec, lsn: number): RedoRecord {
  return { lsn: Lsn.of(lsn), bytes: buildRecord(spec, Lsn.of(lsn - 200), walFormat(15)) };
}

/** A record that initialises a page and puts `marker` on it. */
export function initRecord(rel: RelTag, block: number, marker: number, lsn: number): RedoRecord {
  const main = new ByteWriter().u32le(rel.spc).u32le(rel.db).u32le(rel.rel);
  for (let i = 0; i < ITEM_BYTES / 4; i++) main.u32le(marker);
  const blocks = [{ ...rel, block, willInit: true }];
  return redoRecord({ rmid: RM.SEQ, info: 0, blocks, main: main.done() }, lsn);
}

/** A record that puts `marker` at the first bytes of ours of an existing page. */
export function changeRecord(rel: RelTag, block: number, marker: number, lsn: number): RedoRecord {
  const data = new ByteWriter().u16le(ITEM_AT).u16le(4).u32le(marker).done();
  return redoRecord({ rmid: RM.GENERIC, info: 0, blocks: [{ ...rel, block, data }] }, lsn);
}

/** A record on which redo ends in a PANIC: an operation that sequences do not have. */
export function poisonRecord(rel: RelTag, block: number, lsn: number): RedoRecord {
  const blocks = [{ ...rel, block, willInit: true }];
  return redoRecord({ rmid: RM.SEQ, info: 0x70, blocks, main: new Uint8Array(60) }, lsn);
}

export function redoRequest(block: number, ...records: readonly RedoRecord[]): RedoRequest {
  return {
    base: undefined,
    out: new Uint8Array(8192),
    steps: [{ rel: REL, block, records: RedoRecords.of(records) }],
    at: Lsn.of(0x1000000),
  };
}

/** A page that bears `marker`. */
export const markedRequest = (marker: number): RedoRequest =>
  redoRequest(marker % 100_000, initRecord(REL, marker % 100_000, marker, 0x10000 + 8 * marker));

/** The first and the last marker on a page. */
export function markersOf(page: Uint8Array): readonly [number, number] {
  const view = new DataView(page.buffer, page.byteOffset);
  return [view.getUint32(ITEM_AT, true), view.getUint32(ITEM_AT + ITEM_BYTES - 4, true)];
}
