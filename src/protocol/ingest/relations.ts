// SMGR records, and relations dropped by commits and aborts. As tolerant as PostgreSQL's redo
// (smgr_redo of storage.c, DropRelationFiles of md.c): what exists is not created anew, what is gone
// is not dropped again. A truncation only lowers the size; when the relation grows again, zero pages
// or whole versions cover what was there.

import { FORK_FSM, FORK_INIT, FORK_MAIN, FORK_VM } from "../../core/page.ts";
import {
  FSM_SLOTS_PER_PAGE,
  VM_BLOCKS_PER_PAGE,
  writeFsmTruncate,
  writeVmTruncate,
} from "../../core/page-op.ts";
import type { WalRecord } from "../../core/wal-record.ts";
import { INFO_RMGR_MASK, WalCorrupt } from "../wal/format.ts";
import { SMGR } from "../wal/rmgr.ts";
import {
  TRUNCATE_FSM,
  TRUNCATE_HEAP,
  TRUNCATE_VM,
  readSmgrCreate,
  readSmgrTruncate,
} from "../wal/storage.ts";
import type { IngestContext } from "./context.ts";
import { MISSING } from "./sizes.ts";

export function onSmgr(context: IngestContext, record: WalRecord): void {
  const info = record.info & INFO_RMGR_MASK;
  if (info === SMGR.CREATE) {
    const { spc, db, rel, fork } = readSmgrCreate(record);
    if (fork > FORK_INIT) throw new WalCorrupt(record.startLsn, `creation of fork ${fork}`);
    create(context, record, context.pageGroup(spc, db, rel, fork));
  } else if (info === SMGR.TRUNCATE) {
    truncate(context, record);
  } else {
    throw new WalCorrupt(record.startLsn, `storage record of unknown kind ${info}`);
  }
}

function create(context: IngestContext, record: WalRecord, group: number): void {
  if (context.size(group) === MISSING) context.sizes.set(context.sink, group, 0, record.endLsn);
}

function truncate(context: IngestContext, record: WalRecord): void {
  const { spc, db, rel, blocks, flags } = readSmgrTruncate(record);
  const main = context.pageGroup(spc, db, rel, FORK_MAIN);
  create(context, record, main);
  if ((flags & TRUNCATE_HEAP) !== 0) shrink(context, record, main, blocks);
  if ((flags & TRUNCATE_FSM) !== 0) {
    truncateFsm(context, record, context.pageGroup(spc, db, rel, FORK_FSM), blocks);
  }
  if ((flags & TRUNCATE_VM) !== 0) {
    truncateVm(context, record, context.pageGroup(spc, db, rel, FORK_VM), blocks);
  }
}

/** A file that is shorter already stays as it is. */
function shrink(context: IngestContext, record: WalRecord, group: number, blocks: number): void {
  if (context.size(group) > blocks) context.sizes.set(context.sink, group, blocks, record.endLsn);
}

/**
 * FreeSpaceMapPrepareTruncateRel. The upper levels, which PostgreSQL then makes agree, are left as
 * they are: they are hints that a search corrects.
 */
function truncateFsm(context: IngestContext, record: WalRecord, map: number, heap: number): void {
  const leaf = fsmBlock(Math.floor(heap / FSM_SLOTS_PER_PAGE));
  if (heap % FSM_SLOTS_PER_PAGE === 0) return shrink(context, record, map, leaf);
  if (leaf >= context.size(map)) return;
  writeFsmTruncate(context.smallOp, heap);
  context.sink.putOp(map, leaf, record.endLsn, context.smallOp);
  shrink(context, record, map, leaf + 1);
}

/** Physical block of lowest-level FSM page `page`: it follows its parents, which come before their children. */
export function fsmBlock(page: number): number {
  const parents = Math.floor(page / FSM_SLOTS_PER_PAGE) + 1;
  const roots = Math.floor(page / (FSM_SLOTS_PER_PAGE * FSM_SLOTS_PER_PAGE)) + 1;
  return page + parents + roots;
}

/** visibilitymap_prepare_truncate. */
function truncateVm(context: IngestContext, record: WalRecord, map: number, heap: number): void {
  const block = Math.floor(heap / VM_BLOCKS_PER_PAGE);
  if (heap % VM_BLOCKS_PER_PAGE === 0) return shrink(context, record, map, block);
  if (block >= context.size(map)) return;
  writeVmTruncate(context.smallOp, heap);
  context.sink.putOp(map, block, record.endLsn, context.smallOp);
  shrink(context, record, map, block + 1);
}

/** Ends all forks of a relation. */
export function dropRelation(
  context: IngestContext,
  record: WalRecord,
  spc: number,
  db: number,
  rel: number,
): void {
  for (let fork = FORK_MAIN; fork <= FORK_INIT; fork++) {
    const group = context.pageGroup(spc, db, rel, fork);
    if (context.size(group) !== MISSING) context.sizes.drop(context.sink, group, record.endLsn);
  }
}
