// PostgreSQL's streaming replication protocol, client side (protocol.sgml "Streaming Replication
// Protocol", walsender.c): commands as text, answers and CopyData payloads as values. No socket.
// Neon's 'z' feedback is deliberately not built: a stock walsender dies of it.

import { MalformedInput } from "../core/assert.ts";
import { Lsn } from "../core/lsn.ts";
import { ByteReader, ByteWriter } from "./bytes.ts";

/** An ErrorResponse. `code` is the SQLSTATE. */
export class ServerError extends Error {
  override readonly name = "ServerError";
  readonly severity: string;
  readonly code: string;
  readonly detail: string | undefined;

  constructor(severity: string, code: string, message: string, detail?: string) {
    super(message);
    this.severity = severity;
    this.code = code;
    this.detail = detail;
  }
}

/** Parses the body of an ErrorResponse or NoticeResponse: fields of type byte and string. */
export function parseServerError(body: Uint8Array): ServerError {
  const reader = new ByteReader(body);
  const fields = new Map<string, string>();
  for (;;) {
    const type = reader.u8("error field");
    if (type === 0) break;
    fields.set(String.fromCharCode(type), reader.cstring("error field"));
  }
  return new ServerError(
    fields.get("V") ?? fields.get("S") ?? "ERROR",
    fields.get("C") ?? "XX000",
    fields.get("M") ?? "(no message)",
    fields.get("D"),
  );
}

/** A DataRow's columns as text; SQL NULL is null. */
export function parseDataRow(body: Uint8Array): readonly (string | null)[] {
  const reader = new ByteReader(body);
  const columns = reader.u16("column count");
  const row: (string | null)[] = [];
  for (let column = 0; column < columns; column++) {
    const length = reader.i32("column length");
    row.push(length === -1 ? null : reader.text("column", length));
  }
  reader.end("data row");
  return row;
}

export interface SystemIdentity {
  /** Decimal, as in pg_control. */
  readonly systemId: string;
  /** PostgreSQL's timeline id. */
  readonly tli: number;
  /** How far the server has flushed WAL (a safekeeper: committed). */
  readonly xlogpos: Lsn;
}

/** The row of IDENTIFY_SYSTEM. */
export function parseIdentity(row: readonly (string | null)[] | undefined): SystemIdentity {
  const [systemId, tli, xlogpos] = row ?? [];
  if (!systemId || !/^\d{1,20}$/.test(systemId) || xlogpos == null) {
    throw new MalformedInput("IDENTIFY_SYSTEM: unexpected answer; is this a replication server?");
  }
  return { systemId, tli: parseTli(tli), xlogpos: Lsn.parse(xlogpos) };
}

/** A timeline id, 1 to 2^32 - 1, in decimal. */
export function parseTli(text: string | null | undefined): number {
  const tli = Number(text);
  if (text == null || !/^\d{1,10}$/.test(text) || tli < 1 || tli > 0xffff_ffff) {
    throw new MalformedInput(`not a timeline id: ${text ?? "NULL"}`);
  }
  return tli;
}

/** A row of (LSN, timeline id): BASE_BACKUP's start and end. */
export function parseLsnTli(row: readonly (string | null)[] | undefined): {
  readonly lsn: Lsn;
  readonly tli: number;
} {
  const [lsn, tli] = row ?? [];
  if (lsn == null) throw new MalformedInput("expected a row with an LSN and a timeline id");
  return { lsn: Lsn.parse(lsn), tli: parseTli(tli) };
}

export type CopyMessage =
  | {
      readonly kind: "wal";
      /** Position of the first byte. */
      readonly at: Lsn;
      /** The sender's current end of WAL. */
      readonly end: Lsn;
      readonly bytes: Uint8Array;
    }
  | { readonly kind: "keepalive"; readonly end: Lsn; readonly replyRequested: boolean };

const WAL_HEADER_BYTES = 25;

/** The payload of a CopyData message from a walsender: 'w' or 'k'. `bytes` is a view. */
export function parseCopyMessage(body: Uint8Array): CopyMessage {
  const reader = new ByteReader(body);
  const type = reader.u8("replication message type");
  switch (type) {
    case 0x77: {
      const at = reader.lsn("wal start");
      const end = reader.lsn("wal end");
      reader.raw("send time", 8);
      return { kind: "wal", at, end, bytes: body.subarray(WAL_HEADER_BYTES) };
    }
    case 0x6b: {
      const end = reader.lsn("wal end");
      reader.raw("send time", 8);
      const replyRequested = reader.u8("reply requested") !== 0;
      reader.end("keepalive");
      return { kind: "keepalive", end, replyRequested };
    }
    default:
      throw new MalformedInput(
        `replication message of unknown type 0x${type.toString(16)}` +
          (type === 0x30 ? "; the safekeeper sends interpreted WAL, vanilla was asked for" : ""),
      );
  }
}

