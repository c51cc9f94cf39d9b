// What a back end must be able to do before anything is trusted to it: asked of it once at the start,
// because some servers answer conditional writes with success and do not look at the condition.

import {
  ObjectError,
  type ObjectErrorKind,
  type ObjectStorage,
  isObjectError,
} from "../object-storage.ts";

/** Says that everything below belongs to this program. */
export const MARKER_NAME = "pageserver.json";
const MARKER_FORMAT = 1;

const bytesOf = (text: string): Uint8Array => new TextEncoder().encode(text);
const same = (a: Uint8Array, b: Uint8Array): boolean =>
  a.length === b.length && a.every((byte, i) => byte === b[i]);

/**
 * Tries writes, conditional writes, reads and deletes on an object of its own. Throws ObjectError:
 * "unsupported" when the back end does not do what it was asked.
 */
export async function probeStorage(storage: ObjectStorage, nonce: string): Promise<void> {
  const name = `probe/${nonce}`;
  const [first, second, third] = ["first", "second", "third"].map((t) => bytesOf(`${t} ${nonce}`));
  try {
    const made = await storage.putIfAbsent(name, first!);
    await mustRefuse(storage, "exists", () => storage.putIfAbsent(name, second!));
    const swapped = await storage.compareAndSwap(name, second!, made).catch((error: unknown) => {
      if (!isObjectError(error, "changed")) throw error;
      const hint =
        "it refuses a write whose condition holds; try the other value of backup_etag_quotes";
      throw unsupported(storage, hint);
    });
    await mustRefuse(storage, "changed", () => storage.compareAndSwap(name, third!, made));
    const found = await storage.get(name);
    if (!same(found.bytes, second!) || found.version !== swapped) {
      throw unsupported(storage, "what was written is not what is read");
    }
  } finally {
    await storage.deleteMany([name]).catch(() => undefined);
  }
}

/**
 * Now, by the clock of the back end, Unix ms: when it says that an object of ours was written. Throws
 * ObjectError.
 */
export async function storageNowMs(storage: ObjectStorage, nonce: string): Promise<number> {
  const name = `probe/${nonce}`;
  try {
    await storage.put(name, bytesOf(nonce));
    const { objects } = await storage.list(name);
    const found = objects.find((one) => one.name === name);
    if (found !== undefined) return found.modifiedMs;
  } finally {
    await storage.deleteMany([name]).catch(() => undefined);
  }
  throw new ObjectError(
    "unavailable",
    `${storage.place} does not list what was just written; retry`,
  );
}

/**
 * Makes sure that the place is this program's: an empty one is marked, one with a mark is known.
 * Throws ObjectError, "foreign" when something else is there.
 */
export async function claimPlace(storage: ObjectStorage): Promise<void> {
  const mark = bytesOf(`${JSON.stringify({ what: "pageserver backup", format: MARKER_FORMAT })}\n`);
  for (;;) {
    try {
      return checkMarker(storage, (await storage.get(MARKER_NAME)).bytes);
    } catch (error) {
      if (!isObjectError(error, "not-found")) throw error;
    }
    const { objects } = await storage.list("");
    const other = objects.find(({ name }) => name !== MARKER_NAME && !name.startsWith("probe/"));
    if (other !== undefined) {
      throw foreign(storage, `holds "${other.name}", which is not ours`);
    }
    try {
      await storage.putIfAbsent(MARKER_NAME, mark);
      return;
    } catch (error) {
      if (!isObjectError(error, "exists")) throw error; // another server was quicker: look again
    }
  }
}

function checkMarker(storage: ObjectStorage, bytes: Uint8Array): void {
  let marker: unknown;
  try {
    marker = JSON.parse(new TextDecoder().decode(bytes));
  } catch {
    throw foreign(storage, `has a ${MARKER_NAME} that is not ours`);
  }
  if (typeof marker !== "object" || marker === null || !("format" in marker)) {
    throw foreign(storage, `has a ${MARKER_NAME} that is not ours`);
  }
  if (marker.format === MARKER_FORMAT) return;
  throw new ObjectError(
    "unsupported",
    `${storage.place} was written by another version of pageserver (format ` +
      `${String(marker.format)}, this program writes ${MARKER_FORMAT}); use that version`,
  );
}

async function mustRefuse(
  storage: ObjectStorage,
  kind: ObjectErrorKind,
  write: () => Promise<unknown>,
): Promise<void> {
  try {
    await write();
  } catch (error) {
    if (isObjectError(error, kind)) return;
    throw error;
  }
  throw unsupported(
    storage,
    "it answered a conditional write with success though it had to refuse",
  );
}

const unsupported = (storage: ObjectStorage, what: string): ObjectError =>
  new ObjectError(
    "unsupported",
    `${storage.place} cannot keep backups safely: ${what}. It must have conditional writes ` +
      `(If-None-Match and If-Match on PutObject)`,
  );

const foreign = (storage: ObjectStorage, what: string): ObjectError =>
  new ObjectError(
    "foreign",
    `${storage.place} ${what}; give the backup a bucket or a prefix of its own`,
  );
