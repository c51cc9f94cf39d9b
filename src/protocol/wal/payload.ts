// The main data of a record as a bounds-checked reader: the base of all payload readers. Errors
// name the record's LSN. Not for records that come by the million: those read at fixed offsets.

import { Lsn } from "../../core/lsn.ts";
import type { WalRecord } from "../../core/wal-record.ts";
import { WalCorrupt } from "./format.ts";

const TWO_32 = 4_294_967_296;

/** A relation without its fork: RelFileNode, since 16 RelFileLocator. */
export interface RelNode {
  readonly spc: number;
  readonly db: number;
  readonly rel: number;
}

/** Fails unless the main data has at least `size` bytes. For readers at fixed offsets. */
export function needMain(record: WalRecord, size: number, what: string): void {
  if (record.mainLength >= size) return;
  throw new WalCorrupt(
    record.startLsn,
    `${what}: need ${size} bytes of data, have ${record.mainLength}`,
  );
}

/** Reads the main data of one record from its beginning; offsets are relative to it. Little-endian. */
export class PayloadReader {
  private readonly record: WalRecord;
  private readonly what: string;
  private offset = 0;

  constructor(record: WalRecord, what: string) {
    this.record = record;
    this.what = what;
  }

  get remaining(): number {
    return this.record.mainLength - this.offset;
  }

  private take(size: number): number {
    if (this.remaining < size) {
      const need = `need ${size} bytes at ${this.offset}, have ${this.remaining}`;
      throw new WalCorrupt(this.record.startLsn, `${this.what}: ${need}`);
    }
    const at = this.record.mainStart + this.offset;
    this.offset += size;
    return at;
  }

  u8 = (): number => this.record.chunk.view.getUint8(this.take(1));
  u16 = (): number => this.record.chunk.view.getUint16(this.take(2), true);
  u32 = (): number => this.record.chunk.view.getUint32(this.take(4), true);
  i32 = (): number => this.record.chunk.view.getInt32(this.take(4), true);

  /** An int64 as a number: exact below 2^53, which all times and page numbers are. */
  i64(): number {
    const low = this.u32();
    return this.i32() * TWO_32 + low;
  }

  lsn(): Lsn {
    const low = this.u32();
    return Lsn.fromParts(this.u32(), low);
  }

  rel(): RelNode {
    return { spc: this.u32(), db: this.u32(), rel: this.u32() };
  }

  skip(size: number): void {
    this.take(size);
  }

  /** Skips to the next multiple of 8 (MAXALIGN), or to the end. */
  align8(): void {
    this.offset = Math.min((this.offset + 7) & ~7, this.record.mainLength);
  }

  /** A count of items of `itemBytes` each; refused when they cannot all be there. */
  count(itemBytes: number): number {
    return this.checkCount(this.i32(), itemBytes);
  }

  checkCount(count: number, itemBytes: number): number {
    if (count < 0 || count * itemBytes > this.remaining) {
      const found = `${count} items of ${itemBytes} bytes do not fit in ${this.remaining}`;
      throw new WalCorrupt(this.record.startLsn, `${this.what}: ${found}`);
    }
    return count;
  }

  u32s(count: number): number[] {
    return Array.from({ length: this.checkCount(count, 4) }, this.u32);
  }

  rels(count: number): RelNode[] {
    return Array.from({ length: this.checkCount(count, 12) }, () => this.rel());
  }

  /** A copy of `size` bytes. */
  bytes(size: number): Uint8Array {
    const at = this.take(size);
    return this.record.chunk.bytes.slice(at, at + size);
  }

  /** Bytes up to the next NUL, as Latin-1 (any encoding survives comparison), at most `max` of them. */
  cstring(max: number): string {
    let text = "";
    for (let byte = this.u8(); byte !== 0; byte = this.u8()) {
      if (text.length >= max) {
        throw new WalCorrupt(this.record.startLsn, `${this.what}: string longer than ${max}`);
      }
      text += String.fromCharCode(byte);
    }
    return text;
  }
}

/** An int64 at `offset` of the main data, as a number. The caller has checked the length. */
export function mainI64(record: WalRecord, offset: number): number {
  const view = record.chunk.view;
  const at = record.mainStart + offset;
  return view.getInt32(at + 4, true) * TWO_32 + view.getUint32(at, true);
}