/** What we report upstream: bytes taken in, fsynced (whole records), and applied. */
export interface StandbyStatus {
  readonly write: Lsn;
  readonly flush: Lsn;
  readonly apply: Lsn;
  readonly replyRequested: boolean;
}

/** 2000-01-01 in Unix ms: PostgreSQL's epoch. */
const PG_EPOCH_MS = 946_684_800_000;

/**
 * A whole CopyData frame with a standby status update 'r' (34 bytes of payload). `nowMs` is Unix
 * time.
 */
export function buildStandbyStatus(status: StandbyStatus, nowMs: number): Uint8Array {
  return new ByteWriter(39)
    .u8(0x64)
    .u32(38)
    .u8(0x72)
    .lsn(status.write)
    .lsn(status.flush)
    .lsn(status.apply)
    .i64(BigInt(Math.round((nowMs - PG_EPOCH_MS) * 1000)))
    .u8(status.replyRequested ? 1 : 0)
    .done();
}

/** A simple query. */
export function buildQuery(sql: string): Uint8Array {
  const writer = new ByteWriter(64).u8(0x51).u32(0).cstring(sql);
  writer.patchU32(1, writer.length - 1);
  return writer.done();
}

export const COPY_DONE: Uint8Array = Uint8Array.of(0x63, 0, 0, 0, 4);
export const TERMINATE: Uint8Array = Uint8Array.of(0x58, 0, 0, 0, 4);

/** Throws MalformedInput unless `name` may name a replication slot (slot.c). */
export function checkSlotName(name: string): string {
  if (!/^[a-z0-9_]{1,63}$/.test(name)) {
    throw new MalformedInput(
      `"${name}" cannot name a replication slot: 1 to 63 of a-z, 0-9 and _ are allowed`,
    );
  }
  return name;
}

const literal = (text: string): string => `'${text.replaceAll("'", "''")}'`;

/** START_REPLICATION. A safekeeper takes neither slot nor timeline id. */
export function startReplicationSql(from: {
  readonly slot: string | undefined;
  readonly lsn: Lsn;
  readonly tli: number | undefined;
}): string {
  const slot = from.slot === undefined ? "" : `SLOT "${checkSlotName(from.slot)}" `;
  const tli = from.tli === undefined ? "" : ` TIMELINE ${from.tli}`;
  return `START_REPLICATION ${slot}PHYSICAL ${Lsn.format(from.lsn)}${tli}`;
}

export const createSlotSql = (name: string): string =>
  `CREATE_REPLICATION_SLOT "${checkSlotName(name)}" PHYSICAL RESERVE_WAL`;
export const readSlotSql = (name: string): string =>
  `READ_REPLICATION_SLOT "${checkSlotName(name)}"`;
export const dropSlotSql = (name: string): string =>
  `DROP_REPLICATION_SLOT "${checkSlotName(name)}" WAIT`;

export interface BaseBackupOptions {
  readonly label: string;
  /** "fast" asks for an immediate checkpoint; "spread" waits for the next one. */
  readonly checkpoint: "fast" | "spread";
  /** At most this many KiB a second (32 to 1048576); undefined: as fast as it goes. */
  readonly maxRateKiB?: number;
}

/**
 * BASE_BACKUP of PostgreSQL 15 on: without WAL (a slot holds it) and without waiting for its
 * archiving.
 */
export function baseBackupSql(options: BaseBackupOptions): string {
  const list = [
    `LABEL ${literal(options.label)}`,
    "PROGRESS",
    `CHECKPOINT ${literal(options.checkpoint)}`,
    "WAL 'false'",
    "WAIT 'false'",
    "MANIFEST 'no'",
    ...(options.maxRateKiB === undefined ? [] : [`MAX_RATE ${Math.floor(options.maxRateKiB)}`]),
  ];
  return `BASE_BACKUP (${list.join(", ")})`;
}

export type BackupMessage =
  /** A tar archive begins; `location` is a tablespace's directory, "" for the data directory. */
  | { readonly kind: "archive"; readonly name: string; readonly location: string }
  | { readonly kind: "data"; readonly bytes: Uint8Array }
  | { readonly kind: "progress"; readonly doneBytes: number }
  | { readonly kind: "manifest" };

/** The payload of a CopyData message of BASE_BACKUP (basebackup_copy.c). `bytes` is a view. */
export function parseBackupMessage(body: Uint8Array): BackupMessage {
  const reader = new ByteReader(body);
  const type = reader.u8("backup message type");
  switch (type) {
    case 0x6e: {
      const name = reader.cstring("archive name");
      const location = reader.cstring("tablespace location");
      return { kind: "archive", name, location };
    }
    case 0x64:
      return { kind: "data", bytes: body.subarray(1) };
    case 0x70:
      return { kind: "progress", doneBytes: Number(reader.i64("bytes done")) };
    case 0x6d:
      return { kind: "manifest" };
    default:
      throw new MalformedInput(`base backup message of unknown type 0x${type.toString(16)}`);
  }
}
