// A run: versions of one key, newest first, packed into one LMDB value. docs/storage-format.md.
//
//   crc32c:4 LE | format and count:4 LE (8 + 24 bits) | newest LSN:8 LE | next older run's newest LSN:8 LE, 0 none
//   then each version:  type:3 bits, flags:5 bits | varint length | varint LSN below the one before
//                       | for an IMAGE: hole offset u16 LE, hole length u16 LE | payload
//
// The checksum covers the run's LMDB key and everything behind itself: a value found under another
// key does not pass.

import { assert } from "../core/assert.ts";
import { type Group, KEY_BYTES, readKey, writeKey } from "../core/key.ts";
import type { Lsn } from "../core/lsn.ts";
import { VERSION, type Version, type VersionType } from "../core/version.ts";
import { crc32c } from "../protocol/crc32c.ts";
import type { VersionVisitor } from "./object-store.ts";
import { StoreCorrupt } from "./store-errors.ts";

export const RUN_FORMAT = 1;
export const RUN_HEADER_BYTES = 24;
/** A run key: the version key, and for all but a key's newest run the inverted LSN of its newest version. */
export const RUN_KEY_BYTES = KEY_BYTES + 8;
/** Bytes a version takes besides its payload, at most. */
export const VERSION_HEADER_BYTES_MAX = 1 + 5 + 8 + 4;
const TWO_32 = 4_294_967_296;
const COUNT_MAX = 0xff_ffff;

export interface VersionKey {
  readonly group: Group;
  readonly block: number;
}

/** The version key that a run's key begins with. */
export const versionKeyOf = (runKey: Uint8Array): VersionKey =>
  readKey(new DataView(runKey.buffer, runKey.byteOffset, runKey.length), 0);

/** Builds the keys of one key's runs in one buffer that is reused. */
export class RunKey {
  /** 18 bytes: the newest run. */
  readonly newest: Buffer;
  private readonly whole = Buffer.alloc(RUN_KEY_BYTES);
  private readonly view: DataView;

  constructor() {
    this.newest = this.whole.subarray(0, KEY_BYTES);
    this.view = new DataView(this.whole.buffer, this.whole.byteOffset, RUN_KEY_BYTES);
  }

  set(group: Group, block: number): void {
    writeKey(this.view, 0, group, block);
  }

  /** 26 bytes: an older run. Inverted, so that newer runs come first in byte order. */
  older(newestLsn: number): Buffer {
    this.view.setUint32(KEY_BYTES, ~Math.floor(newestLsn / TWO_32) >>> 0);
    this.view.setUint32(KEY_BYTES + 4, ~(newestLsn % TWO_32) >>> 0);
    return this.whole;
  }
}

/** Packs versions, given newest first, into one run. The buffer is reused for the next. */
export class RunPacker {
  count = 0;
  used = RUN_HEADER_BYTES;
  newestLsn = 0;
  lastLsn = 0;
  private bytes = new Uint8Array(16_384);
  private view = new DataView(this.bytes.buffer);

  /** Upper bound of the run's size with `version` added. */
  sizeWith(version: Version): number {
    return this.used + VERSION_HEADER_BYTES_MAX + version.length;
  }

  add(version: Version): void {
    const need = this.sizeWith(version);
    if (need > this.bytes.length) this.grow(need);
    if (this.count === 0) this.newestLsn = this.lastLsn = version.lsn;
    assert(version.lsn <= this.lastLsn, "I2: versions of a run are packed newest first");
    const { bytes } = this;
    bytes[this.used++] = version.type | (version.flags << 3);
    this.varint(version.length);
    this.varint(this.lastLsn - version.lsn);
    if (version.type === VERSION.IMAGE) {
      this.view.setUint16(this.used, version.holeOffset, true);
      this.view.setUint16(this.used + 2, version.holeLength, true);
      this.used += 4;
    }
    const { start, length } = version;
    if (version.view !== undefined) {
      copyWords(version.view, start, start + length, this.view, this.used);
    } else if (length < 32) {
      // Below some 32 bytes a loop beats `set` with a view made for it.
      for (let i = 0; i < length; i++) bytes[this.used + i] = version.bytes[start + i]!;
    } else bytes.set(version.bytes.subarray(start, start + length), this.used);
    this.used += length;
    this.lastLsn = version.lsn;
    this.count++;
  }

  /** The finished value for `key`; valid until the next `add`. `olderLsn`: newest LSN of the key's next older run, 0 if none. */
  finish(key: Uint8Array, olderLsn: number): Uint8Array {
    assert(this.count > 0 && this.count <= COUNT_MAX, `a run of ${this.count} versions`);
    const { view } = this;
    view.setUint32(4, ((RUN_FORMAT << 24) | this.count) >>> 0, true);
    setLsn(view, 8, this.newestLsn);
    setLsn(view, 16, olderLsn);
    view.setUint32(0, crc32c(this.bytes, 4, this.used, crc32c(key)), true);
    const value = this.bytes.subarray(0, this.used);
    this.count = 0;
    this.used = RUN_HEADER_BYTES;
    return value;
  }

