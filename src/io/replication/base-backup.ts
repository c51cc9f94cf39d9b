// BASE_BACKUP over a replication connection: positions, then the data directory as files un-tarred
// from the stream while it comes, then the end position. What its consumer does not take is not
// read from the socket. WAL is not part of it: it is streamed separately, from the start position.

import { type Header, extract } from "tar-stream";
import { MalformedInput } from "../../core/assert.ts";
import { BASE_BACKUP_SILENCE_MS_MAX } from "../../core/limits.ts";
import type { Lsn } from "../../core/lsn.ts";
import {
  type BaseBackupOptions,
  baseBackupSql,
  buildQuery,
  parseBackupMessage,
  parseDataRow,
  parseLsnTli,
  parseServerError,
} from "../../protocol/replication.ts";
import type { DataDirEntry } from "../../protocol/import-data-dir.ts";
import type { Row } from "./commands.ts";
import type { PgWire, WireMessage } from "./wire.ts";

export interface BackupProgress {
  readonly doneBytes: number;
  /** The server's estimate from the beginning; the database may have grown since. */
  readonly totalBytes: number;
}

export interface BaseBackup {
  /** Where WAL must be replayed from. */
  readonly startLsn: Lsn;
  readonly tli: number;
  readonly totalBytes: number;
  /**
   * Call once, and take the files in order, of each all its body or none. Throws ServerError,
   * ConnectionLost or MalformedInput.
   */
  files(onProgress: (progress: BackupProgress) => void): AsyncGenerator<DataDirEntry, void, void>;
  /** After the last file: the backup is consistent once WAL up to here has been replayed. */
  end(): Promise<{ readonly endLsn: Lsn; readonly tli: number }>;
}

/** A database that cannot be followed as it is; the message says what must change. */
export class UnsupportedDatabase extends Error {
  override readonly name = "UnsupportedDatabase";
}

const KIB = 1024;
const ABANDONED = "the base backup was abandoned by its consumer";

/**
 * Asks for a base backup and reads up to the first file. Throws UnsupportedDatabase if there are
 * tablespaces of users; close the connection then.
 */
export async function startBaseBackup(
  wire: PgWire,
  options: BaseBackupOptions,
): Promise<BaseBackup> {
  wire.send(buildQuery(baseBackupSql(options)));
  const { lsn, tli } = parseLsnTli((await resultSet(wire))[0]);
  const tablespaces = await resultSet(wire);
  const foreign = tablespaces.filter(([oid]) => oid !== null).map((row) => row[1] ?? "?");
  if (foreign.length > 0) {
    throw new UnsupportedDatabase(
      `the server has ${foreign.length} tablespace(s) outside its data directory ` +
        `(${foreign.join(", ")}), which are not supported yet; move their tables to pg_default ` +
        "and drop them, then try again",
    );
  }
  const totalBytes = tablespaces.reduce((sum, row) => sum + Number(row[2] ?? 0), 0) * KIB;
  await expect(wire, 0x48, "CopyOutResponse");
  return {
    startLsn: lsn,
    tli,
    totalBytes,
    files: (onProgress) => files(wire, totalBytes, onProgress),
    end: async () => {
      const end = parseLsnTli((await resultSet(wire))[0]);
      await expect(wire, 0x5a, "ReadyForQuery");
      return { endLsn: end.lsn, tli: end.tli };
    },
  };
}

async function* files(
  wire: PgWire,
  totalBytes: number,
  onProgress: (progress: BackupProgress) => void,
): AsyncGenerator<DataDirEntry, void, void> {
  const tar = extract();
  const fed = feed(wire, tar, (doneBytes) =>
    onProgress({ doneBytes, totalBytes: Math.max(totalBytes, doneBytes) }),
  );
  fed.catch((cause: unknown) => {
    tar.destroy(cause instanceof Error ? cause : new Error(String(cause)));
  });
  try {
    for await (const entry of tar) {
      yield toFile(entry.header, entry);
      entry.resume(); // whatever was not taken
    }
  } finally {
    tar.destroy();
  }
  await fed;
}

function toFile({ name, type, size }: Header, entry: object): DataDirEntry {
  return {
    path: name.replace(/^\.\//, "").replace(/\/$/, ""),
    kind: type === "directory" || type === "symlink" ? type : "file",
    size,
    // A streamx stream is iterable; its types do not say so.
    body: entry as AsyncIterable<Uint8Array>,
  };
}

/**
 * Writes the archive to `tar` no faster than it is taken. Ends after CopyDone; rejects with the
 * reason if it does not come.
 */
async function feed(
  wire: PgWire,
  tar: ReturnType<typeof extract>,
  onDone: (doneBytes: number) => void,
): Promise<void> {
  for (;;) {
    const message = await next(wire);
    if (message.type === 0x63) break; // CopyDone
    if (message.type !== 0x64) throw unexpected(message, "CopyData");
    const part = parseBackupMessage(message.body);
    if (part.kind === "archive" && part.location !== "") {
      throw new MalformedInput(`base backup: archive ${part.name} of a tablespace nobody named`);
    }
    if (part.kind === "progress") onDone(part.doneBytes);
    if (part.kind === "data" && !tar.write(part.bytes)) await drained(tar);
  }
  tar.end(undefined);
}

function drained(tar: ReturnType<typeof extract>): Promise<void> {
  return new Promise((resolve, reject) => {
    if (tar.destroyed) return reject(new Error(ABANDONED));
    const settle = (cause?: Error): void => {
      tar.off("drain", onDrain);
      tar.off("close", onClose);
      if (cause === undefined) resolve();
      else reject(cause);
    };
    const onDrain = (): void => settle();
    const onClose = (): void => settle(new Error(ABANDONED));
    tar.on("drain", onDrain);
    tar.on("close", onClose);
  });
}

/** Rows up to CommandComplete. */
async function resultSet(wire: PgWire): Promise<readonly Row[]> {
  const rows: Row[] = [];
  for (;;) {
    const message = await next(wire);
    if (message.type === 0x43) return rows;
    if (message.type === 0x44) rows.push(parseDataRow(message.body));
    else if (message.type !== 0x54) throw unexpected(message, "rows");
  }
}

async function expect(wire: PgWire, type: number, name: string): Promise<void> {
  for (;;) {
    const message = await next(wire);
    if (message.type === type) return;
    // BASE_BACKUP's own CommandComplete follows that of its last result set.
    if (message.type !== 0x43) throw unexpected(message, name);
  }
}

/** The next message that is not a notice or a parameter change. Throws ServerError. */
async function next(wire: PgWire): Promise<WireMessage> {
  for (;;) {
    const message = await wire.next(BASE_BACKUP_SILENCE_MS_MAX);
    if (message.type === 0x45) throw parseServerError(message.body);
    if (message.type !== 0x4e && message.type !== 0x53) return message;
  }
}

const unexpected = (message: WireMessage, wanted: string): MalformedInput =>
  new MalformedInput(`base backup: expected ${wanted}, got message 0x${message.type.toString(16)}`);
