// WAL bytes, fed in pieces of any size, to whole records. Resumable at any byte: a piece may end
// inside a page header, a record header or padding. Nothing is allocated per record; each record
// is put at the arena's free place and handed to the consumer, who commits it if anything is to
// keep pointing at it. Checked: every page header, every CRC, the chain of xl_prev, every length.
// Formats: access/xlog_internal.h and xlogrecord.h; rules: XLogDecodeNextRecord of xlogreader.c.
//
//   feed ─► page header? ─► rest of a record begun before? ─► whole records of the page ─► …
//              40 bytes           `pending`, own memory           straight into the arena

import { Arena } from "../../core/arena.ts";
import { assert } from "../../core/assert.ts";
import { WAL_RECORD_BYTES_MAX } from "../../core/limits.ts";
import {
  LSN_INVALID,
  LSN_MAX,
  Lsn,
  WAL_LONG_HEADER_BYTES,
  WAL_PAGE_BYTES,
  WAL_SEGMENT_BYTES,
} from "../../core/lsn.ts";
import type { WalRecord } from "../../core/wal-record.ts";
import { NATIVE_CRC_BYTES_MIN, copyWithCrc32c, crc32c } from "../crc32c.ts";
import {
  INFO_RMGR_MASK,
  type PgVersion,
  RECORD_HEADER_BYTES,
  WalCorrupt,
  type WalFormat,
  walFormat,
} from "./format.ts";
import {
  PAGE_CONTRECORD,
  PAGE_OVERWRITE_CONTRECORD,
  pageHeaderBytes,
  readPageHeader,
} from "./page.ts";
import { emptyWalRecord, parseRecordBody, parseRecordHeader } from "./record.ts";
import { RM, XLOG } from "./rmgr.ts";

export interface WalDecoderOptions {
  readonly version: PgVersion;
  /** Start of a record, or of a page at which no record is continued. A multiple of 8. */
  readonly start: Lsn;
  readonly arena: Arena;
  /**
   * Called for each whole record. The object is reused, its bytes are overwritten by whatever is put
   * into the arena next unless `arena.commit(record.length)` is called first. If it throws, the
   * decoder's state is undefined: make a new one.
   */
  readonly onRecord: (record: WalRecord) => void;
  /** Checked against the header of each segment when given; else the first one found is. */
  readonly systemId?: bigint;
  /** PostgreSQL's timeline id; when not given, that of the first page header. */
  readonly tli?: number;
  /** Start of the record before `start`, when known: the first record's xl_prev must name it. */
  readonly previous?: Lsn;
  /** "stop": bytes that are not WAL mean its end (`ended`), as in a segment file. Else they throw. */
  readonly atEnd?: "throw" | "stop";
}

/** What the partly received record is grown to at first: lengths are not believed further than this. */
const PENDING_BYTES = 4 * WAL_PAGE_BYTES;
/** Of a decoder that has had nothing yet: idle timelines are many. */
const PENDING_FIRST_BYTES = 64;
const NO_RECORD = emptyWalRecord(new Arena().chunk);

export class WalDecoder {
  /** LSN of the next byte to be fed. */
  position: Lsn;
  /**
   * End of the last whole record, its version stamp; at first `start`. After an XLOG_SWITCH it is
   * the next segment's start, which may be ahead of `position`.
   */
  lastEnd: Lsn;
  /** Start of the last whole record: the xl_prev of the next one. LSN_INVALID until known. */
  lastStart: Lsn;
  /** The reason why reading stopped; only with atEnd "stop". Bytes fed later are ignored. */
  endReason: WalCorrupt | undefined;

  private readonly format: WalFormat;
  private readonly onRecord: (record: WalRecord) => void;
  private readonly stopAtEnd: boolean;
  // Its own from the first bytes on: idle timelines are many.
  private record: WalRecord = NO_RECORD;
  private arena: Arena;
  private tli: number;
  private systemId: bigint | undefined;
  private delivering = false;

