// Where WAL records start, kept for each 64 KiB of WAL (KIND.BOUNDARY), so that any LSN someone
// names can be moved back to a record boundary together with the start of the record before it: what
// a compute that starts there must write as its first record's xl_prev.
//
// A window's value is the starts in it, ascending, as varints: the first relative to the window,
// then differences; all divided by 8, because records start at multiples of 8. Usually one byte a record.

import { assert } from "./assert.ts";
import { BOUNDARY_WINDOW_BYTES, WAL_RECORD_BYTES_MAX } from "./limits.ts";
import { LSN_INVALID, Lsn } from "./lsn.ts";
import { VARINT_BYTES_MAX, VarintReader, writeVarint } from "./varint.ts";

/** A shortest record (XLOG_SWITCH) is 24 bytes long: so many start in one window, of one byte each. */
const WINDOW_VALUE_BYTES_MAX = Math.ceil(BOUNDARY_WINDOW_BYTES / 24) + VARINT_BYTES_MAX;
/** Windows without any start that the longest record can leave behind it. */
const EMPTY_WINDOWS_MAX = Math.ceil(WAL_RECORD_BYTES_MAX / BOUNDARY_WINDOW_BYTES) + 1;

/** Start of the window that `lsn` lies in: its two halves are c and block of the BOUNDARY key. */
export const windowOf = (lsn: number): Lsn => (lsn - (lsn % BOUNDARY_WINDOW_BYTES)) as Lsn;

/** The window that is being filled. Starts are added in ascending order. */
export class BoundaryWindow {
  start: Lsn;
  /** Something was added that no stored value has. */
  dirty = false;
  private readonly bytes = new Uint8Array(WINDOW_VALUE_BYTES_MAX);
  private used = 0;
  private last: number;

  /** The window that contains `lsn`, with what was stored of it. */
  constructor(lsn: Lsn, stored: Uint8Array | undefined) {
    this.start = windowOf(lsn);
    this.last = this.start;
    if (stored === undefined) return;
    this.bytes.set(stored);
    this.used = stored.length;
    this.last = decodeWindow(this.start, stored).at(-1) ?? this.start;
  }

  contains(lsn: number): boolean {
    return lsn >= this.start && lsn < this.start + BOUNDARY_WINDOW_BYTES;
  }

  /** Adds a start that this window contains. One that is there already changes nothing. */
  add(lsn: number): void {
    if (this.used > 0 && lsn <= this.last) return;
    assert(
      this.used <= WINDOW_VALUE_BYTES_MAX - 3,
      "more records start in a window than fit in it",
    );
    this.used = writeVarint(this.bytes, this.used, (lsn - this.last) / 8);
    this.last = lsn;
    this.dirty = true;
  }

  /** Forgets this window (the caller has put its value) and begins the one that contains `lsn`. */
  moveTo(lsn: number): void {
    this.start = windowOf(lsn);
    this.last = this.start;
    this.used = 0;
    this.dirty = false;
  }

  /** What to store; a view that the next add or moveTo changes. */
  value(): Uint8Array {
    return this.bytes.subarray(0, this.used);
  }
}

/** Starts of a stored window, ascending. Throws MalformedInput. */
export function decodeWindow(start: Lsn, value: Uint8Array): readonly Lsn[] {
  const starts: Lsn[] = [];
  const reader = new VarintReader(value);
  for (let at: number = start; !reader.done;) starts.push((at += reader.next() * 8) as Lsn);
  return starts;
}

/** A place where a record starts, and where the one before it does (0 if that is not known). */
export interface Boundary {
  readonly start: Lsn;
  readonly prev: Lsn;
}

/**
 * The newest record start at or below normalize(lsn), with its predecessor. `tip` is the end of the
 * last record taken in (and that record's start): the next record will start there. `readWindow`
 * gives the value of a window by its start; a window that was not completed yet comes from the
 * writer. Undefined when no start is known so far back.
 */
export function boundaryAtOrBelow(
  lsn: Lsn,
  tip: { readonly last: Lsn; readonly prev: Lsn } | undefined,
  readWindow: (window: Lsn) => Uint8Array | undefined,
): Boundary | undefined {
  const target = Lsn.normalize(lsn);
  if (tip !== undefined && target >= Lsn.normalize(tip.last)) {
    return { start: Lsn.normalize(tip.last), prev: tip.prev };
  }
  let start: Lsn | undefined;
  let empty = 0;
  for (let window = windowOf(target); window >= 0 && empty <= EMPTY_WINDOWS_MAX; empty++) {
    const value = readWindow(window);
    const starts = value === undefined ? [] : decodeWindow(window, value);
    for (let i = starts.length - 1; i >= 0; i--) {
      if (starts[i]! > target) continue;
      if (start !== undefined) return { start, prev: starts[i]! };
      start = starts[i]!;
      empty = 0;
    }
    window = (window - BOUNDARY_WINDOW_BYTES) as Lsn;
  }
  return start === undefined ? undefined : { start, prev: LSN_INVALID };
}
