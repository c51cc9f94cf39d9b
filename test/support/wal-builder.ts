// WAL for tests: records put one after another at an LSN as PostgreSQL would, with page headers,
// switches and torn records; and the same seen from the other side, decoded records as plain values.

import { Arena } from "../../src/core/arena.ts";
import { Lsn, WAL_PAGE_BYTES, WAL_SEGMENT_BYTES } from "../../src/core/lsn.ts";
import type { WalRecord } from "../../src/core/wal-record.ts";
import { ByteWriter } from "../../src/protocol/bytes.ts";
import { WalDecoder, type WalDecoderOptions } from "../../src/protocol/wal/decoder.ts";
import { type PgVersion, walFormat } from "../../src/protocol/wal/format.ts";
import { PAGE_OVERWRITE_CONTRECORD, type WalIdentity } from "../../src/protocol/wal/page.ts";
import { RM, XLOG } from "../../src/protocol/wal/rmgr.ts";
import { type RecordSpec, buildRecord, layOutRecord } from "../../src/protocol/wal/writer.ts";

/** `length` bytes that differ from those of another seed. */
export const fill = (length: number, seed = 1): Uint8Array =>
  Uint8Array.from({ length }, (_, i) => (i * 31 + seed * 7) & 255);
/** A heap record with that many bytes of data. */
export const heap = (length: number, seed = 1): RecordSpec => ({
  rmid: RM.HEAP,
  info: 0,
  xid: 700 + seed,
  blocks: [{ spc: 1663, db: 5, rel: 16384, block: seed }],
  main: fill(length, seed),
});

export interface BuiltRecord {
  readonly spec: RecordSpec;
  /** The whole record, contiguous. */
  readonly bytes: Uint8Array;
  readonly startLsn: Lsn;
  readonly endLsn: Lsn;
  readonly prevLsn: Lsn;
}

export interface WalBuilderOptions {
  readonly start: Lsn;
  readonly version?: PgVersion;
  readonly previous?: Lsn;
  readonly tli?: number;
  readonly systemId?: bigint;
}

export class WalBuilder {
  readonly start: Lsn;
  readonly version: PgVersion;
  readonly identity: WalIdentity;
  /** Whole records, as a decoder must deliver them. */
  readonly records: BuiltRecord[] = [];
  /** Where the next byte goes. */
  end: Lsn;
  private previous: Lsn;
  private readonly out = new ByteWriter(WAL_PAGE_BYTES);

  constructor(options: WalBuilderOptions) {
    this.start = options.start;
    this.end = options.start;
    this.version = options.version ?? 15;
    this.previous = options.previous ?? Lsn.of(Math.max(0, options.start - 1000));
    this.identity = {
      format: walFormat(this.version),
      tli: options.tli ?? 1,
      systemId: options.systemId ?? 7_000_000_000_000_000_001n,
    };
  }

  add(spec: RecordSpec): BuiltRecord {
    const bytes = buildRecord(spec, this.previous, this.identity.format);
    const laid = layOutRecord(bytes, this.end, this.identity);
    this.out.raw(laid.bytes);
    this.end = laid.end;
    return this.enter({
      spec,
      bytes,
      startLsn: laid.start,
      endLsn: laid.end,
      prevLsn: this.previous,
    });
  }

  private enter(record: BuiltRecord): BuiltRecord {
    this.records.push(record);
    this.previous = record.startLsn;
    return record;
  }

  /** XLOG_SWITCH; the rest of the segment is `filler` bytes (PostgreSQL: zeros and page headers). */
  switchSegment(filler = 0): BuiltRecord {
    const record = this.add({ rmid: RM.XLOG, info: XLOG.SWITCH });
    const next = Lsn.of(Math.ceil(this.end / WAL_SEGMENT_BYTES) * WAL_SEGMENT_BYTES);
    this.out.raw(new Uint8Array(next - this.end).fill(filler));
    this.end = next;
    this.records.pop();
    return this.enter({ ...record, endLsn: next });
  }

