// A data directory on disk as a stream of its members, and the other way round. Reading is for a
// directory whose server is shut down; nothing is locked.

import fs from "node:fs/promises";
import path from "node:path";

import { BACKUP_CHUNK_BYTES, DATA_DIR_READ_BYTES } from "../core/limits.ts";
import { type Lsn, WAL_SEGMENT_BYTES } from "../core/lsn.ts";
import type { TarEntry } from "../protocol/backup/tar.ts";
import { walFileName } from "../protocol/data-dir-names.ts";
import type { DataDirEntry } from "../protocol/import-data-dir.ts";
import { type Account, PostgresProblem } from "./postgres.ts";

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

/**
 * Writes members below `dir`, which must exist and be empty; directories 0700, files 0600, all of
 * `account`. Not synced: what is written this way can be made again. `progress` hears bytes so far.
 */
export async function writeDataDir(
  entries: AsyncIterable<TarEntry>,
  dir: string,
  account: Account,
  progress?: (bytes: number) => void,
): Promise<void> {
  const made = new Set([".", ""]);
  const makeDir = async (name: string): Promise<void> => {
    if (made.has(name)) return;
    await makeDir(path.posix.dirname(name));
    const full = path.join(dir, name);
    await fs.mkdir(full, { recursive: true, mode: 0o700 });
    if (account.uid !== undefined) await fs.chown(full, account.uid, account.gid);
    made.add(name);
  };
  let bytes = 0;
  for await (const entry of entries) {
    if (entry.kind === "symlink") {
      throw new PostgresProblem(`${entry.path}: a backup with symbolic links is not supported`);
    }
    if (entry.kind === "directory") {
      await makeDir(entry.path);
      continue;
    }
    await makeDir(path.posix.dirname(entry.path));
    await writeFile(entry, path.join(dir, entry.path), account, (length) => {
      bytes += length;
      progress?.(bytes);
    });
  }
}

const ZEROS = Buffer.alloc(BACKUP_CHUNK_BYTES);

async function writeFile(
  entry: TarEntry,
  file: string,
  account: Account,
  wrote: (bytes: number) => void,
): Promise<void> {
  // A generated WAL segment is 16 MiB of zeros but for one record: leave holes there.
  const sparse = entry.path.startsWith("pg_wal/");
  const handle = await fs.open(file, "wx", 0o600);
  try {
    if (account.uid !== undefined) await handle.chown(account.uid, account.gid);
    let at = 0;
    for await (const chunk of entry.body) {
      const skip =
        sparse &&
        chunk.length <= ZEROS.length &&
        ZEROS.compare(chunk, 0, chunk.length, 0, chunk.length) === 0;
      for (let done = 0; done < chunk.length && !skip;) {
        done += (await handle.write(chunk, done, chunk.length - done, at + done)).bytesWritten;
      }
      at += chunk.length;
      wrote(chunk.length);
    }
    if (sparse) await handle.truncate(at);
  } finally {
    await handle.close();
  }
}
