// The SLRUs: transaction status (clog) and multixacts (offsets and members). Their pages change by
// native operations. A page that is touched without having been zeroed is made, as PostgreSQL's
// recovery reads missing files as zeros (SlruPhysicalReadPage). Sources: clog.c, multixact.c, slru.c.

import { KIND } from "../../core/key.ts";
import { SLRU_CLOG, SLRU_MEMBERS, SLRU_OFFSETS, SLRU_SEGMENT_BLOCKS } from "../../core/page.ts";
import {
  CLOG_XACTS_PER_PAGE,
  MULTIXACT_MEMBERS_PER_PAGE,
  MULTIXACT_OFFSETS_PER_PAGE,
  SMALL_OP_BYTES,
  appendMember,
  writeMembers,
  writeOffsets,
} from "../../core/page-op.ts";
import type { WalRecord } from "../../core/wal-record.ts";
import { INFO_RMGR_MASK, WalCorrupt } from "../wal/format.ts";
import { CLOG, MULTIXACT } from "../wal/rmgr.ts";
import {
  type MultixactCreate,
  type MultixactMember,
  readClogTruncate,
  readMultixactCreate,
  readMultixactTruncate,
  readSlruZeroPage,
} from "../wal/slru.ts";
import { precedes } from "./checkpoint-state.ts";
import type { IngestContext } from "./context.ts";

const FIRST_MULTI = 1;
const FIRST_NORMAL_XID = 3;
const MEMBER_SEGMENTS =
  Math.floor(0xffff_ffff / (MULTIXACT_MEMBERS_PER_PAGE * SLRU_SEGMENT_BLOCKS)) + 1;
const MEMBER_STATUS_MAX = 5;
const MEMBERS_OP_BYTES_MAX = SMALL_OP_BYTES + 5 * MULTIXACT_MEMBERS_PER_PAGE;
const TWO_32 = 4_294_967_296;

export function onClog(context: IngestContext, record: WalRecord): void {
  const { checkpoint, version } = context;
  switch (record.info & INFO_RMGR_MASK) {
    case CLOG.ZEROPAGE:
      return zeroPage(context, record, SLRU_CLOG, readSlruZeroPage(record, version));
    case CLOG.TRUNCATE: {
      const { page, oldestXid, oldestXidDb } = readClogTruncate(record, version);
      checkpoint.sawOldestXid(oldestXid, oldestXidDb);
      return truncateBefore(context, record, SLRU_CLOG, page, {
        latest: Math.floor(checkpoint.nextXid / CLOG_XACTS_PER_PAGE),
        perPage: CLOG_XACTS_PER_PAGE,
        first: FIRST_NORMAL_XID,
      });
    }
    default:
      throw new WalCorrupt(record.startLsn, "transaction status record of unknown kind");
  }
}

/** The page of an SLRU, made to exist: its group. Its block within the segment is `page % SLRU_SEGMENT_BLOCKS`. */
export function touchPage(
  context: IngestContext,
  record: WalRecord,
  slru: number,
  page: number,
): number {
  const group = context.slruGroup(slru, Math.floor(page / SLRU_SEGMENT_BLOCKS));
  context.extend(record, group, page % SLRU_SEGMENT_BLOCKS, "change");
  return group;
}

function zeroPage(context: IngestContext, record: WalRecord, slru: number, page: number): void {
  const group = context.slruGroup(slru, Math.floor(page / SLRU_SEGMENT_BLOCKS));
  const block = page % SLRU_SEGMENT_BLOCKS;
  context.extend(record, group, block, "whole");
  context.sink.putZeroPage(group, block, record.endLsn);
}

export function onMultixact(context: IngestContext, record: WalRecord): void {
  const { version } = context;
  switch (record.info & INFO_RMGR_MASK) {
    case MULTIXACT.ZERO_OFFSETS_PAGE:
      return zeroOffsetsPage(context, record, readSlruZeroPage(record, version));
    case MULTIXACT.ZERO_MEMBERS_PAGE:
      return zeroPage(context, record, SLRU_MEMBERS, readSlruZeroPage(record, version));
    case MULTIXACT.CREATE_ID:
      return createMulti(context, record, readMultixactCreate(record));
    case MULTIXACT.TRUNCATE_ID:
      return truncateMultis(context, record);
    default:
      throw new WalCorrupt(record.startLsn, "multixact record of unknown kind");
  }
}

/**
 * Older minor versions write a multixact that ends a page before they zero the next page, and
 * createMulti has then put the next offset there already: such a zeroing must not undo it. It is
 * known by the page existing when the next multixact is its first.
 */
function zeroOffsetsPage(context: IngestContext, record: WalRecord, page: number): void {
  const group = context.slruGroup(SLRU_OFFSETS, Math.floor(page / SLRU_SEGMENT_BLOCKS));
  const exists = page % SLRU_SEGMENT_BLOCKS < context.size(group);
  const first = Math.max(page * MULTIXACT_OFFSETS_PER_PAGE, FIRST_MULTI);
  const next = Math.max(context.checkpoint.nextMulti, FIRST_MULTI);
  if (!exists || next !== first) zeroPage(context, record, SLRU_OFFSETS, page);
}

