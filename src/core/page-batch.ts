// Requests of one compute link that one socket read held: they travel as one message and are
// answered with one write, in order.

import type { ReadError } from "./errors.ts";
import type { Lsn } from "./lsn.ts";
import type { RelTag } from "./page.ts";

/** LSN rules: docs/wire-protocol.md. `lsn` LSN_MAX means latest; `notModifiedSince` is what may be waited for. */
interface At {
  readonly lsn: Lsn;
  readonly notModifiedSince: Lsn;
}

export type PageRequest =
  | ({ readonly kind: "exists"; readonly rel: RelTag } & At)
  | ({ readonly kind: "nblocks"; readonly rel: RelTag } & At)
  | ({ readonly kind: "get-page"; readonly rel: RelTag; readonly block: number } & At)
  | ({ readonly kind: "db-size"; readonly db: number } & At)
  | ({ readonly kind: "slru"; readonly slru: number; readonly segment: number } & At);

/**
 * What the answer to the request of the same index is. A "page" was written where the batch said
 * (`slab` at `pageOffsets[i]`). `slru` holds blocks * 8192 bytes.
 */
export type PageAnswer =
  | { readonly kind: "page" }
  | { readonly kind: "exists"; readonly exists: boolean }
  | { readonly kind: "nblocks"; readonly blocks: number }
  | { readonly kind: "db-size"; readonly bytes: number }
  | { readonly kind: "slru"; readonly pages: Uint8Array }
  | { readonly kind: "error"; readonly error: ReadError };

export interface PageBatch {
  readonly requests: readonly PageRequest[];
  /** Memory that becomes the reply; the connection owns it, takes it when it is first asked for, and has left 8192 bytes for every get-page. */
  readonly slab: Uint8Array;
  /** Offset in `slab` of the page of request i; -1 for other requests. */
  readonly pageOffsets: Int32Array;
}
