// How full the file system is where something lies.

import { statfsSync } from "node:fs";
import type { DiskUsage } from "../core/backup/evict.ts";

/** As df counts it: what root alone may use is in neither figure. */
export function diskUsage(path: string): DiskUsage {
  const { blocks, bfree, bavail, bsize } = statfsSync(path);
  const usedBytes = (blocks - bfree) * bsize;
  return { usedBytes, totalBytes: usedBytes + bavail * bsize };
}
