// The code that Node.js and the system give their errors.

/** E.g. "ENOENT"; undefined for what has none. */
export const errorCode = (cause: unknown): string | undefined =>
  cause instanceof Error && "code" in cause && typeof cause.code === "string"
    ? cause.code
    : undefined;