  /**
   * A record of which a crash left only what lies on its first page, and the record by which
   * PostgreSQL abandons it (named wrongly if `lie`).
   */
  tear(spec: RecordSpec, lie: "truth" | "lie" = "truth"): void {
    const bytes = buildRecord(spec, this.previous, this.identity.format);
    const torn = layOutRecord(bytes, this.end, this.identity);
    const pageEnd = Lsn.of(Math.floor(torn.start / WAL_PAGE_BYTES + 1) * WAL_PAGE_BYTES);
    if (torn.end <= pageEnd) throw new Error("a record to be torn must cross a page end");
    this.out.raw(torn.bytes.subarray(0, pageEnd - this.end));
    this.end = pageEnd;
    const named = lie === "lie" ? Lsn.of(torn.start + 8) : torn.start;
    const main = new ByteWriter().lsnle(named).zeros(8).done().slice();
    const over = buildRecord(
      { rmid: RM.XLOG, info: XLOG.OVERWRITE_CONTRECORD, main },
      this.previous,
      this.identity.format,
    );
    const laid = layOutRecord(over, this.end, this.identity);
    laid.bytes[2] = laid.bytes[2]! | PAGE_OVERWRITE_CONTRECORD;
    this.out.raw(laid.bytes);
    const prevLsn = this.previous;
    this.end = laid.end;
    this.enter({
      spec: { rmid: RM.XLOG, info: XLOG.OVERWRITE_CONTRECORD, main },
      bytes: over,
      startLsn: laid.start,
      endLsn: laid.end,
      prevLsn,
    });
  }

  /** All WAL from `start` to `end`; a copy. */
  bytes(): Uint8Array {
    return this.out.done().slice();
  }
}

/** A decoded record as a value: nothing of it changes when the decoder goes on. */
export interface Snapshot {
  readonly startLsn: number;
  readonly endLsn: number;
  readonly prevLsn: number;
  readonly rmid: number;
  readonly info: number;
  readonly xid: number;
  readonly origin: number;
  readonly bytes: string;
  readonly main: string;
  readonly blocks: readonly Record<string, unknown>[];
}

const hex = (bytes: Uint8Array, from: number, length: number): string =>
  Buffer.from(bytes.buffer, bytes.byteOffset + from, length).toString("hex");

export function snapshot(record: WalRecord): Snapshot {
  const { bytes } = record.chunk;
  return {
    startLsn: record.startLsn,
    endLsn: record.endLsn,
    prevLsn: record.prevLsn,
    rmid: record.rmid,
    info: record.info,
    xid: record.xid,
    origin: record.origin,
    bytes: hex(bytes, record.start, record.length),
    main: hex(bytes, record.mainStart, record.mainLength),
    blocks: record.blocks.slice(0, record.blockCount).map((b) => {
      const { imageStart, imageLength, dataStart, dataLength, ...rest } = b;
      const image = hex(bytes, imageStart, imageLength);
      return { ...rest, image, data: hex(bytes, dataStart, dataLength) };
    }),
  };
}

/** Feeds `bytes` cut into pieces of the given lengths (then the rest) and collects what comes out. */
export function decodeAll(
  options: Omit<WalDecoderOptions, "arena" | "onRecord">,
  bytes: Uint8Array,
  cuts: readonly number[] = [],
): { readonly records: Snapshot[]; readonly decoder: WalDecoder; readonly error: unknown } {
  const records: Snapshot[] = [];
  const decoder = new WalDecoder({
    ...options,
    arena: new Arena(),
    onRecord: (record) => records.push(snapshot(record)),
  });
  let at = 0;
  try {
    for (const cut of cuts) {
      const to = Math.min(bytes.length, at + cut);
      decoder.feed(bytes, at, to);
      at = to;
    }
    decoder.feed(bytes, at, bytes.length);
  } catch (error) {
    return { records, decoder, error };
  }
  return { records, decoder, error: undefined };
}