  private varint(value: number): void {
    let rest = value;
    while (rest > 127) {
      this.bytes[this.used++] = (rest % 128) | 128;
      rest = Math.floor(rest / 128);
    }
    this.bytes[this.used++] = rest;
  }

  private grow(need: number): void {
    const larger = new Uint8Array(Math.max(need, this.bytes.length * 2));
    larger.set(this.bytes.subarray(0, this.used));
    this.bytes = larger;
    this.view = new DataView(larger.buffer);
  }
}

/** Reads one run after the other; the objects are reused. */
export class RunReader {
  /** Newest LSN of the key's next older run, 0 if this is the oldest. */
  olderLsn = 0;
  newestLsn = 0;
  count = 0;
  private bytes: Uint8Array = new Uint8Array(0);
  private at = 0;
  private end = 0;
  private readonly version: Version = {
    type: VERSION.RECORD,
    flags: 0,
    lsn: 0 as Lsn,
    holeOffset: 0,
    holeLength: 0,
    bytes: this.bytes,
    view: undefined,
    start: 0,
    length: 0,
  };

  /**
   * Takes the value found under `key`: bytes[0, length) of `view`. Throws StoreCorrupt, naming
   * `where`, when the checksum does not fit. `trusted`: it was compared a short while ago.
   */
  open(
    key: Uint8Array,
    view: DataView,
    bytes: Uint8Array,
    length: number,
    where: string,
    trusted = false,
  ): void {
    if (length < RUN_HEADER_BYTES) throw new StoreCorrupt(where, `a run of ${length} bytes`);
    if (!trusted && crc32c(bytes, 4, length, crc32c(key)) !== view.getUint32(0, true)) {
      throw new StoreCorrupt(where, "a stored value does not match its checksum");
    }
    const word = view.getUint32(4, true);
    if (word >>> 24 !== RUN_FORMAT) throw new StoreCorrupt(where, `run format ${word >>> 24}`);
    this.count = word & COUNT_MAX;
    this.newestLsn = getLsn(view, 8);
    this.olderLsn = getLsn(view, 16);
    this.bytes = bytes;
    this.version.bytes = bytes;
    this.at = RUN_HEADER_BYTES;
    this.end = length;
  }

  /**
   * Shows the versions with floor < LSN <= at. "stopped": the visitor wants no more; "floor": what
   * follows is too old; "end": the next older run may hold more.
   */
  visit(at: number, floor: number, visitor: VersionVisitor): "stopped" | "floor" | "end" {
    const { version, bytes } = this;
    let lsn = this.newestLsn;
    for (let i = 0; i < this.count; i++) {
      const head = bytes[this.at++]!;
      version.type = (head & 7) as VersionType;
      version.flags = head >>> 3;
      version.length = this.varint();
      lsn -= this.varint();
      if (lsn <= floor) return "floor";
      version.holeOffset = version.holeLength = 0;
      if (version.type === VERSION.IMAGE) {
        version.holeOffset = bytes[this.at]! | (bytes[this.at + 1]! << 8);
        version.holeLength = bytes[this.at + 2]! | (bytes[this.at + 3]! << 8);
        this.at += 4;
      }
      version.start = this.at;
      this.at += version.length;
      assert(this.at <= this.end, "I4: a run with a valid checksum holds what its header says");
      if (lsn > at) continue;
      version.lsn = lsn as Lsn;
      if (!visitor(version)) return "stopped";
    }
    return "end";
  }

  private varint(): number {
    let value = 0;
    let scale = 1;
    for (;;) {
      const byte = this.bytes[this.at++]!;
      value += (byte & 127) * scale;
      if (byte < 128) return value;
      scale *= 128;
      assert(scale < 2 ** 56, "I4: a run with a valid checksum holds short numbers");
    }
  }
}

/** Copies [from, to) of one view to `put` in another; neither need be aligned. */
function copyWords(source: DataView, from: number, to: number, target: DataView, put: number) {
  let at = from;
  const shift = put - from;
  for (; to - at >= 4; at += 4) target.setInt32(at + shift, source.getInt32(at, true), true);
  for (; at < to; at++) target.setUint8(at + shift, source.getUint8(at));
}

function setLsn(view: DataView, at: number, lsn: number): void {
  view.setUint32(at, lsn % TWO_32, true);
  view.setUint32(at + 4, Math.floor(lsn / TWO_32), true);
}

const getLsn = (view: DataView, at: number): number =>
  view.getUint32(at + 4, true) * TWO_32 + view.getUint32(at, true);
