// LMDB on a disk that is full. Its lock file grows sparse and is mapped: without a block for it the
// process dies of SIGBUS. Its bindings crash when a new file's first pages cannot be written. And of a
// write that is cut short it says EIO. So there is a lock file of real bytes before a file is opened,
// and room is made sure of before a new one is made.

import fs from "node:fs";
import path from "node:path";
import { StoreFull, writeError } from "./store-errors.ts";

/** A page of the disk: more than the lock of a few readers takes. */
const LOCK_BYTES = 4_096;
/** What a new file needs at once, with some to spare for whoever else writes meanwhile. */
const FIRST_BYTES = 256 * 1024;

/** Makes sure that LMDB's lock file beside `file` has its block. Nobody may have the file open. Throws StoreFull, StoreFailed. */
export function makeLockFile(file: string): void {
  const lock = `${file}-lock`;
  try {
    const known = fs.statSync(lock, { throwIfNoEntry: false });
    if (known !== undefined && known.blocks > 0) return;
    fs.writeFileSync(lock, Buffer.alloc(LOCK_BYTES), { mode: 0o600 });
  } catch (cause) {
    throw writeError(lock, "making", cause);
  }
}

/** Throws StoreFull when a new file beside `file` could not even begin, StoreFailed when it cannot be made. */
export function requireSpace(file: string): void {
  const probe = `${file}.probe`;
  try {
    fs.writeFileSync(probe, Buffer.alloc(FIRST_BYTES), { mode: 0o600 });
  } catch (cause) {
    throw writeError(file, "creating", cause);
  } finally {
    fs.rmSync(probe, { force: true });
  }
}

/** As writeError, for what LMDB throws: its EIO is a full disk's when the disk is full. */
export function lmdbWriteError(
  file: string,
  doing: string,
  cause: unknown,
): ReturnType<typeof writeError> {
  const isEio = cause instanceof Error && "code" in cause && cause.code === 5;
  return isEio && isFull(file) ? new StoreFull(file, cause) : writeError(file, doing, cause);
}

function isFull(file: string): boolean {
  try {
    const { bavail, bsize } = fs.statfsSync(path.dirname(file));
    return bavail * bsize < FIRST_BYTES;
  } catch {
    return false;
  }
}
