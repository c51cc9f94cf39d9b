// A page that needs PostgreSQL's redo: base image and the records to apply, oldest first.

import type { Lsn } from "./lsn.ts";
import type { RelTag } from "./page.ts";

export interface RedoRecord {
  /** End LSN of the record: the page gets it as pd_lsn. */
  readonly lsn: Lsn;
  /** The whole record, 24-byte header on. Stays valid while the request lives. */
  readonly bytes: Uint8Array;
}

/** Records that name the page by one tag. */
export interface RedoStep {
  readonly rel: RelTag;
  readonly block: number;
  readonly records: readonly RedoRecord[];
}

/**
 * One page to rebuild. Usually one step. A page of a database that was made by copying files
 * (CREATE DATABASE … STRATEGY file_copy) first gets the source database's records, under the
 * source's tag, then its own: one step each, the result of one is the base of the next.
 */
export interface RedoRequest {
  /** 8192 bytes, or undefined when the first record initialises the page. */
  readonly base: Uint8Array | undefined;
  readonly steps: readonly RedoStep[];
  /** LSN asked for; only for errors. */
  readonly at: Lsn;
}

/** The rebuilt page (8192 bytes; a view the receiver copies at once) or why there is none. */
export type RedoResult =
  | { readonly ok: true; readonly page: Uint8Array }
  | { readonly ok: false; readonly reason: string };
