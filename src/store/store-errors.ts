// What can go wrong with a disk, by name. A corrupt file ends the read that met it; a full disk is
// told and tried again; any other failed write or fsync means that nothing can be promised any
// more, and the process has to stop (what a second fsync says after a failed one is worth nothing).

/** A file of ours is missing or does not hold what we wrote. */
export class StoreCorrupt extends Error {
  override readonly name = "StoreCorrupt";
  /** The file, and what in it. */
  readonly what: string;
  readonly reason: string;

  constructor(what: string, reason: string) {
    super(`${what} is corrupt: ${reason}; restore it from backup`);
    this.what = what;
    this.reason = reason;
  }
}

/** A layer's file is not here: evicted, or lost. Where object storage has it, it is fetched. */
export class LayerAbsent extends StoreCorrupt {
  readonly path: string;

  constructor(path: string) {
    super(path, "the file is missing");
    this.path = path;
  }
}

/** The disk or its quota is full. What was being written does not count; the same call may be repeated. */
export class StoreFull extends Error {
  override readonly name = "StoreFull";
  readonly path: string;
  constructor(path: string, cause: unknown) {
    super(`no space left to write ${path}; free disk space, then it goes on by itself`, { cause });
    this.path = path;
  }
}

/** A write or fsync failed for another reason than space: the process must stop and recover from disk. */
export class StoreFailed extends Error {
  override readonly name = "StoreFailed";
  readonly path: string;
  readonly doing: string;
  constructor(path: string, doing: string, cause: unknown) {
    super(`${doing} ${path} failed: ${errorText(cause)}; check the disk, then start again`, {
      cause,
    });
    this.path = path;
    this.doing = doing;
  }
}

/** The data directory was written by another version of this program, or is something else. */
export class StoreFormat extends Error {
  override readonly name = "StoreFormat";
}

// LMDB reports errno values as numbers, node:fs as strings.
const FULL: readonly unknown[] = ["ENOSPC", "EDQUOT", 28, 122];

function errorCode(cause: unknown): unknown {
  return typeof cause === "object" && cause !== null && "code" in cause ? cause.code : undefined;
}

export const errorText = (cause: unknown): string =>
  cause instanceof Error ? cause.message : String(cause);

export const isMissing = (cause: unknown): boolean => errorCode(cause) === "ENOENT";

/** The named error of a failed write: StoreFull when it may be repeated, else StoreFailed. */
export function writeError(path: string, doing: string, cause: unknown): StoreFull | StoreFailed {
  if (cause instanceof StoreFull || cause instanceof StoreFailed) return cause;
  return FULL.includes(errorCode(cause))
    ? new StoreFull(path, cause)
    : new StoreFailed(path, doing, cause);
}

/** A failure as plain values, for another thread: there it is made an error of the same kind again. */
export type PlainFailure =
  | { readonly kind: "full"; readonly path: string; readonly cause: string }
  | {
      readonly kind: "failed";
      readonly path: string;
      readonly doing: string;
      readonly cause: string;
    }
  | { readonly kind: "corrupt"; readonly what: string; readonly reason: string }
  | { readonly kind: "absent"; readonly path: string }
  | { readonly kind: "other"; readonly text: string };

export function plainFailure(error: unknown): PlainFailure {
  if (error instanceof StoreFull) {
    return { kind: "full", path: error.path, cause: errorText(error.cause) };
  }
  if (error instanceof StoreFailed) {
    const { path, doing, cause } = error;
    return { kind: "failed", path, doing, cause: errorText(cause) };
  }
  if (error instanceof LayerAbsent) return { kind: "absent", path: error.path };
  if (error instanceof StoreCorrupt) {
    return { kind: "corrupt", what: error.what, reason: error.reason };
  }
  return {
    kind: "other",
    text: error instanceof Error ? (error.stack ?? error.message) : `${error}`,
  };
}

export function failureOf(plain: PlainFailure): Error {
  switch (plain.kind) {
    case "full":
      return new StoreFull(plain.path, new Error(plain.cause));
    case "failed":
      return new StoreFailed(plain.path, plain.doing, new Error(plain.cause));
    case "corrupt":
      return new StoreCorrupt(plain.what, plain.reason);
    case "absent":
      return new LayerAbsent(plain.path);
    case "other":
      return new Error(plain.text);
  }
}
