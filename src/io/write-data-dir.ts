// Members of a tar archive to files of a data directory. A data directory is some thousand small
// files: several are written at a time. Nothing is synced: what comes out of a backup can be made
// again.

import fs from "node:fs/promises";
import path from "node:path";

import {
  BACKUP_CHUNK_BYTES,
  DATA_DIR_SMALL_FILE_BYTES,
  DATA_DIR_WRITES_MAX,
} from "../core/limits.ts";
import type { TarEntry } from "../protocol/backup/tar.ts";
import { type Account, PostgresProblem } from "./postgres.ts";

/**
 * Writes members below `dir`, which must exist and be empty; directories get mode 0700, files 0600,
 * all belong to `account`. `progress` hears how many bytes of files have come in so far.
 */
export async function writeDataDir(
  entries: AsyncIterable<TarEntry>,
  dir: string,
  account: Account,
  progress: (bytes: number) => void = () => {},
): Promise<void> {
  const made = new Set([".", ""]);
  const makeDir = async (name: string): Promise<void> => {
    if (made.has(name)) return;
    await makeDir(path.posix.dirname(name));
    await fs.mkdir(path.join(dir, name), { mode: 0o700 });
    await give(path.join(dir, name), account);
    made.add(name);
  };
  const writes = new Writes();
  let bytes = 0;
  const chunks = async function* (entry: TarEntry): AsyncGenerator<Uint8Array, void, undefined> {
    for await (const chunk of entry.body) {
      yield chunk;
      bytes += chunk.length;
      progress(bytes);
    }
  };
  try {
    for await (const entry of entries) {
      if (entry.kind === "symlink") {
        throw new PostgresProblem(`${entry.path}: a backup with symbolic links is not supported`);
      }
      await makeDir(entry.kind === "directory" ? entry.path : path.posix.dirname(entry.path));
      if (entry.kind === "directory") continue;
      const file = path.join(dir, entry.path);
      if (entry.size > DATA_DIR_SMALL_FILE_BYTES) {
        await writeLarge(file, entry.path.startsWith("pg_wal/"), chunks(entry), account);
      } else {
        const content = await gather(chunks(entry), entry.size);
        await writes.add(() => writeSmallFile(file, content, account));
      }
    }
  } finally {
    await writes.settle();
  }
  writes.check();
}

/** Writes that are under way, bounded; the first failure is kept. */
class Writes {
  private readonly running = new Set<Promise<void>>();
  private failures: unknown[] = [];

  /** Starts a write, after waiting for room. Throws what an earlier one failed with. */
  async add(write: () => Promise<void>): Promise<void> {
    while (this.running.size >= DATA_DIR_WRITES_MAX) await Promise.race(this.running);
    this.check();
    const running: Promise<void> = write()
      .catch((error: unknown) => void this.failures.push(error))
      .finally(() => this.running.delete(running));
    this.running.add(running);
  }

  /** Waits for all of them; never throws. */
  async settle(): Promise<void> {
    await Promise.all(this.running);
  }

  check(): void {
    if (this.failures.length > 0) throw this.failures[0];
  }
}

async function give(file: string, account: Account): Promise<void> {
  if (account.uid !== undefined) await fs.chown(file, account.uid, account.gid);
}

async function gather(chunks: AsyncIterable<Uint8Array>, size: number): Promise<Uint8Array> {
  const content = new Uint8Array(size);
  let at = 0;
  for await (const chunk of chunks) {
    content.set(chunk, at);
    at += chunk.length;
  }
  return content;
}

/** A new file that belongs to `account`. */
export async function writeSmallFile(
  file: string,
  content: Uint8Array,
  account: Account,
): Promise<void> {
  await fs.writeFile(file, content, { mode: 0o600, flag: "wx" });
  await give(file, account);
}

const ZEROS = Buffer.alloc(BACKUP_CHUNK_BYTES);

/** `sparse`: chunks of zeros become holes. A generated WAL segment is 16 MiB of zeros but for one record. */
async function writeLarge(
  file: string,
  sparse: boolean,
  chunks: AsyncIterable<Uint8Array>,
  account: Account,
): Promise<void> {
  const handle = await fs.open(file, "wx", 0o600);
  try {
    if (account.uid !== undefined) await handle.chown(account.uid, account.gid);
    let at = 0;
    for await (const chunk of chunks) {
      for (let done = sparse && isZero(chunk) ? chunk.length : 0; done < chunk.length;) {
        done += (await handle.write(chunk, done, chunk.length - done, at + done)).bytesWritten;
      }
      at += chunk.length;
    }
    if (sparse) await handle.truncate(at);
  } finally {
    await handle.close();
  }
}

const isZero = (chunk: Uint8Array): boolean =>
  chunk.length <= ZEROS.length && ZEROS.compare(chunk, 0, chunk.length, 0, chunk.length) === 0;