  /** Bytes below this LSN are padding, or the rest of a segment after XLOG_SWITCH: passed over. */
  private skipTo: number;
  private readonly header = new Uint8Array(WAL_LONG_HEADER_BYTES);
  private readonly headerView = new DataView(this.header.buffer);
  private headerHave = 0;

  // A record of which only a part has come: its bytes so far, without page headers.
  private pending = new Uint8Array(PENDING_FIRST_BYTES);
  private pendingHave = 0;
  /** xl_tot_len; 0 while its four bytes are not all there. */
  private pendingLength = 0;
  private pendingStart: number;
  /** Start of a record that a crash tore and PostgreSQL abandoned: the next record must say so. */
  private overwritten: number;

  constructor(options: WalDecoderOptions) {
    const { start } = options;
    assert(start % 8 === 0, `WAL is decoded from a multiple of 8, not from ${Lsn.format(start)}`);
    const pageOffset = start % WAL_PAGE_BYTES;
    assert(
      pageOffset === 0 || pageOffset >= pageHeaderBytes(start - pageOffset),
      `WAL cannot be decoded from within a page header: ${Lsn.format(start)}`,
    );
    this.position = start;
    this.lastEnd = start;
    this.lastStart = options.previous ?? LSN_INVALID;
    this.format = walFormat(options.version);
    this.onRecord = options.onRecord;
    this.stopAtEnd = options.atEnd === "stop";
    this.arena = options.arena;
    this.tli = options.tli ?? 0;
    this.systemId = options.systemId;
    this.skipTo = start;
    this.pendingStart = LSN_MAX;
    this.overwritten = LSN_INVALID;
  }

  /** True when the end of the WAL was found; only with atEnd "stop". */
  get ended(): boolean {
    return this.endReason !== undefined;
  }

  /** Records from now on go into `arena`. Allowed between feeds; a partly received record is kept. */
  moveTo(arena: Arena): void {
    this.arena = arena;
  }

  /**
   * Takes bytes[from, to), which continue at `position`. Calls onRecord for every record they
   * complete. Throws WalCorrupt, and whatever onRecord throws.
   */
  feed(bytes: Uint8Array, from = 0, to = bytes.length): void {
    if (this.endReason !== undefined) return;
    if (this.record === NO_RECORD) this.record = emptyWalRecord(this.arena.chunk);
    try {
      this.decode(bytes, from, to);
    } catch (error) {
      if (!this.stopAtEnd || this.delivering || !(error instanceof WalCorrupt)) throw error;
      this.endReason = error;
    }
  }

  private decode(bytes: Uint8Array, from: number, to: number): void {
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    let at = from;
    while (at < to) {
      if (this.position < this.skipTo) {
        const skipped = Math.min(this.skipTo - this.position, to - at);
        this.position = (this.position + skipped) as Lsn;
        at += skipped;
        continue;
      }
      const pageOffset = this.position % WAL_PAGE_BYTES;
      if (pageOffset === 0 || this.headerHave > 0) {
        at = this.takeHeader(bytes, at, to);
        continue;
      }
      const end = Math.min(to, at + WAL_PAGE_BYTES - pageOffset);
      if (this.pendingHave === 0) at = this.takeWholeRecords(bytes, view, at, end);
      if (at < end && this.position >= this.skipTo) at = this.takePart(bytes, at, end);
    }
  }

  private takeHeader(bytes: Uint8Array, at: number, to: number): number {
    const page = this.position - this.headerHave;
    const want = pageHeaderBytes(page);
    const taken = Math.min(want - this.headerHave, to - at);
    for (let i = 0; i < taken; i++) this.header[this.headerHave + i] = bytes[at + i]!;
    this.headerHave += taken;
    this.position = (this.position + taken) as Lsn;
    if (this.headerHave === want) {
      this.headerHave = 0;
      this.onPageHeader(page);
    }
    return at + taken;
  }

