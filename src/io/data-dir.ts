// A data directory on disk as a stream of its members. For a directory whose server is shut down;
// nothing is locked.

import fs from "node:fs/promises";
import path from "node:path";

import { DATA_DIR_READ_BYTES } from "../core/limits.ts";
import { type Lsn, WAL_SEGMENT_BYTES } from "../core/lsn.ts";
import { walFileName } from "../protocol/data-dir-names.ts";
import type { DataDirEntry } from "../protocol/import-data-dir.ts";

/** Directories that hold nothing an import wants, by path; not walked. */
const SKIPPED_DIRS = new Set(["pg_wal", "pg_stat_tmp", "pg_subtrans", "pg_replslot"]);

/**
 * All members below `dir`, in no particular order. A body is opened when it is read; its chunks are
 * views of one buffer that the next chunk overwrites.
 */
export async function* walkDataDir(dir: string): AsyncGenerator<DataDirEntry, void, undefined> {
  const buffer = new Uint8Array(DATA_DIR_READ_BYTES);
  const pending = [""];
  for (let sub = pending.pop(); sub !== undefined; sub = pending.pop()) {
    for (const entry of await fs.readdir(path.join(dir, sub), { withFileTypes: true })) {
      const name = sub === "" ? entry.name : `${sub}/${entry.name}`;
      const full = path.join(dir, name);
      if (entry.isDirectory()) {
        yield { path: name, kind: "directory", size: 0, body: nothing() };
        if (!SKIPPED_DIRS.has(name)) pending.push(name);
      } else if (entry.isSymbolicLink()) {
        yield { path: name, kind: "symlink", size: 0, body: nothing() };
      } else if (entry.isFile()) {
        const { size } = await fs.stat(full);
        yield { path: name, kind: "file", size, body: fileChunks(full, size, buffer) };
      }
    }
  }
}

async function* nothing(): AsyncGenerator<Uint8Array, void, undefined> {}

async function* fileChunks(
  file: string,
  size: number,
  buffer: Uint8Array,
): AsyncGenerator<Uint8Array, void, undefined> {
  const handle = await fs.open(file, "r");
  try {
    for (let left = size; left > 0;) {
      const { bytesRead } = await handle.read(buffer, 0, Math.min(buffer.length, left));
      if (bytesRead === 0) throw new Error(`${file}: became shorter while it was read`);
      left -= bytesRead;
      yield buffer.subarray(0, bytesRead);
    }
  } finally {
    await handle.close();
  }
}

/** pg_control of a data directory: 8192 bytes. */
export function readControl(dir: string): Promise<Uint8Array> {
  return fs.readFile(path.join(dir, "global/pg_control"));
}

/** The WAL bytes [from, to) of a data directory's pg_wal. */
export async function readWal(dir: string, tli: number, from: Lsn, to: Lsn): Promise<Uint8Array> {
  const bytes = new Uint8Array(to - from);
  for (let at: number = from; at < to;) {
    const segmentStart = at - (at % WAL_SEGMENT_BYTES);
    const end = Math.min(to, segmentStart + WAL_SEGMENT_BYTES);
    const file = path.join(dir, "pg_wal", walFileName(tli, at as Lsn));
    const handle = await fs.open(file, "r");
    try {
      const { bytesRead } = await handle.read(bytes, at - from, end - at, at - segmentStart);
      if (bytesRead !== end - at) throw new Error(`${file}: WAL ends early`);
    } finally {
      await handle.close();
    }
    at = end;
  }
  return bytes;
}
