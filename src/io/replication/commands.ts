// Replication commands that answer with rows: sent as a simple query, read to ReadyForQuery.

import { REPLICATION_COMMAND_MS_MAX } from "../../core/limits.ts";
import { Lsn } from "../../core/lsn.ts";
import {
  ServerError,
  type SystemIdentity,
  buildQuery,
  createSlotSql,
  dropSlotSql,
  parseDataRow,
  parseIdentity,
  parseServerError,
  readSlotSql,
} from "../../protocol/replication.ts";
import type { PgWire } from "./wire.ts";

export type Row = readonly (string | null)[];

/** SQLSTATEs (errcodes.txt). */
const SYNTAX_ERROR = "42601";
const DUPLICATE_OBJECT = "42710";
const UNDEFINED_OBJECT = "42704";

/**
 * Runs one command. Throws ServerError, after which the connection may be used again, or
 * ConnectionLost.
 */
export async function command(wire: PgWire, sql: string): Promise<readonly Row[]> {
  wire.send(buildQuery(sql));
  const rows: Row[] = [];
  let refused: ServerError | undefined;
  for (;;) {
    const message = await nextOrRefusal(wire, refused);
    switch (message.type) {
      case 0x44: // DataRow
        rows.push(parseDataRow(message.body));
        break;
      case 0x45: // ErrorResponse
        refused = parseServerError(message.body);
        break;
      case 0x5a: // ReadyForQuery
        if (refused !== undefined) throw refused;
        return rows;
    }
  }
}

/**
 * A FATAL error is followed by the end of the connection: the error is what the caller wants to
 * hear.
 */
async function nextOrRefusal(wire: PgWire, refused: ServerError | undefined) {
  try {
    return await wire.next(REPLICATION_COMMAND_MS_MAX);
  } catch (cause) {
    throw refused ?? cause;
  }
}

export async function identify(wire: PgWire): Promise<SystemIdentity> {
  return parseIdentity((await command(wire, "IDENTIFY_SYSTEM"))[0]);
}

/** SHOW of one setting; walsenders support it since PostgreSQL 10. `name` is an identifier. */
export async function show(wire: PgWire, name: string): Promise<string> {
  if (!/^[a-z_][a-z0-9_.]*$/.test(name)) throw new Error(`not the name of a setting: "${name}"`);
  return (await command(wire, `SHOW ${name}`))[0]?.[0] ?? "";
}

export interface SlotState {
  /** False: it existed already. */
  readonly created: boolean;
  /**
   * WAL from here on is kept for us; undefined: the slot reserves none until streaming from it has
   * begun, or its server is too old to tell.
   */
  readonly restartLsn: Lsn | undefined;
}

/**
 * Makes sure a physical slot of this name exists and reserves WAL. Throws ServerError: 0A000 when
 * it exists and is logical, 53400 when the server has no slot left.
 */
export async function ensureSlot(wire: PgWire, name: string): Promise<SlotState> {
  let existing = await readSlot(wire, name);
  let created = false;
  if (existing === undefined) {
    try {
      await command(wire, createSlotSql(name));
      created = true;
    } catch (cause) {
      if (!(cause instanceof ServerError && cause.code === DUPLICATE_OBJECT)) throw cause;
    }
    existing = await readSlot(wire, name);
  }
  return { created, restartLsn: existing?.restartLsn };
}

async function readSlot(
  wire: PgWire,
  name: string,
): Promise<{ readonly restartLsn: Lsn | undefined } | undefined> {
  try {
    const [type, restartLsn] = (await command(wire, readSlotSql(name)))[0] ?? [];
    if (type == null) return undefined;
    return { restartLsn: restartLsn == null ? undefined : Lsn.parse(restartLsn) };
  } catch (cause) {
    // PostgreSQL 14 and older lack the command; creating the slot will tell whether it exists.
    if (cause instanceof ServerError && cause.code === SYNTAX_ERROR) return undefined;
    throw cause;
  }
}

/** Drops a slot; one that does not exist is fine. Waits until no connection uses it. */
export async function dropSlot(wire: PgWire, name: string): Promise<void> {
  try {
    await command(wire, dropSlotSql(name));
  } catch (cause) {
    if (!(cause instanceof ServerError && cause.code === UNDEFINED_OBJECT)) throw cause;
  }
}
