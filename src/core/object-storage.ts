// Object storage as the program needs it: few verbs, two of them conditional, and errors by what can
// be done about them. Back ends are in io/objects; one conformance suite holds for all of them.
//
// Names are "/"-separated words of [A-Za-z0-9._-]. An object is there as a whole or not at all, and a
// list may be late: nothing that must be right is decided by one.

import { assert } from "./assert.ts";
import type { Brand } from "./brand.ts";

/** What a conditional write compares: one state of one object. Opaque. */
export type ObjectVersion = Brand<string, "ObjectVersion">;

export interface StoredObject {
  readonly bytes: Uint8Array;
  readonly version: ObjectVersion;
}

export interface ListedObject {
  readonly name: string;
  readonly bytes: number;
  /** Unix ms, by the clock of the back end. */
  readonly modifiedMs: number;
}

export interface ListPage {
  /** In order of names. */
  readonly objects: readonly ListedObject[];
  /** There is more behind this name. */
  readonly after: string | undefined;
}

/** Makes the bytes of an object, from the start; the same ones each time. */
export type ByteSource = () => AsyncIterable<Uint8Array>;

/** Every method rejects with an ObjectError, and with nothing else but what a ByteSource throws. */
export interface ObjectStorage {
  /** For people, e.g. "s3://bucket/prefix". */
  readonly place: string;
  /** Writes or replaces. */
  put(name: string, bytes: Uint8Array): Promise<ObjectVersion>;
  /** Writes an object that is not there; rejects with "exists". */
  putIfAbsent(name: string, bytes: Uint8Array): Promise<ObjectVersion>;
  /** Replaces the object if it still is `expected`; rejects with "changed", also when it is gone. */
  compareAndSwap(name: string, bytes: Uint8Array, expected: ObjectVersion): Promise<ObjectVersion>;
  /** Writes or replaces an object of any size. Called again after a failure it goes on where it can. */
  putStream(name: string, source: ByteSource): Promise<void>;
  /** A whole object of at most OBJECT_BYTES_MAX; rejects with "not-found". */
  get(name: string): Promise<StoredObject>;
  /** `length` bytes from `from` on, fewer at the end of the object; rejects with "not-found". */
  getRange(name: string, from: number, length: number): Promise<Uint8Array>;
  /** The bytes from `from` on, in pieces. Ends with "truncated" when the connection did too early. */
  getStream(name: string, from: number): AsyncIterable<Uint8Array>;
  /** Objects whose name begins with `prefix` and sorts behind `after`. */
  list(prefix: string, after?: string): Promise<ListPage>;
  /** Removes what is there; names that are not are no error. */
  deleteMany(names: readonly string[]): Promise<void>;
  close(): Promise<void>;
}

export type ObjectErrorKind =
  /** Outcomes. */
  | "not-found"
  | "exists"
  | "changed"
  /** Worth trying again: the network, a server that is busy or restarts, bytes that did not all come. */
  | "unavailable"
  | "truncated"
  | "clock-skew"
  /** For a person. */
  | "denied"
  | "no-bucket"
  | "unsupported"
  | "foreign"
  /** What is there is not what was written. */
  | "corrupt"
  /** It is encrypted, and the key that opens it was not given; or it is not, and must be. */
  | "no-key"
  | "failed";

export class ObjectError extends Error {
  override readonly name = "ObjectError";
  readonly kind: ObjectErrorKind;

  constructor(kind: ObjectErrorKind, message: string, cause?: unknown) {
    super(message, { cause });
    this.kind = kind;
  }
}

/** True when the same call may succeed later without anybody's doing. */
export const mayPass = (error: unknown): boolean =>
  error instanceof ObjectError &&
  (error.kind === "unavailable" || error.kind === "truncated" || error.kind === "clock-skew");

export const isObjectError = (error: unknown, kind: ObjectErrorKind): error is ObjectError =>
  error instanceof ObjectError && error.kind === kind;

const NAME = /^[A-Za-z0-9._-]+(\/[A-Za-z0-9._-]+)*$/;

/** Asserts that a name is one; "." and ".." are none. */
export function checkObjectName(name: string): void {
  const words = name.split("/");
  assert(
    NAME.test(name) && !words.includes(".") && !words.includes(".."),
    `an object's name: "${name}"`,
  );
}

/** Reads all pages of a list. */
export async function* listAll(
  storage: Pick<ObjectStorage, "list">,
  prefix: string,
): AsyncGenerator<ListedObject> {
  let after: string | undefined;
  do {
    const page = await storage.list(prefix, after);
    yield* page.objects;
    ({ after } = page);
  } while (after !== undefined);
}
