// A sealed layer as an object: the file in frames, each compressed by itself, so that neither sending
// nor fetching holds more of it in memory than one. What is fetched is believed when the whole file
// matches the checksum that the manifest has of it, and only then gets its name.
//
//   "PSLAYER1" | frame… ;   frame = plain bytes:4 LE | stored bytes:4 LE | CRC-32C of stored:4 LE | stored
//
// stored is a zstd frame; where that is not smaller it is the plain bytes, and both lengths are equal.

import fs from "node:fs/promises";
import { compress, decompress } from "@mongodb-js/zstd";
import { LAYER_FRAME_BYTES } from "../../core/limits.ts";
import { type ByteSource, ObjectError, type ObjectStorage } from "../../core/object-storage.ts";
import { crc32c } from "../../protocol/crc32c.ts";

const MAGIC = Buffer.from("PSLAYER1");
const HEAD_BYTES = 12;
const ZSTD_LEVEL = 3;

/** Of a file: what is fetched must have this. */
export interface FileSum {
  readonly bytes: number;
  readonly crc: number;
}

/** The object of the file at `path`; read anew each time. `onBytes` hears of each piece that is given. */
export function layerSource(path: string, onBytes: (bytes: number) => void = () => {}): ByteSource {
  return async function* () {
    const file = await fs.open(path, "r");
    try {
      onBytes(MAGIC.length);
      yield MAGIC;
      for (;;) {
        const { bytesRead, buffer } = await file.read(Buffer.allocUnsafe(LAYER_FRAME_BYTES));
        if (bytesRead === 0) return;
        const frame = await frameOf(buffer.subarray(0, bytesRead));
        onBytes(frame.length);
        yield frame;
      }
    } finally {
      await file.close();
    }
  };
}

async function frameOf(plain: Buffer): Promise<Buffer> {
  const packed = await compress(plain, ZSTD_LEVEL);
  const stored = packed.length < plain.length ? packed : plain;
  const head = Buffer.alloc(HEAD_BYTES);
  head.writeUInt32LE(plain.length, 0);
  head.writeUInt32LE(stored.length, 4);
  head.writeUInt32LE(crc32c(stored), 8);
  return Buffer.concat([head, stored]);
}

/**
 * Fetches the object to `path`, by way of a file beside it; on disk when the promise is kept. Rejects
 * with ObjectError ("corrupt" when it does not hold what it must), or with what the disk says.
 */
export async function fetchLayer(
  storage: Pick<ObjectStorage, "getStream" | "place">,
  name: string,
  path: string,
  wanted: FileSum,
): Promise<void> {
  const temporary = `${path}.fetching`;
  const file = await fs.open(temporary, "w", 0o600);
  try {
    let bytes = 0;
    for await (const plain of layerBytes(storage, name, wanted)) {
      await file.write(plain, 0, plain.length, bytes);
      bytes += plain.length;
    }
    await file.sync();
  } catch (cause) {
    await file.close();
    await fs.rm(temporary, { force: true });
    throw cause;
  }
  await file.close();
  await fs.rename(temporary, path);
}

/** The file's bytes, from its object. Ends with ObjectError "corrupt" when they are not all that is wanted. */
export async function* layerBytes(
  storage: Pick<ObjectStorage, "getStream" | "place">,
  name: string,
  wanted: FileSum,
): AsyncGenerator<Uint8Array> {
  let [bytes, crc] = [0, 0];
  for await (const plain of framesOf(storage, name)) {
    crc = crc32c(plain, 0, plain.length, crc);
    bytes += plain.length;
    if (bytes > wanted.bytes) break;
    yield plain;
  }
  if (bytes === wanted.bytes && crc === wanted.crc) return;
  const why =
    bytes === wanted.bytes ? "its checksum is wrong" : `it has ${bytes} bytes, not ${wanted.bytes}`;
  throw damaged(storage.place, name, why);
}

/** Whether the file at `path` is what is wanted. Rejects with what the disk says. */
export async function isLayerFile(path: string, wanted: FileSum): Promise<boolean> {
  const file = await fs.open(path, "r");
  try {
    let [bytes, crc] = [0, 0];
    const buffer = Buffer.allocUnsafe(LAYER_FRAME_BYTES);
    for (;;) {
      const { bytesRead } = await file.read(buffer);
      if (bytesRead === 0) return bytes === wanted.bytes && crc === wanted.crc;
      crc = crc32c(buffer, 0, bytesRead, crc);
      bytes += bytesRead;
    }
  } finally {
    await file.close();
  }
}

/** The plain bytes of the frames of an object. */
async function* framesOf(
  storage: Pick<ObjectStorage, "getStream" | "place">,
  name: string,
): AsyncGenerator<Uint8Array> {
  const bad = (why: string): ObjectError => damaged(storage.place, name, why);
  let held: Buffer = Buffer.alloc(0);
  let begun = false;
  for await (const piece of storage.getStream(name, 0)) {
    held = held.length === 0 ? Buffer.from(piece) : Buffer.concat([held, piece]);
    if (!begun) {
      if (held.length < MAGIC.length) continue;
      if (!held.subarray(0, MAGIC.length).equals(MAGIC)) throw bad("it does not begin as a layer");
      held = held.subarray(MAGIC.length);
      begun = true;
    }
    while (held.length >= HEAD_BYTES) {
      const [plain, stored, crc] = [0, 4, 8].map((at) => held.readUInt32LE(at));
      if (plain! > LAYER_FRAME_BYTES || stored! > plain!) throw bad("a frame has a wrong length");
      if (held.length < HEAD_BYTES + stored!) break;
      const body = held.subarray(HEAD_BYTES, HEAD_BYTES + stored!);
      if (crc32c(body) !== crc) throw bad("a frame fails its checksum");
      yield stored === plain ? body : await decompress(body);
      held = held.subarray(HEAD_BYTES + stored!);
    }
  }
  if (!begun || held.length > 0) throw bad("it is cut short");
}

const damaged = (place: string, name: string, why: string): ObjectError =>
  new ObjectError(
    "corrupt",
    `${name} in ${place} is corrupt: ${why}; where the layer is still on a server, scrub writes it again`,
  );
