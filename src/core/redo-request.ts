// A page that needs PostgreSQL's redo: base image and the records to apply, oldest first.

import type { Lsn } from "./lsn.ts";
import { PAGE_BYTES, type RelTag } from "./page.ts";

export interface RedoRecord {
  /** End LSN of the record: the page gets it as pd_lsn. */
  readonly lsn: Lsn;
  /** The whole record, 24-byte header on. Stays valid while the request lives. */
  readonly bytes: Uint8Array;
}

const FIELDS = 3;

/**
 * Records, oldest first, in one piece of memory: hundreds of pages with ten records each are under
 * way at once, and an object and a view for each record cost more than copying it.
 */
export class RedoRecords implements Iterable<RedoRecord> {
  /** What the records lie in; others may lie there too. */
  readonly memory: Uint8Array;
  /** LSN, start and end in `memory` of each. */
  private readonly index: readonly number[];

  constructor(memory: Uint8Array, index: readonly number[]) {
    this.memory = memory;
    this.index = index;
  }

  static of(records: readonly RedoRecord[]): RedoRecords {
    const memory = new Uint8Array(records.reduce((sum, { bytes }) => sum + bytes.length, 0));
    const index: number[] = [];
    let at = 0;
    for (const { lsn, bytes } of records) {
      memory.set(bytes, at);
      index.push(lsn, at, (at += bytes.length));
    }
    return new RedoRecords(memory, index);
  }

  /** The records as plain values, in memory of their own. */
  plain(): PlainRecords {
    const { memory, index } = this;
    let start = memory.length;
    let end = 0;
    for (let i = 0; i < this.count; i++) {
      start = Math.min(start, this.start(i));
      end = Math.max(end, this.end(i));
    }
    return {
      memory: memory.slice(start, end),
      index: index.map((value, i) => (i % FIELDS === 0 ? value : value - start)),
    };
  }

  get count(): number {
    return this.index.length / FIELDS;
  }

  lsn(i: number): Lsn {
    return this.index[i * FIELDS]! as Lsn;
  }

  start(i: number): number {
    return this.index[i * FIELDS + 1]!;
  }

  end(i: number): number {
    return this.index[i * FIELDS + 2]!;
  }

  /** Of all records together. */
  get byteLength(): number {
    let bytes = 0;
    for (let i = 0; i < this.count; i++) bytes += this.end(i) - this.start(i);
    return bytes;
  }

  *[Symbol.iterator](): Iterator<RedoRecord> {
    for (let i = 0; i < this.count; i++) {
      yield { lsn: this.lsn(i), bytes: this.memory.subarray(this.start(i), this.end(i)) };
    }
  }
}

/** RedoRecords, for another thread. */
export interface PlainRecords {
  readonly memory: Uint8Array;
  readonly index: readonly number[];
}

/** Records that name the page by one tag. */
export interface RedoStep {
  readonly rel: RelTag;
  readonly block: number;
  readonly records: RedoRecords;
}

/**
 * One page to rebuild. Usually one step. A page of a database that was made by copying files
 * (CREATE DATABASE … STRATEGY file_copy) first gets the source database's records, under the
 * source's tag, then its own: one step each, the result of one is the base of the next.
 */
export interface RedoRequest {
  /** 8192 bytes, or undefined when the first record initialises the page. */
  readonly base: Uint8Array | undefined;
  /** 8192 bytes for the rebuilt page, written together with the result: until then a retry may need `base`, whose memory it may be. */
  readonly out: Uint8Array;
  readonly steps: readonly RedoStep[];
  /** LSN asked for; only for errors. */
  readonly at: Lsn;
}

/** A request for another thread: plain values. */
export interface PlainRedoRequest extends Pick<RedoRequest, "base" | "at"> {
  readonly steps: readonly (Omit<RedoStep, "records"> & { readonly records: PlainRecords })[];
}

export const plainRedo = ({ base, at, steps }: RedoRequest): PlainRedoRequest => ({
  ...{ base: base?.slice(), at },
  steps: steps.map((step) => ({ ...step, records: step.records.plain() })),
});

/** The request in the thread that it was sent to. */
export const redoOf = ({ base, at, steps }: PlainRedoRequest): RedoRequest => ({
  ...{ base, at, out: new Uint8Array(PAGE_BYTES) },
  steps: steps.map((step) => {
    const { memory, index } = step.records;
    return { ...step, records: new RedoRecords(memory, index) };
  }),
});

/** The rebuilt page, which is the request's `out`, or why there is none. */
export type RedoResult =
  | { readonly ok: true; readonly page: Uint8Array }
  | { readonly ok: false; readonly reason: string };
