// basebackup and fullbackup of one compute link: the tar that someone else makes, as COPY OUT. One
// chunk at a time: the next is asked for when the socket took the last, so a slow reader costs no
// memory, and a source may use its buffer again.

import type { BackupSource } from "../core/backup-source.ts";
import { type ReadError, readErrorText } from "../core/errors.ts";
import { LSN_INVALID, Lsn } from "../core/lsn.ts";
import type { Result } from "../core/result.ts";
import { err, ok } from "../core/result.ts";
import type { PageServiceCommand } from "../protocol/page-service-command.ts";
import { copyDataHeader, copyDone, copyOutResponse } from "../protocol/pg-messages.ts";

export interface BackupOptions {
  /** basebackup: replication slots are left out. */
  readonly replica: boolean;
  /** fullbackup: what the client says precedes `lsn`; used only where the source does not know. */
  readonly prevLsn: Lsn | undefined;
}

/** Makes the tar (not compressed). Leaving the iteration early frees what it holds. */
export type ServeBackup = (
  source: BackupSource,
  kind: "basebackup" | "fullbackup",
  options: BackupOptions,
) => AsyncIterable<Uint8Array>;

export type BackupCommand = Extract<PageServiceCommand, { kind: "basebackup" | "fullbackup" }>;

/** Whether this source can serve the command; the error is the text for the client. */
export function checkSource(
  command: BackupCommand,
  source: Result<BackupSource, ReadError>,
): Result<BackupSource, string> {
  if (!source.ok) {
    const text = readErrorText(source.error);
    return err(source.error.kind === "lsn-collected" ? `invalid basebackup lsn: ${text}` : text);
  }
  const known = source.value.prevLsn;
  const given = command.kind === "fullbackup" ? command.prevLsn : undefined;
  if (given !== undefined && known !== LSN_INVALID && given !== known) {
    return err(
      `prev_lsn ${Lsn.format(given)} does not match ${Lsn.format(known)}, ` +
        `where the record before ${Lsn.format(source.value.lsn)} starts`,
    );
  }
  return ok(source.value);
}

/** Sends CopyOutResponse, the chunks and CopyDone. Rejects with the source's error or the link's. */
export async function copyOut(
  chunks: AsyncIterable<Uint8Array>,
  send: (pieces: readonly Uint8Array[]) => Promise<void>,
): Promise<void> {
  await send([copyOutResponse()]);
  for await (const chunk of chunks) {
    if (chunk.length > 0) await send([copyDataHeader(chunk.length), chunk]);
  }
  await send([copyDone()]);
}
