// Reads pieces of WAL segment files, off the event loop.

import fs from "node:fs";
import { assert } from "../core/assert.ts";
import { type Lsn, WAL_SEGMENT_BYTES } from "../core/lsn.ts";
import { StoreCorrupt, errorText } from "./store-errors.ts";

/**
 * Bytes of one segment, `from` to `to`. `pathOf`: the file of a segment. Throws StoreCorrupt when they
 * are not there.
 */
export async function copyWal(
  pathOf: (segment: number) => string | undefined,
  from: Lsn,
  to: Lsn,
): Promise<Uint8Array> {
  const segment = Math.floor(from / WAL_SEGMENT_BYTES);
  const base = segment * WAL_SEGMENT_BYTES;
  assert(to > from && to <= base + WAL_SEGMENT_BYTES, "a copy lies within one segment");
  const file = pathOf(segment);
  if (file === undefined) throw new StoreCorrupt(`WAL segment ${segment}`, "its file is missing");
  const handle = await openForReading(file);
  try {
    const bytes = new Uint8Array(to - from);
    const { bytesRead } = await readAt(handle, file, bytes, from - base);
    if (bytesRead < bytes.length) throw new StoreCorrupt(file, "it is cut short");
    return bytes;
  } finally {
    await handle.close();
  }
}

export async function openForReading(file: string): Promise<fs.promises.FileHandle> {
  try {
    return await fs.promises.open(file, "r");
  } catch (cause) {
    throw new StoreCorrupt(file, errorText(cause));
  }
}

export async function readAt(
  handle: fs.promises.FileHandle,
  file: string,
  bytes: Uint8Array,
  position: number,
): Promise<{ bytesRead: number }> {
  try {
    return await handle.read(bytes, 0, bytes.length, position);
  } catch (cause) {
    throw new StoreCorrupt(file, errorText(cause));
  }
}
