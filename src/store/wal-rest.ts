// Whether WAL files have anything behind what sealed layers hold: asked of a timeline that nobody uses, so
// that it need not be loaded to know where it ends.

import fs from "node:fs";
import path from "node:path";
import { type Lsn, WAL_SEGMENT_BYTES } from "../core/lsn.ts";
import { DurableFloor } from "./durable-floor.ts";
import { isMissing } from "./store-errors.ts";
import { listSegments } from "./wal-files.ts";

/** A record's length and a page header's magic number are in the first of these; neither is 0. */
const FIRST_BYTES = 8;

/**
 * True when it is certain that no record behind `sealed` was ever received, without looking at more than its
 * first bytes. False: load it, and see.
 */
export function nothingBehind(directory: string, sealed: Lsn): boolean {
  try {
    const segments = listSegments(directory);
    if (new DurableFloor(directory).lsn > sealed) return false;
    const segment = Math.floor(sealed / WAL_SEGMENT_BYTES);
    for (const number of segments.keys()) if (number > segment) return false;
    const name = segments.get(segment);
    if (name === undefined) return true;
    return isZero(path.join(directory, name), sealed % WAL_SEGMENT_BYTES);
  } catch (cause) {
    return isMissing(cause);
  }
}

function isZero(file: string, offset: number): boolean {
  const bytes = Buffer.alloc(FIRST_BYTES);
  const fd = fs.openSync(file, "r");
  try {
    fs.readSync(fd, bytes, 0, FIRST_BYTES, offset);
  } finally {
    fs.closeSync(fd);
  }
  return bytes.every((byte) => byte === 0);
}
