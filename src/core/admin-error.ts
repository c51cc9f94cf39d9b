// Refusals of the management interface: what a person or a program asked for and cannot have.
// The sentence says what is wrong and what to do; the kind decides the HTTP status (http/errors.ts).

export type AdminError =
  /** The request itself is wrong. */
  | { readonly kind: "bad-request"; readonly message: string }
  /** `what` names the thing: `timeline "staging"`. */
  | { readonly kind: "not-found"; readonly what: string; readonly remedy?: string }
  /** The name, id, port or directory is taken, or such a job is already running. */
  | { readonly kind: "conflict"; readonly message: string }
  /** The branch point cannot be used: above the last record, or older than what is kept. */
  | { readonly kind: "bad-ancestor"; readonly message: string }
  /** Something else has to be done first: delete the children, wait for the base backup. */
  | { readonly kind: "precondition"; readonly message: string }
  /** Not now: loading, stopping, broken, or a deadline passed. */
  | { readonly kind: "unavailable"; readonly message: string }
  /** A program or disk failed us. */
  | { readonly kind: "internal"; readonly message: string };

/** The sentence that a person sees. */
export function adminErrorText(error: AdminError): string {
  if (error.kind !== "not-found") return error.message;
  return `${error.what} does not exist${error.remedy === undefined ? "" : `; ${error.remedy}`}`;
}
