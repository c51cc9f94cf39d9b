// Received WAL of one timeline as ordinary segment files: raw bytes at their place, zeros elsewhere,
// 16 MiB each, so that pg_waldump and restore_command can use them. Bytes are written when they
// come; one fdatasync runs at a time, and what arrives meanwhile is covered by the next (no timer).
//
// File sizes prove nothing. After a restart the caller decodes what read() gives until a record
// fails, and tells settle() where the last whole record ended: what lies behind is zeroed, all is
// synced, and only then is it durable. Nothing may be appended before.

import fs from "node:fs";
import path from "node:path";
import { assert } from "../core/assert.ts";
import { Lsn, WAL_SEGMENT_BYTES } from "../core/lsn.ts";
import type { CrashPoint } from "./crash-points.ts";
import { makeDirectory } from "./data-dir.ts";
import { syncDirectory } from "./layer-writer.ts";
import { StoreFailed, type StoreFull, writeError } from "./store-errors.ts";
import { openForReading, readAt } from "./wal-copy.ts";

const SEGMENTS_PER_ID = 256; // segment number = log id * 256 + segment, in the file name
const READ_BYTES = 1024 * 1024;
const SEGMENT_NAME = /^([0-9A-F]{8})([0-9A-F]{8})([0-9A-F]{8})$/;

export interface WalFilesOptions {
  readonly directory: string;
  /** PostgreSQL's timeline id: part of the names of new files. */
  readonly tli: number;
  /** Where reading and appending begin: the end of what sealed layers hold. */
  readonly start: Lsn;
  /** Everything below is on disk. Called for every fdatasync, never from within append(). */
  readonly onDurable: (durable: Lsn) => void;
  /** A write or fsync failed: what was written is unknown, the process must stop. */
  readonly onFatal: (error: StoreFailed) => void;
  readonly crashPoint?: CrashPoint | undefined;
}

/** "000000010000000000000002". */
export function segmentName(tli: number, segment: number): string {
  const hex = (n: number): string => n.toString(16).toUpperCase().padStart(8, "0");
  return hex(tli) + hex(Math.floor(segment / SEGMENTS_PER_ID)) + hex(segment % SEGMENTS_PER_ID);
}

/** Segment number to file name, of a directory; of several timeline ids the highest counts. */
export function listSegments(directory: string): Map<number, string> {
  const names = new Map<number, string>();
  for (const name of fs.readdirSync(directory).sort()) {
    const match = SEGMENT_NAME.exec(name);
    if (match === null) continue;
    names.set(parseInt(match[2]!, 16) * SEGMENTS_PER_ID + parseInt(match[3]!, 16), name);
  }
  return names;
}

const segmentOf = (lsn: number): number => Math.floor(lsn / WAL_SEGMENT_BYTES);

interface OpenSegment {
  readonly number: number;
  readonly path: string;
  readonly fd: number;
}

export class WalFiles {
  private readonly options: WalFilesOptions;
  // Segment number to file name.
  private readonly names: Map<number, string>;
  private tli: number;
  private receivedLsn: Lsn;
  private durableLsn: Lsn;
  private settled = false;
  private failed: StoreFailed | undefined;
  private current: OpenSegment | undefined;
  // Left behind by the write position, not synced yet.
  private full: OpenSegment[] = [];
  private directoryChanged = false;
  private syncing: Promise<void> | undefined;

  /** Opens the directory, which is made if needed. Throws StoreFull, StoreFailed. */
  constructor(options: WalFilesOptions) {
    this.options = options;
    this.tli = options.tli;
    this.receivedLsn = this.durableLsn = options.start;
    try {
      makeDirectory(options.directory);
      this.names = listSegments(options.directory);
    } catch (cause) {
      throw writeError(options.directory, "opening", cause);
    }
  }

  /** End of what was appended. */
  get received(): Lsn {
    return this.receivedLsn;
  }

  /** End of what is on disk for certain. */
  get durable(): Lsn {
    return this.durableLsn;
  }

  /** Segment numbers that have a file, ascending. */
  get segments(): readonly number[] {
    return [...this.names.keys()].sort((x, y) => x - y);
  }

  /** The file of a segment, if there is one: for restore_command and check. */
  pathOf(segment: number): string | undefined {
    const name = this.names.get(segment);
    return name === undefined ? undefined : path.join(this.options.directory, name);
  }