  private onPageHeader(page: number): void {
    const { format, tli, systemId } = this;
    const header = readPageHeader(this.headerView, page, { format, tli, systemId });
    this.tli = header.tli;
    this.systemId ??= header.systemId;
    const torn = (header.flags & PAGE_OVERWRITE_CONTRECORD) !== 0;
    if (torn && this.pendingHave > 0) {
      this.overwritten = this.pendingStart;
      this.pendingHave = 0;
      this.pendingLength = 0;
    }
    // A record starts with at least 8 bytes on its page, so its length is known at the next one.
    const expected = this.pendingHave > 0 ? this.pendingLength - this.pendingHave : 0;
    const continued = (header.flags & PAGE_CONTRECORD) !== 0;
    if (continued !== expected > 0 || header.remaining !== expected) {
      const found = `${header.remaining} (flags ${header.flags})`;
      const what = `expected ${expected} bytes of a continued record, the page header says ${found}`;
      throw new WalCorrupt(page, what);
    }
  }

  /** Records that lie whole in bytes[at, end), which is within one page: the hot loop. */
  private takeWholeRecords(bytes: Uint8Array, view: DataView, from: number, end: number): number {
    const base = this.position - from;
    let at = from;
    while (end - at >= RECORD_HEADER_BYTES) {
      const length = view.getUint32(at, true);
      if (length > end - at || length < RECORD_HEADER_BYTES) break;
      this.arena.reserve(length);
      const chunk = this.arena.chunk;
      const put = this.arena.used;
      let crc: number;
      if (length >= NATIVE_CRC_BYTES_MIN) {
        chunk.bytes.set(bytes.subarray(at, at + length), put);
        crc = recordCrc(chunk.bytes, put, length);
      } else {
        crc = copyWithCrc32c(view, at + 24, at + length, chunk.view, put + 24, 0);
        crc = copyWithCrc32c(view, at, at + 20, chunk.view, put, crc);
        chunk.view.setUint32(put + 20, view.getUint32(at + 20, true), true);
      }
      const record = this.record;
      record.chunk = chunk;
      record.start = put;
      record.length = length;
      record.startLsn = base + at;
      const next = at + ((length + 7) & ~7);
      this.finish(record, crc, base + next);
      at = next;
      if (this.lastEnd !== base + at) break; // XLOG_SWITCH
    }
    if (at <= end) {
      this.position = (base + at) as Lsn;
      return at;
    }
    this.position = (base + end) as Lsn; // the piece ends within padding
    this.skipTo = Math.max(this.skipTo, base + at);
    return end;
  }

  /** Takes what there is of a record that is not whole in its page and piece. */
  private takePart(bytes: Uint8Array, from: number, end: number): number {
    if (this.pendingHave === 0) {
      this.pendingStart = this.position;
      this.pendingLength = 0;
    }
    let at = from;
    while (this.pendingLength === 0 && at < end) {
      this.pending[this.pendingHave++] = bytes[at++]!;
      if (this.pendingHave === 4) this.pendingLength = this.readPendingLength();
    }
    const taken = Math.min(Math.max(this.pendingLength - this.pendingHave, 0), end - at);
    if (taken > 0) {
      this.growPending(this.pendingHave + taken);
      this.pending.set(bytes.subarray(at, at + taken), this.pendingHave);
      this.pendingHave += taken;
      at += taken;
    }
    this.position = (this.position + at - from) as Lsn;
    if (this.pendingLength > 0 && this.pendingHave === this.pendingLength) this.finishPending();
    return at;
  }

  private readPendingLength(): number {
    const length = new DataView(this.pending.buffer).getUint32(0, true);
    if (length >= RECORD_HEADER_BYTES && length <= WAL_RECORD_BYTES_MAX) return length;
    const what = `expected a record of ${RECORD_HEADER_BYTES} to ${WAL_RECORD_BYTES_MAX} bytes`;
    throw new WalCorrupt(this.pendingStart, `${what}, its length says ${length}`);
  }

