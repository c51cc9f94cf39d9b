// Small state files that end with a CRC-32C of what precedes it: prepared transactions
// (pg_twophase/<xid>, access/transam/twophase.c) and replication origins
// (pg_logical/replorigin_checkpoint, replication/logical/origin.c).

import { MalformedInput } from "../../core/assert.ts";
import type { Lsn } from "../../core/lsn.ts";
import { ByteReader, ByteWriter } from "../bytes.ts";
import { crc32c } from "../crc32c.ts";

const CRC_BYTES = 4;
/** REPLICATION_STATE_MAGIC. */
const ORIGINS_MAGIC = 0x1257dade;
/** ReplicationStateOnDisk: u16 id, six bytes of padding, u64 LSN. */
const ORIGIN_BYTES = 16;

export interface Origin {
  readonly id: number;
  readonly lsn: Lsn;
}

/** `body` followed by its checksum. */
export function withCrc(body: Uint8Array): Uint8Array {
  return new ByteWriter(body.length + CRC_BYTES).raw(body).u32le(crc32c(body)).done();
}

/** What withCrc was given. Throws MalformedInput when the checksum does not match. */
export function withoutCrc(file: Uint8Array, what: string): Uint8Array {
  if (file.length < CRC_BYTES) throw new MalformedInput(`${what}: only ${file.length} bytes`);
  const body = file.subarray(0, file.length - CRC_BYTES);
  const stored = new ByteReader(file, body.length).u32le("crc");
  const actual = crc32c(body);
  if (stored !== actual) {
    throw new MalformedInput(
      `${what}: checksum is ${stored.toString(16)}, its bytes give ${actual.toString(16)}`,
    );
  }
  return body;
}

/** The file replorigin_checkpoint. */
export function formatOrigins(origins: readonly Origin[]): Uint8Array {
  const writer = new ByteWriter(8 + origins.length * ORIGIN_BYTES).u32le(ORIGINS_MAGIC);
  for (const { id, lsn } of origins) writer.u16le(id).zeros(6).lsnle(lsn);
  return withCrc(writer.done());
}

/** Reads replorigin_checkpoint. Throws MalformedInput. */
export function parseOrigins(file: Uint8Array): readonly Origin[] {
  const what = "replorigin_checkpoint";
  const reader = new ByteReader(withoutCrc(file, what));
  const magic = reader.u32le("magic");
  if (magic !== ORIGINS_MAGIC) throw new MalformedInput(`${what}: magic ${magic.toString(16)}`);
  const origins: Origin[] = [];
  while (reader.remaining > 0) {
    const id = reader.u16le("origin id");
    reader.raw("padding", 6);
    origins.push({ id, lsn: reader.lsnle("origin LSN") });
  }
  return origins;
}
