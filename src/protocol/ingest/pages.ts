// Block references: every page a record names gets an image, or the record itself. Maps (VM and FSM
// forks) are kept natively: images and operations, never records.

import type { WalRecord, BlockRef } from "../../core/wal-record.ts";
import { FORK_FSM, FORK_VM } from "../../core/page.ts";
import { VERSION_FLAG } from "../../core/version.ts";
import { INFO_RMGR_MASK, WalCorrupt } from "../wal/format.ts";
import { HEAP2, OPERATION_MASK, RM, XLOG } from "../wal/rmgr.ts";
import { type IngestContext, UnsupportedWal } from "./context.ts";
import { setVisibility } from "./heap-visibility.ts";

/** HASH and GIST records whose redo changes a page even after restoring its image (hash_xlog.c, gistxlog.c). */
const HASH_SPLIT_ALLOCATE_PAGE = 0x40;
const HASH_SPLIT_COMPLETE = 0x60;
const GIST_PAGE_UPDATE = 0x00;
const GIST_PAGE_SPLIT = 0x30;

/** True when redo may change a page after it has restored it from the record's image: see docs/wal-ingest.md. */
export function changesRestoredPages(rmid: number, info: number): boolean {
  const operation = info & INFO_RMGR_MASK;
  if (rmid === RM.GIST) return operation === GIST_PAGE_UPDATE || operation === GIST_PAGE_SPLIT;
  if (rmid === RM.HASH) {
    return operation === HASH_SPLIT_ALLOCATE_PAGE || operation === HASH_SPLIT_COMPLETE;
  }
  return rmid >= RM.CUSTOM_MIN;
}

/** True when the record changes a page that it names. A hint may come without image and then does nothing. */
export function changesPages(record: WalRecord): boolean {
  const isHint = record.rmid === RM.XLOG && (record.info & INFO_RMGR_MASK) === XLOG.FPI_FOR_HINT;
  if (!isHint) return record.blockCount > 0;
  for (let i = 0; i < record.blockCount; i++) {
    if (record.blocks[i]!.applyImage) return true;
  }
  return false;
}

/** Stores what the record does to the pages it names. The record has been kept. */
export function storeBlocks(context: IngestContext, record: WalRecord): void {
  for (let i = 0; i < record.blockCount; i++) {
    const ref = record.blocks[i]!;
    const group = context.pageGroup(ref.spc, ref.db, ref.rel, ref.fork);
    if (ref.applyImage && !changesRestoredPages(record.rmid, record.info)) {
      storeImage(context, record, ref, group);
    } else if (ref.fork === FORK_VM || ref.fork === FORK_FSM) {
      storeMapChange(context, record, ref, group);
    } else if (record.rmid === RM.XLOG) {
      checkHint(record);
    } else {
      storeRecord(context, record, ref, group);
    }
  }
}

function storeImage(context: IngestContext, record: WalRecord, ref: BlockRef, group: number): void {
  context.extend(record, group, ref.block, "whole");
  context.sink.putImage(
    group,
    ref.block,
    record.endLsn,
    VERSION_FLAG.STAMP_LSN | ref.compression,
    record.chunk,
    ref.imageStart,
    ref.imageLength,
    ref.holeOffset,
    ref.holeLength,
  );
}

function storeRecord(
  context: IngestContext,
  record: WalRecord,
  ref: BlockRef,
  group: number,
): void {
  const whole = ref.willInit || ref.applyImage;
  context.extend(record, group, ref.block, whole ? "whole" : "change");
  context.sink.putRecord(
    group,
    ref.block,
    record.endLsn,
    whole ? VERSION_FLAG.WILL_INIT : 0,
    record.chunk,
    record.start,
    record.length,
  );
}

function storeMapChange(
  context: IngestContext,
  record: WalRecord,
  ref: BlockRef,
  group: number,
): void {
  const isVisible = record.rmid === RM.HEAP2 && (record.info & OPERATION_MASK) === HEAP2.VISIBLE;
  if (isVisible && ref.fork === FORK_VM) setVisibility(context, record, ref, group);
  else if (record.rmid === RM.XLOG) checkHint(record);
  else {
    const what = `resource manager ${record.rmid} changes fork ${ref.fork} other than by an image`;
    throw new UnsupportedWal(record, what);
  }
}

/** A page of an XLOG record without image: must be a hint's, whose redo then does nothing. */
function checkHint(record: WalRecord): void {
  if ((record.info & INFO_RMGR_MASK) === XLOG.FPI_FOR_HINT) return;
  throw new WalCorrupt(record.startLsn, "a page image record has no image");
}
