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
  let writing: Promise<unknown> = Promise.resolve();
  try {
    let bytes = 0;
    for await (const plain of layerBytes(storage, name, wanted)) {
      await writing;
      // While the next one comes and is unpacked.
      writing = file.write(plain, 0, plain.length, bytes);
      writing.catch(() => undefined);
      bytes += plain.length;
    }
    await writing;
    await file.sync();
  } catch (cause) {
    await writing.catch(() => undefined);
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
  const held = new Pieces();
  let begun = false;
  let head: Buffer | undefined;
  for await (const piece of storage.getStream(name, 0)) {
    held.add(piece);
    if (!begun) {
      if (held.length < MAGIC.length) continue;
      if (!held.take(MAGIC.length).equals(MAGIC)) throw bad("it does not begin as a layer");
      begun = true;
    }
    for (;;) {
      if (head === undefined && held.length < HEAD_BYTES) break;
      head ??= held.take(HEAD_BYTES);
      const [plain, stored, crc] = [0, 4, 8].map((at) => head!.readUInt32LE(at));
      if (plain! > LAYER_FRAME_BYTES || stored! > plain!) throw bad("a frame has a wrong length");
      if (held.length < stored!) break;
      const body = held.take(stored!);
      head = undefined;
      if (crc32c(body) !== crc) throw bad("a frame fails its checksum");
      yield stored === plain ? body : await decompress(body);
    }
  }
  if (!begun || head !== undefined || held.length > 0) throw bad("it is cut short");
}

/** What has come and was not taken yet. Only what lies in more than one piece is copied. */
class Pieces {
  length = 0;
  private readonly pieces: Buffer[] = [];

  add({ buffer, byteOffset, length }: Uint8Array): void {
    if (length > 0) this.pieces.push(Buffer.from(buffer, byteOffset, length));
    this.length += length;
  }

  /** The next `bytes`, of which there must be as many. */
  take(bytes: number): Buffer {
    const taken: Buffer[] = [];
    this.length -= bytes;
    for (let left = bytes; left > 0;) {
      const first = this.pieces[0]!;
      if (first.length <= left) this.pieces.shift();
      else this.pieces[0] = first.subarray(left);
      taken.push(first.subarray(0, left));
      left -= Math.min(left, first.length);
    }
    return taken.length === 1 ? taken[0]! : Buffer.concat(taken);
  }
}

const damaged = (place: string, name: string, why: string): ObjectError =>
  new ObjectError(
    "corrupt",
    `${name} in ${place} is corrupt: ${why}; where the layer is still on a server, scrub writes it again`,
  );
