// Refusals: what may be asked and not given, and the sentence that says so with the remedy.

import { Lsn } from "./lsn.ts";
import { type RelTag, formatRel } from "./page.ts";

export type ReadError =
  | { readonly kind: "bad-request"; readonly message: string }
  | { readonly kind: "relation-missing"; readonly rel: RelTag; readonly at: Lsn }
  | { readonly kind: "lsn-collected"; readonly asked: Lsn; readonly cutoff: Lsn }
  | {
      readonly kind: "lsn-timeout";
      readonly asked: Lsn;
      readonly last: Lsn;
      readonly waitedMs: number;
    }
  | { readonly kind: "not-readable-yet"; readonly asked: Lsn; readonly readableFrom: Lsn }
  | { readonly kind: "too-many-waiters"; readonly limit: number }
  | {
      readonly kind: "redo-failed";
      readonly page: string;
      readonly at: Lsn;
      readonly reason: string;
    }
  | { readonly kind: "corrupt"; readonly what: string; readonly reason: string }
  /** Its file is not here; where there is a backup it is fetched, and this is answered when it cannot be. */
  | { readonly kind: "layer-absent"; readonly path: string; readonly reason: string }
  | { readonly kind: "timeline-broken"; readonly reason: string }
  | { readonly kind: "timeline-loading"; readonly waitsFor: string | undefined }
  /** The asker is a compute that another one has taken the place of. */
  | { readonly kind: "replaced"; readonly generation: number; readonly current: number }
  /** The asker's data directory is of another cluster than the timeline. */
  | { readonly kind: "other-cluster"; readonly systemId: string; readonly ours: string }
  | { readonly kind: "shutting-down" };

/** The sentence a compute sees (wire-protocol: pagestream error 103). */
export function readErrorText(error: ReadError): string {
  switch (error.kind) {
    case "bad-request":
      return `Bad request: ${error.message}`;
    case "relation-missing":
      return `Read error: relation ${formatRel(error.rel)} does not exist at ${Lsn.format(error.at)}`;
    case "lsn-collected":
      return (
        `Bad request: tried to request a page version that was garbage collected. requested at ` +
        `${Lsn.format(error.asked)} gc cutoff ${Lsn.format(error.cutoff)}`
      );
    case "lsn-timeout":
      return (
        `LSN timeout: waited ${error.waitedMs} ms for ${Lsn.format(error.asked)}, ` +
        `the timeline is at ${Lsn.format(error.last)}; is its WAL source connected?`
      );
    case "not-readable-yet":
      return (
        `Read error: the timeline is readable from ${Lsn.format(error.readableFrom)} on, ` +
        `asked at ${Lsn.format(error.asked)}; wait until the base backup's WAL has been taken in`
      );
    case "too-many-waiters":
      return `Read error: more than ${error.limit} reads wait for WAL on this timeline; retry`;
    case "redo-failed":
      return `Read error: WAL redo of page ${error.page} at ${Lsn.format(error.at)} failed: ${error.reason}`;
    case "corrupt":
      return `Read error: ${error.what} is corrupt: ${error.reason}; restore it from backup`;
    case "layer-absent":
      return `Read error: layer ${error.path} is not here: ${error.reason}; restore it from backup`;
    case "timeline-broken":
      return `Read error: the timeline is broken: ${error.reason}`;
    case "timeline-loading":
      return (
        `Read error: the timeline is being loaded` +
        `${error.waitsFor === undefined ? "" : ` and waits: ${error.waitsFor}`}; retry in a moment`
      );
    case "replaced":
      return (
        `Read error: another compute has taken this one's place on the timeline (it is number ` +
        `${error.generation}, now it is ${error.current}'s turn); stop it, and connect to the new one`
      );
    case "other-cluster":
      return (
        `Bad request: the compute is of another cluster: its system identifier is ` +
        `${error.systemId}, the timeline's is ${error.ours}; start it anew by the page server`
      );
    case "shutting-down":
      return "shutdown";
  }
}
