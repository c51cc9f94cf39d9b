// Bounds-checked reading and writing of bytes from outside. A reader knows its end, takes the
// field's name for its errors, and can insist that nothing is left over. Not for hot loops.

import { MalformedInput } from "../core/assert.ts";
import { Lsn } from "../core/lsn.ts";

const utf8 = new TextDecoder("utf-8", { fatal: true });
const encoder = new TextEncoder();

/** Reads big-endian by default (the wire); the *le methods are for WAL, pages and pg_control. */
export class ByteReader {
  readonly bytes: Uint8Array;
  offset: number;
  private readonly view: DataView;

  constructor(bytes: Uint8Array, offset = 0) {
    this.bytes = bytes;
    this.offset = offset;
    this.view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }

  get remaining(): number {
    return this.bytes.length - this.offset;
  }

  private take(field: string, size: number): number {
    if (size < 0 || this.remaining < size) {
      throw new MalformedInput(`${field}: need ${size} bytes, have ${this.remaining}`);
    }
    const at = this.offset;
    this.offset += size;
    return at;
  }

  u8 = (field: string): number => this.view.getUint8(this.take(field, 1));
  u16 = (field: string): number => this.view.getUint16(this.take(field, 2));
  i16 = (field: string): number => this.view.getInt16(this.take(field, 2));
  u32 = (field: string): number => this.view.getUint32(this.take(field, 4));
  i32 = (field: string): number => this.view.getInt32(this.take(field, 4));
  u64 = (field: string): bigint => this.view.getBigUint64(this.take(field, 8));
  i64 = (field: string): bigint => this.view.getBigInt64(this.take(field, 8));
  u16le = (field: string): number => this.view.getUint16(this.take(field, 2), true);
  u32le = (field: string): number => this.view.getUint32(this.take(field, 4), true);
  i32le = (field: string): number => this.view.getInt32(this.take(field, 4), true);
  u64le = (field: string): bigint => this.view.getBigUint64(this.take(field, 8), true);
  i64le = (field: string): bigint => this.view.getBigInt64(this.take(field, 8), true);

  /** A big-endian u64 LSN; u64 MAX becomes LSN_MAX. */
  lsn(field: string): Lsn {
    const high = this.u32(field);
    return Lsn.fromParts(high, this.u32(field));
  }

  /** A little-endian u64 LSN, as in WAL records and pg_control (not in page headers). */
  lsnle(field: string): Lsn {
    const low = this.u32le(field);
    return Lsn.fromParts(this.u32le(field), low);
  }

  /** A view, not a copy. */
  raw(field: string, size: number): Uint8Array {
    const at = this.take(field, size);
    return this.bytes.subarray(at, at + size);
  }

  /** A NUL-terminated UTF-8 string. */
  cstring(field: string): string {
    const end = this.bytes.indexOf(0, this.offset);
    if (end < 0) throw new MalformedInput(`${field}: string has no terminating NUL`);
    const text = this.text(field, end - this.offset);
    this.offset++;
    return text;
  }

  /** `size` bytes of UTF-8. */
  text(field: string, size: number): string {
    const raw = this.raw(field, size);
    try {
      return utf8.decode(raw);
    } catch {
      throw new MalformedInput(`${field}: not valid UTF-8`);
    }
  }

  end(what: string): void {
    if (this.remaining !== 0) throw new MalformedInput(`${what}: ${this.remaining} bytes too many`);
  }
}

/** Writes big-endian by default; grows as needed. `done()` gives the bytes written. */
export class ByteWriter {
  private bytes: Uint8Array;
  private view: DataView;
  private used = 0;

  constructor(capacity = 256) {
    this.bytes = new Uint8Array(capacity);
    this.view = new DataView(this.bytes.buffer);
  }

  get length(): number {
    return this.used;
  }

  private grow(size: number): number {
    const need = this.used + size;
    if (need > this.bytes.length) {
      const larger = new Uint8Array(Math.max(need, this.bytes.length * 2));
      larger.set(this.bytes.subarray(0, this.used));
      this.bytes = larger;
      this.view = new DataView(larger.buffer);
    }
    const at = this.used;
    this.used = need;
    return at;
  }

  // grow() may put a new view in the place of the old one: it is called before `view` is looked at.
  u8(v: number): this {
    const at = this.grow(1);
    this.view.setUint8(at, v);
    return this;
  }
  u16(v: number): this {
    const at = this.grow(2);
    this.view.setUint16(at, v);
    return this;
  }
  u32(v: number): this {
    const at = this.grow(4);
    this.view.setUint32(at, v);
    return this;
  }
  i32(v: number): this {
    const at = this.grow(4);
    this.view.setInt32(at, v);
    return this;
  }
  u64(v: bigint): this {
    const at = this.grow(8);
    this.view.setBigUint64(at, v);
    return this;
  }
  i64(v: bigint): this {
    const at = this.grow(8);
    this.view.setBigInt64(at, v);
    return this;
  }
  u16le(v: number): this {
    const at = this.grow(2);
    this.view.setUint16(at, v, true);
    return this;
  }
  u32le(v: number): this {
    const at = this.grow(4);
    this.view.setUint32(at, v, true);
    return this;
  }
  u64le(v: bigint): this {
    const at = this.grow(8);
    this.view.setBigUint64(at, v, true);
    return this;
  }
  lsn = (v: Lsn): this => this.u32(Lsn.high(v)).u32(Lsn.low(v));
  lsnle = (v: Lsn): this => this.u32le(Lsn.low(v)).u32le(Lsn.high(v));

  raw(v: Uint8Array): this {
    const at = this.grow(v.length);
    this.bytes.set(v, at);
    return this;
  }
  text = (v: string): this => this.raw(encoder.encode(v));
  cstring = (v: string): this => this.text(v).u8(0);
  zeros = (size: number): this => (this.grow(size), this);

  /** Sets a u32 written earlier: lengths that are known late. */
  patchU32(at: number, v: number): void {
    this.view.setUint32(at, v);
  }

  done(): Uint8Array {
    return this.bytes.subarray(0, this.used);
  }
}