/** RecordNewMultiXact: this multixact's offset, and the next one's, which is where its members end. */
function createMulti(
  context: IngestContext,
  record: WalRecord,
  { multi, offset, members }: MultixactCreate,
): void {
  const end = (offset + members.length) >>> 0;
  const endOffset = end === 0 ? 1 : end;
  const next = Math.max((multi + 1) >>> 0, FIRST_MULTI);
  if (multi % MULTIXACT_OFFSETS_PER_PAGE < MULTIXACT_OFFSETS_PER_PAGE - 1) {
    putOffsets(context, record, multi, [offset, endOffset]);
  } else {
    putOffsets(context, record, multi, [offset]);
    putOffsets(context, record, next, [endOffset]);
  }
  putMembers(context, record, offset, members);
  for (const { xid } of members) context.checkpoint.sawXid(xid);
  context.checkpoint.sawMulti((multi + 1) >>> 0, end);
}

function putOffsets(
  context: IngestContext,
  record: WalRecord,
  multi: number,
  offsets: readonly number[],
): void {
  const page = Math.floor(multi / MULTIXACT_OFFSETS_PER_PAGE);
  const group = touchPage(context, record, SLRU_OFFSETS, page);
  const length = writeOffsets(context.growOp(64), multi, offsets);
  const op = context.op.subarray(0, length);
  context.sink.putOp(group, page % SLRU_SEGMENT_BLOCKS, record.endLsn, op);
}

/** Members lie one after the other, over as many pages as they need; offsets wrap around at 2^32. */
function putMembers(
  context: IngestContext,
  record: WalRecord,
  offset: number,
  members: readonly MultixactMember[],
): void {
  for (let done = 0; done < members.length;) {
    const first = (offset + done) >>> 0;
    const page = Math.floor(first / MULTIXACT_MEMBERS_PER_PAGE);
    const pageEnd = Math.min((page + 1) * MULTIXACT_MEMBERS_PER_PAGE, TWO_32);
    const here = members.slice(done, done + pageEnd - first);
    const op = context.growOp(MEMBERS_OP_BYTES_MAX);
    let length = writeMembers(op, first);
    for (const { xid, status } of here) {
      if (status > MEMBER_STATUS_MAX) {
        throw new WalCorrupt(record.startLsn, `multixact member of status ${status}`);
      }
      length = appendMember(op, length, xid, status);
    }
    const group = touchPage(context, record, SLRU_MEMBERS, page);
    const block = page % SLRU_SEGMENT_BLOCKS;
    context.sink.putOp(group, block, record.endLsn, op.subarray(0, length));
    done += here.length;
  }
}

function truncateMultis(context: IngestContext, record: WalRecord): void {
  const { checkpoint } = context;
  const {
    endOffset: oldest,
    oldestMultiDb,
    startMember,
    endMember,
  } = readMultixactTruncate(record);
  checkpoint.set("oldestMulti", oldest);
  checkpoint.set("oldestMultiDb", oldestMultiDb);
  const from = memberSegment(startMember);
  const doomed = (memberSegment(endMember) - from + MEMBER_SEGMENTS) % MEMBER_SEGMENTS;
  dropSegments(context, record, SLRU_MEMBERS, (segment) => {
    return (segment - from + MEMBER_SEGMENTS) % MEMBER_SEGMENTS < doomed;
  });
  // One multixact back: the oldest may be the next one, the first of a page that is not there yet.
  const last = oldest <= FIRST_MULTI ? 0xffff_ffff : oldest - 1;
  const cutoff = Math.floor(last / MULTIXACT_OFFSETS_PER_PAGE);
  truncateBefore(context, record, SLRU_OFFSETS, cutoff, {
    latest: Math.floor(checkpoint.nextMulti / MULTIXACT_OFFSETS_PER_PAGE),
    perPage: MULTIXACT_OFFSETS_PER_PAGE,
    first: FIRST_MULTI,
  });
}

const memberSegment = (offset: number): number =>
  Math.floor(offset / (MULTIXACT_MEMBERS_PER_PAGE * SLRU_SEGMENT_BLOCKS));

interface Circle {
  /** The page being filled: must survive, else the counters have wrapped around. */
  readonly latest: number;
  readonly perPage: number;
  /** Lowest ordinary id. */
  readonly first: number;
}

/** SimpleLruTruncate: drops the segments that lie wholly before the cutoff page. */
function truncateBefore(
  context: IngestContext,
  record: WalRecord,
  slru: number,
  cutoff: number,
  circle: Circle,
): void {
  if (pagePrecedes(circle.latest, cutoff, circle)) return;
  dropSegments(context, record, slru, (segment) => {
    const first = segment * SLRU_SEGMENT_BLOCKS;
    const last = first + SLRU_SEGMENT_BLOCKS - 1;
    return pagePrecedes(first, cutoff, circle) && pagePrecedes(last, cutoff, circle);
  });
}

/** CLOGPagePrecedes and MultiXactOffsetPagePrecedes: all ids of page a are older than all of page b. */
function pagePrecedes(a: number, b: number, { perPage, first }: Circle): boolean {
  const x = (a * perPage + first + 1) >>> 0;
  const y = (b * perPage + first + 1) >>> 0;
  return precedes(x, y) && precedes(x, (y + perPage - 1) >>> 0);
}

function dropSegments(
  context: IngestContext,
  record: WalRecord,
  slru: number,
  isDoomed: (segment: number) => boolean,
): void {
  const { groups } = context.sink;
  const doomed: number[] = [];
  context.meta.list(KIND.SLRU_SIZE, slru, 0, (group) => {
    const segment = groups.group(group).c;
    if (isDoomed(segment)) doomed.push(segment);
  });
  for (const segment of doomed) {
    context.sizes.drop(context.sink, context.slruGroup(slru, segment), record.endLsn);
  }
}