  /**
   * What the files hold from `start` on, as far as they follow each other: to be decoded until a
   * record fails. Zeros and old bytes may follow the last record. Throws StoreCorrupt on a read error.
   */
  async *read(): AsyncGenerator<{ readonly at: Lsn; readonly bytes: Uint8Array }> {
    let at = this.options.start as number;
    for (;;) {
      const segment = segmentOf(at);
      const file = this.pathOf(segment);
      if (file === undefined) return;
      const handle = await openForReading(file);
      try {
        const base = segment * WAL_SEGMENT_BYTES;
        while (segmentOf(at) === segment) {
          const wanted = Math.min(READ_BYTES, base + WAL_SEGMENT_BYTES - at);
          const bytes = new Uint8Array(wanted);
          const { bytesRead } = await readAt(handle, file, bytes, at - base);
          if (bytesRead > 0) yield { at: at as Lsn, bytes: bytes.subarray(0, bytesRead) };
          at += bytesRead;
          // Shorter than a segment: created, and the crash came before it had its size.
          if (bytesRead < wanted) return;
        }
      } finally {
        await handle.close();
      }
    }
  }

  /** Where the files begin: all from here to `durable` is in them. */
  get from(): Lsn {
    const [first] = this.segments;
    return first === undefined ? this.durableLsn : ((first * WAL_SEGMENT_BYTES) as Lsn);
  }

  /**
   * Ends a restart: `end` is the end of the last whole record in the files. What lies behind is
   * removed, what is left is synced, and appending may go on there.
   */
  async settle(end: Lsn): Promise<void> {
    assert(!this.settled, "settle is called once");
    assert(end >= this.options.start, "WAL files end at or after their start");
    this.cut(end);
    await this.inDirectory(async () => {
      for (const segment of this.segments) {
        if (segment >= segmentOf(this.options.start)) await syncFile(this.pathOf(segment)!);
      }
      await syncDirectory(this.options.directory);
    });
    this.receivedLsn = this.durableLsn = end;
    this.settled = true;
  }

  /**
   * Writes WAL that begins at `at` = received. When it throws StoreFull, nothing of `bytes` counts
   * and the call may be repeated; StoreFailed is also reported to onFatal.
   */
  append(at: Lsn, bytes: Uint8Array): void {
    assert(this.settled, "WAL files are settled before anything is appended");
    assert(
      at === this.receivedLsn,
      `I8: WAL has no gaps: ${at} does not follow ${this.receivedLsn}`,
    );
    if (this.failed !== undefined) throw this.failed;
    let done = 0;
    while (done < bytes.length) {
      const lsn = at + done;
      const { fd, path: file } = this.segmentAt(lsn);
      const offset = lsn % WAL_SEGMENT_BYTES;
      const length = Math.min(bytes.length - done, WAL_SEGMENT_BYTES - offset);
      try {
        done += fs.writeSync(fd, bytes, done, length, offset);
      } catch (cause) {
        throw this.fail(writeError(file, "writing", cause));
      }
    }
    this.receivedLsn = (at + bytes.length) as Lsn;
    this.startSync();
  }

  /**
   * Forgets everything from `lsn` on: streaming begins there again. Synced when the promise is kept;
   * append() must wait for it.
   */
  async rewindTo(lsn: Lsn): Promise<void> {
    assert(this.settled && lsn <= this.receivedLsn, "rewinding goes back within what was appended");
    assert(lsn >= this.options.start, "rewinding stays behind what is sealed");
    if (lsn === this.receivedLsn) return;
    await this.flush();
    this.settled = false;
    this.closeAll();
    this.cut(lsn);
    await this.inDirectory(async () => {
      const last = this.pathOf(segmentOf(lsn));
      if (last !== undefined) await syncFile(last);
      await syncDirectory(this.options.directory);
    });
    this.receivedLsn = this.durableLsn = lsn;
    this.settled = true;
  }

  /**
   * Appending goes on at `lsn`, the start of the next segment: after an XLOG_SWITCH the rest of a
   * segment says nothing, and streaming may begin again behind it. Zeros stand for that rest.
   */
  skipTo(lsn: Lsn): void {
    assert(this.settled, "WAL files are settled before anything is skipped");
    const next = (segmentOf(this.receivedLsn) + 1) * WAL_SEGMENT_BYTES;
    assert(lsn === next, "only the rest of a segment is skipped");
    this.receivedLsn = lsn;
    void this.startSync();
  }

  /** New files belong to another timeline id from here on (the source was promoted). */
  setTli(tli: number): void {
    this.tli = tli;
  }

