// At which LSN a page-service request is read, and whether it must wait: the rules of
// wire-protocol.md, "LSN semantics". Only not_modified_since is ever waited for.

import type { ReadError } from "./errors.ts";
import { LSN_MAX, Lsn } from "./lsn.ts";

/** What a timeline can answer now. */
export interface Readable {
  /** End of the last record taken in. */
  readonly last: Lsn;
  /** Lowest LSN whose pages are complete: end of the base backup, or the retention cutoff. */
  readonly cutoff: Lsn;
  /** LSNs below the cutoff that are kept: leases. */
  readonly pinned?: readonly Lsn[];
  /** A base backup is being completed: nothing is consistent below this LSN. */
  readonly readableFrom: Lsn;
}

export type ReadPlan =
  | { readonly kind: "read"; readonly at: Lsn }
  | { readonly kind: "wait"; readonly until: Lsn }
  | { readonly kind: "refused"; readonly error: ReadError };

/** Decides for one request. */
export function planRead(
  request: { readonly lsn: Lsn; readonly notModifiedSince: Lsn },
  timeline: Readable,
): ReadPlan {
  const { lsn, notModifiedSince } = request;
  if (lsn === 0) {
    return refused({ kind: "bad-request", message: "invalid LSN(0) in request" });
  }
  if (lsn < notModifiedSince) {
    const message =
      `invalid request with request LSN ${Lsn.format(lsn)} ` +
      `and not_modified_since ${Lsn.format(notModifiedSince)}`;
    return refused({ kind: "bad-request", message });
  }
  if (lsn < timeline.cutoff && timeline.pinned?.includes(lsn) !== true) {
    return refused({ kind: "lsn-collected", asked: lsn, cutoff: timeline.cutoff });
  }
  if (notModifiedSince === LSN_MAX) {
    return refused({ kind: "bad-request", message: "not_modified_since must be a real LSN" });
  }
  // At a page's end the next record starts behind its header: both positions are the same moment.
  if (notModifiedSince > timeline.last && notModifiedSince > Lsn.normalize(timeline.last)) {
    return { kind: "wait", until: notModifiedSince };
  }
  // Until the backup's last record is in, pages are of different moments: a read waits for it.
  if (timeline.last < timeline.readableFrom) return { kind: "wait", until: timeline.readableFrom };
  const at = Math.min(timeline.last, lsn) as Lsn;
  if (at < timeline.readableFrom) {
    const { readableFrom } = timeline;
    return refused({ kind: "not-readable-yet", asked: at, readableFrom });
  }
  return { kind: "read", at };
}

const refused = (error: ReadError): ReadPlan => ({ kind: "refused", error });