  private growPending(length: number): void {
    if (length <= this.pending.length) return;
    const larger = new Uint8Array(Math.max(length, this.pending.length * 2));
    larger.set(this.pending.subarray(0, this.pendingHave));
    this.pending = larger;
  }

  private finishPending(): void {
    const length = this.pendingLength;
    const end = Math.ceil(this.position / 8) * 8;
    this.arena.reserve(length);
    const { chunk, used } = this.arena;
    chunk.bytes.set(this.pending.subarray(0, length), used);
    this.pendingHave = 0;
    this.pendingLength = 0;
    if (this.pending.length > PENDING_BYTES) this.pending = new Uint8Array(PENDING_BYTES);
    const record = this.record;
    record.chunk = chunk;
    record.start = used;
    record.length = length;
    record.startLsn = this.pendingStart;
    this.skipTo = end;
    this.finish(record, recordCrc(chunk.bytes, used, length), end);
  }

  /** Checks, parses and delivers the record whose bytes are in place; `end` is where it ends, aligned. */
  private finish(record: WalRecord, crc: number, end: number): void {
    const stored = record.chunk.view.getUint32(record.start + 20, true);
    if (crc !== stored) {
      const what = `record of ${record.length} bytes has CRC ${stored.toString(16)}`;
      throw new WalCorrupt(record.startLsn, `${what}, its bytes give ${crc.toString(16)}`);
    }
    parseRecordHeader(record);
    this.checkHeader(record);
    parseRecordBody(record, this.format);
    record.endLsn = end;
    if (record.rmid === RM.XLOG) this.onXlogRecord(record);
    else if (this.overwritten !== LSN_INVALID) throw this.notOverwriting(record);
    this.lastStart = record.startLsn as Lsn;
    this.lastEnd = record.endLsn as Lsn;
    this.delivering = true;
    this.onRecord(record);
    this.delivering = false;
  }

  private checkHeader(record: WalRecord): void {
    const { format, lastStart } = this;
    if (lastStart !== LSN_INVALID && record.prevLsn !== lastStart) {
      const what = `record names ${Lsn.format(record.prevLsn as Lsn)} as the one before it`;
      throw new WalCorrupt(record.startLsn, `${what}, expected ${Lsn.format(lastStart)}`);
    }
    if (record.prevLsn >= record.startLsn) {
      throw new WalCorrupt(record.startLsn, "record names a later one as the one before it");
    }
    if (record.rmid > format.rmidMax && !(format.customRmgrs && record.rmid >= RM.CUSTOM_MIN)) {
      throw new WalCorrupt(record.startLsn, `record has unknown resource manager ${record.rmid}`);
    }
  }

  private onXlogRecord(record: WalRecord): void {
    const info = record.info & INFO_RMGR_MASK;
    if (info === XLOG.SWITCH) {
      record.endLsn = Math.ceil(record.endLsn / WAL_SEGMENT_BYTES) * WAL_SEGMENT_BYTES;
      this.skipTo = record.endLsn;
    }
    if (this.overwritten === LSN_INVALID) return;
    const view = record.chunk.view;
    const named =
      info === XLOG.OVERWRITE_CONTRECORD && record.mainLength >= 8
        ? Lsn.fromParts(
            view.getUint32(record.mainStart + 4, true),
            view.getUint32(record.mainStart, true),
          )
        : LSN_INVALID;
    if (named !== this.overwritten) throw this.notOverwriting(record);
    this.overwritten = LSN_INVALID;
  }

  private notOverwriting(record: WalRecord): WalCorrupt {
    const torn = Lsn.format(this.overwritten as Lsn);
    const what = `expected the record that says that the one at ${torn} was overwritten`;
    return new WalCorrupt(record.startLsn, what);
  }
}

/** xl_crc covers the record from byte 24 to its end, then bytes 0 to 20. */
export function recordCrc(bytes: Uint8Array, start: number, length: number): number {
  const body = crc32c(bytes, start + RECORD_HEADER_BYTES, start + length);
  return crc32c(bytes, start, start + 20, body);
}