  /** Removes segments that lie wholly below `lsn`. Returns how many. */
  letGo(lsn: Lsn): number {
    let removed = 0;
    for (const segment of this.segments) {
      if (segment >= segmentOf(Math.min(lsn, this.durableLsn))) break;
      this.options.crashPoint?.("wal-removing");
      fs.rmSync(this.pathOf(segment)!, { force: true });
      this.options.crashPoint?.("wal-removed");
      this.names.delete(segment);
      removed++;
    }
    return removed;
  }

  /** Resolves when all that has been appended is durable. */
  async flush(): Promise<void> {
    while (this.durableLsn < this.receivedLsn && this.failed === undefined) await this.startSync();
    if (this.failed !== undefined) throw this.failed;
  }

  /** What was appended is not flushed first. */
  async close(): Promise<void> {
    this.settled = false;
    await this.syncing;
    this.closeAll();
  }

  private startSync(): Promise<void> {
    return (this.syncing ??= this.sync().finally(() => {
      this.syncing = undefined;
      if (this.failed === undefined && this.settled && this.durableLsn < this.receivedLsn) {
        void this.startSync();
      }
    }));
  }

  private async sync(): Promise<void> {
    const upTo = this.receivedLsn;
    const full = this.full;
    const current = this.current;
    const directory = this.directoryChanged;
    this.full = [];
    this.directoryChanged = false;
    this.options.crashPoint?.("wal-written");
    try {
      for (const segment of full) await dataSync(segment.fd);
      if (current !== undefined) await dataSync(current.fd);
      if (directory) await syncDirectory(this.options.directory);
    } catch (cause) {
      // After a failed fsync the kernel may have dropped the pages: trying again would lie.
      this.fail(new StoreFailed(this.options.directory, "syncing WAL in", cause));
      return;
    }
    for (const segment of full) fs.closeSync(segment.fd);
    this.options.crashPoint?.("wal-synced");
    this.durableLsn = upTo;
    this.options.onDurable(upTo);
  }

  private segmentAt(lsn: number): OpenSegment {
    const number = segmentOf(lsn);
    if (this.current?.number === number) return this.current;
    const known = this.names.get(number);
    const name = known ?? segmentName(this.tli, number);
    const file = path.join(this.options.directory, name);
    let fd = -1;
    try {
      fd = fs.openSync(file, fs.constants.O_RDWR | fs.constants.O_CREAT, 0o600);
      // Sparse: it has its size at once, and no block until bytes come.
      if (known === undefined) fs.ftruncateSync(fd, WAL_SEGMENT_BYTES);
    } catch (cause) {
      if (fd >= 0) fs.closeSync(fd);
      throw this.fail(writeError(file, "creating", cause));
    }
    if (known === undefined) this.directoryChanged = true;
    this.names.set(number, name);
    if (this.current !== undefined) this.full.push(this.current);
    return (this.current = { number, path: file, fd });
  }

  /** Removes files above `end` and zeroes the rest of the one that holds it. */
  private cut(end: Lsn): void {
    try {
      for (const segment of this.segments) {
        const base = segment * WAL_SEGMENT_BYTES;
        const file = this.pathOf(segment)!;
        if (base >= end) {
          fs.rmSync(file);
          this.names.delete(segment);
        } else if (base + WAL_SEGMENT_BYTES > end) {
          fs.truncateSync(file, end - base);
          fs.truncateSync(file, WAL_SEGMENT_BYTES);
        }
      }
    } catch (cause) {
      throw this.fail(writeError(this.options.directory, "cutting WAL in", cause));
    }
  }

  private async inDirectory(action: () => Promise<void>): Promise<void> {
    try {
      await action();
    } catch (cause) {
      throw this.fail(new StoreFailed(this.options.directory, "syncing", cause));
    }
  }

  private fail<E extends StoreFull | StoreFailed>(error: E): E {
    if (error instanceof StoreFailed && this.failed === undefined) {
      this.failed = error;
      this.options.onFatal(error);
    }
    return error;
  }

  private closeAll(): void {
    for (const segment of this.full) fs.closeSync(segment.fd);
    if (this.current !== undefined) fs.closeSync(this.current.fd);
    this.full = [];
    this.current = undefined;
  }
}

const dataSync = (fd: number): Promise<void> =>
  new Promise((resolve, reject) => {
    fs.fdatasync(fd, (error) => (error === null ? resolve() : reject(error)));
  });

async function syncFile(file: string): Promise<void> {
  const handle = await fs.promises.open(file, "r+");
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}
