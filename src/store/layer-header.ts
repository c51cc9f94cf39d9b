// What a sealed layer says of itself, stored inside the file next to its filter: found again by
// `check`, by a restore, and by whoever opens a file that belongs to another timeline.

import { z } from "zod";
import { Lsn } from "../core/lsn.ts";
import { crc32c } from "../protocol/crc32c.ts";
import { StoreCorrupt, StoreFormat } from "./store-errors.ts";

export const LAYER_FORMAT = 1;
/** Kinds end far below 0xff: these sort behind every key. */
export const HEADER_KEY = Buffer.from([0xff, 1]);
export const FILTER_KEY = Buffer.from([0xff, 2]);

export const lsnField = z
  .number()
  .int()
  .nonnegative()
  .max(Number.MAX_SAFE_INTEGER)
  .transform((raw) => Lsn.of(raw));
/** A version key in hex: 18 bytes. */
export const keyField = z.string().regex(/^[0-9a-f]{36}$/);
export const countField = z.number().int().nonnegative();
export const crcField = z.number().int().min(0).max(0xffff_ffff);

const schema = z.strictObject({
  format: z.number().int(),
  timeline: z.string(),
  /** Lowest and highest LSN of a version inside. */
  firstLsn: lsnField,
  lastLsn: lsnField,
  firstKey: keyField,
  lastKey: keyField,
  keys: countField,
  runs: countField,
  versions: countField,
  /** Bit n: some key is of kind n. */
  kinds: countField,
  /** CRC-32C over all run keys in order: a damaged key would hide its versions. */
  keysCrc: crcField,
});

export type LayerHeader = Readonly<z.infer<typeof schema>>;

/** JSON behind its CRC-32C. */
export function encodeHeader(header: LayerHeader): Buffer {
  return sealed(Buffer.from(JSON.stringify(header)));
}

/** Throws StoreCorrupt or StoreFormat, naming `path`. */
export function decodeHeader(value: Uint8Array | undefined, path: string): LayerHeader {
  const body = unsealed(value, path, "header");
  let json: unknown;
  try {
    json = JSON.parse(Buffer.from(body).toString());
  } catch {
    throw new StoreCorrupt(path, "its header is not JSON");
  }
  const header = schema.safeParse(json);
  if (!header.success) throw new StoreCorrupt(path, `header: ${z.prettifyError(header.error)}`);
  if (header.data.format !== LAYER_FORMAT) {
    throw new StoreFormat(
      `${path} has layer format ${header.data.format}, this program reads ${LAYER_FORMAT}; ` +
        `use the version of pageserver that wrote it`,
    );
  }
  return header.data;
}

/** Bytes behind their CRC-32C. */
export function sealed(body: Uint8Array): Buffer {
  const value = Buffer.alloc(4 + body.length);
  value.writeUInt32LE(crc32c(body), 0);
  value.set(body, 4);
  return value;
}

/** What `sealed` was given. Throws StoreCorrupt when it is missing or was changed. */
export function unsealed(value: Uint8Array | undefined, path: string, what: string): Uint8Array {
  if (value === undefined || value.length < 4) throw new StoreCorrupt(path, `it has no ${what}`);
  const body = value.subarray(4);
  const stored = new DataView(value.buffer, value.byteOffset).getUint32(0, true);
  if (crc32c(body) !== stored) throw new StoreCorrupt(path, `its ${what} fails its checksum`);
  return body;
}
