// What heap records do to the visibility map without naming its pages (access/heapam_xlog.h):
// one flags byte at a fixed offset of the main data. The same in PostgreSQL 14 to 17.

import type { WalRecord } from "../../core/wal-record.ts";
import { needMain } from "./payload.ts";
import { HEAP, HEAP2, OPERATION_MASK, RM } from "./rmgr.ts";

/** Bits of what `visibilityCleared` gives. */
export const VM_CLEAR = {
  NOTHING: 0,
  /** Both bits of the heap block of the first block reference (the new tuple's page). */
  FIRST: 1,
  /** Both bits of the heap block of the last block reference (an update's old page; may be the first). */
  LAST: 2,
  /** The all-frozen bit of the heap block of the first block reference. */
  FIRST_FROZEN: 4,
} as const;

const ALL_VISIBLE_CLEARED = 1;
const UPDATE_NEW_ALL_VISIBLE_CLEARED = 2;

const INSERT_FLAGS = 2;
const DELETE_FLAGS = 7;
const UPDATE_FLAGS = 7;
const LOCK_FLAGS = 7;
const MULTI_INSERT_FLAGS = 0;

/** Which visibility-map bits a HEAP or HEAP2 record clears: VM_CLEAR bits. Allocates nothing. Throws WalCorrupt. */
export function visibilityCleared(record: WalRecord): number {
  const operation = record.info & OPERATION_MASK;
  if (record.rmid === RM.HEAP) {
    switch (operation) {
      case HEAP.INSERT:
        return (flagsAt(record, INSERT_FLAGS) & ALL_VISIBLE_CLEARED) !== 0 ? VM_CLEAR.FIRST : 0;
      case HEAP.DELETE:
        return (flagsAt(record, DELETE_FLAGS) & ALL_VISIBLE_CLEARED) !== 0 ? VM_CLEAR.FIRST : 0;
      case HEAP.UPDATE:
      case HEAP.HOT_UPDATE: {
        const flags = flagsAt(record, UPDATE_FLAGS);
        return (
          ((flags & ALL_VISIBLE_CLEARED) !== 0 ? VM_CLEAR.LAST : 0) |
          ((flags & UPDATE_NEW_ALL_VISIBLE_CLEARED) !== 0 ? VM_CLEAR.FIRST : 0)
        );
      }
      case HEAP.LOCK:
        return (flagsAt(record, LOCK_FLAGS) & 1) !== 0 ? VM_CLEAR.FIRST_FROZEN : 0;
      default:
        return VM_CLEAR.NOTHING;
    }
  }
  if (record.rmid !== RM.HEAP2) return VM_CLEAR.NOTHING;
  if (operation === HEAP2.MULTI_INSERT) {
    return (flagsAt(record, MULTI_INSERT_FLAGS) & ALL_VISIBLE_CLEARED) !== 0 ? VM_CLEAR.FIRST : 0;
  }
  if (operation === HEAP2.LOCK_UPDATED) {
    return (flagsAt(record, LOCK_FLAGS) & 1) !== 0 ? VM_CLEAR.FIRST_FROZEN : 0;
  }
  return VM_CLEAR.NOTHING;
}

function flagsAt(record: WalRecord, offset: number): number {
  needMain(record, offset + 1, "heap record");
  return record.chunk.view.getUint8(record.mainStart + offset);
}

/** HEAP2 VISIBLE: the bits (1 all-visible, 2 all-frozen) set for the heap block of the second reference. */
export function visibilitySet(record: WalRecord): number {
  needMain(record, 5, "heap visible record");
  return record.chunk.view.getUint8(record.mainStart + 4) & 3;
}
