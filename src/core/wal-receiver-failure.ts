// How a stream of WAL may end, and what follows from it: try again, or stop with a remedy because
// trying again can never help.

import { Lsn } from "./lsn.ts";

/** Why a connection to a WAL source ended. */
export type StreamEnd =
  /** An orderly end: the server shuts down, or a safekeeper ends an idle stream. */
  | { readonly kind: "finished"; readonly message: string }
  /** The server went over to another PostgreSQL timeline at `at`. */
  | { readonly kind: "timeline-switch"; readonly nextTli: number; readonly at: Lsn }
  /** `code` is the SQLSTATE. */
  | { readonly kind: "server-error"; readonly code: string; readonly message: string }
  | { readonly kind: "malformed"; readonly message: string }
  | { readonly kind: "lost"; readonly message: string };

export interface Failure {
  readonly reason: string;
  /** False: only an operator can help. */
  readonly retry: boolean;
}

/** SQLSTATEs after which trying again cannot help (errcodes.txt). */
const UNDEFINED_FILE = "58P01";
const FEATURE_NOT_SUPPORTED = "0A000";
const NOT_IN_PREREQUISITE_STATE = "55000";

/** `from`: where streaming was to begin, if it is known. */
export function failureOf(end: StreamEnd, from?: Lsn): Failure {
  switch (end.kind) {
    case "finished":
    case "lost":
      return { reason: end.message, retry: true };
    case "malformed":
      return { reason: `the server broke the replication protocol: ${end.message}`, retry: true };
    case "timeline-switch":
      return {
        reason:
          `the server went over to PostgreSQL timeline ${end.nextTli} at ${Lsn.format(end.at)} ` +
          "(a promotion or a point-in-time recovery); follow it anew with a base backup",
        retry: false,
      };
    case "server-error":
      return serverFailure(end.code, end.message, from);
  }
}

function serverFailure(code: string, message: string, from: Lsn | undefined): Failure {
  const reason = `the server says: ${message} (SQLSTATE ${code})`;
  switch (code) {
    case UNDEFINED_FILE:
      return {
        reason:
          `${reason}; there is a gap: the server has no more the WAL from ` +
          `${from === undefined ? "where this timeline ends" : Lsn.format(from)} on, so this timeline ends ` +
          "there and stays readable: follow the server anew under another name, with a slot that is " +
          "kept and a larger max_slot_wal_keep_size",
        retry: false,
      };
    case FEATURE_NOT_SUPPORTED:
    case NOT_IN_PREREQUISITE_STATE:
      return { reason: `${reason}; name another slot, or drop this one`, retry: false };
    default:
      return { reason, retry: true };
  }
}
