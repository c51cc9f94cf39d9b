// The visibility map. Its bits are set by HEAP2_VISIBLE, and cleared by flags of heap records, which
// do not name the map's page. What redo does to the map is in heapam.c and visibilitymap.c.

import { FORK_VM } from "../../core/page.ts";
import {
  VM_ALL_BITS,
  VM_ALL_FROZEN,
  VM_BLOCKS_PER_PAGE,
  writeVmClear,
  writeVmSet,
} from "../../core/page-op.ts";
import type { BlockRef, WalRecord } from "../../core/wal-record.ts";
import { WalCorrupt } from "../wal/format.ts";
import { VM_CLEAR, visibilityCleared, visibilitySet } from "../wal/heap.ts";
import type { IngestContext } from "./context.ts";

/** A HEAP or HEAP2 record: clears map bits as its flags say. The record has been kept. */
export function clearVisibility(context: IngestContext, record: WalRecord): void {
  const cleared = visibilityCleared(record);
  if (cleared === VM_CLEAR.NOTHING) return;
  if ((cleared & VM_CLEAR.LAST) !== 0) clear(context, record, record.blockCount - 1, VM_ALL_BITS);
  if ((cleared & VM_CLEAR.FIRST) !== 0) clear(context, record, 0, VM_ALL_BITS);
  if ((cleared & VM_CLEAR.FIRST_FROZEN) !== 0) clear(context, record, 0, VM_ALL_FROZEN);
}

/** Clears bits of the heap page of block reference `index`. A map that does not reach it has none set. */
function clear(context: IngestContext, record: WalRecord, index: number, bits: number): void {
  const ref = record.blocks[index]!;
  const mapGroup = context.pageGroup(ref.spc, ref.db, ref.rel, FORK_VM);
  const mapBlock = Math.floor(ref.block / VM_BLOCKS_PER_PAGE);
  if (mapBlock >= context.size(mapGroup)) return;
  writeVmClear(context.smallOp, ref.block, bits);
  context.sink.putOp(mapGroup, mapBlock, record.endLsn, context.smallOp);
}

/** HEAP2_VISIBLE on the map's page without an image: `ref` is the map's page, the heap page is the second one. */
export function setVisibility(
  context: IngestContext,
  record: WalRecord,
  ref: BlockRef,
  mapGroup: number,
): void {
  const heap = record.blocks[1]!;
  if (record.blockCount < 2 || ref.block !== Math.floor(heap.block / VM_BLOCKS_PER_PAGE)) {
    throw new WalCorrupt(
      record.startLsn,
      "visibility record whose map page is not its heap page's",
    );
  }
  context.extend(record, mapGroup, ref.block, "change");
  writeVmSet(context.smallOp, heap.block, visibilitySet(record));
  context.sink.putOp(mapGroup, ref.block, record.endLsn, context.smallOp);
}
