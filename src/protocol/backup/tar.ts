// Tar archives (POSIX ustar, as PostgreSQL's port/tar.c reads and writes it): blocks of 512 bytes,
// a header a member, two zero blocks at the end. Only what a data directory needs: files,
// directories and symbolic links with names up to 100 bytes. Pure: chunks in, members out.

import { MalformedInput, assert } from "../../core/assert.ts";

export const TAR_BLOCK_BYTES = 512;
const NAME_BYTES = 100;
/** Eleven octal digits. PostgreSQL's segment files stay far below. */
const SIZE_BYTES_MAX = 0o77777777777;

const encoder = new TextEncoder();
const decoder = new TextDecoder();

export type TarKind = "file" | "directory" | "symlink";

/** One member. `body` gives exactly `size` bytes; read it before asking for the next member (the rest is skipped). */
export interface TarEntry {
  readonly path: string;
  readonly kind: TarKind;
  readonly size: number;
  /** Target of a symbolic link, else "". */
  readonly target: string;
  readonly body: AsyncIterable<Uint8Array>;
}

/** The 512-byte header of a file or directory. `mtimeS`: seconds since 1970. Files get mode 0600, directories 0700. */
export function tarHeader(
  path: string,
  kind: "file" | "directory",
  size: number,
  mtimeS: number,
): Uint8Array {
  const name = encoder.encode(kind === "directory" ? `${path}/` : path);
  assert(name.length <= NAME_BYTES, `tar member name too long: ${path}`);
  assert(size >= 0 && size <= SIZE_BYTES_MAX, `tar member ${path} of ${size} bytes`);
  const header = new Uint8Array(TAR_BLOCK_BYTES);
  const octal = (at: number, digits: number, value: number): void => {
    header.set(encoder.encode(value.toString(8).padStart(digits, "0")), at);
  };
  header.set(name, 0);
  octal(100, 7, kind === "directory" ? 0o700 : 0o600);
  octal(108, 7, 0);
  octal(116, 7, 0);
  octal(124, 11, size);
  octal(136, 11, Math.floor(mtimeS));
  header[156] = kind === "directory" ? 0x35 : 0x30;
  header.set(encoder.encode("ustar\x0000postgres"), 257);
  header.set(encoder.encode("postgres"), 297);
  octal(148, 6, headerSum(header));
  header[154] = 0;
  header[155] = 0x20;
  return header;
}

/** Zero bytes that follow `size` bytes of a member's body. */
export const tarPadding = (size: number): number =>
  (TAR_BLOCK_BYTES - (size % TAR_BLOCK_BYTES)) % TAR_BLOCK_BYTES;

/** Sum of the header's bytes, with the checksum field taken as eight spaces. */
function headerSum(header: Uint8Array): number {
  let sum = 8 * 0x20;
  for (let i = 0; i < TAR_BLOCK_BYTES; i++) if (i < 148 || i >= 156) sum += header[i]!;
  return sum;
}

interface Header {
  readonly path: string;
  readonly kind: TarKind;
  readonly size: number;
  readonly target: string;
}

const KINDS: Readonly<Record<string, TarKind>> = {
  "\0": "file",
  "0": "file",
  "2": "symlink",
  "5": "directory",
};

/** Reads a header; undefined for the zero block that ends the archive. Throws MalformedInput. */
function parseHeader(header: Uint8Array): Header | undefined {
  if (header.every((byte) => byte === 0)) return undefined;
  const text = (at: number, length: number): string => {
    const raw = header.subarray(at, at + length);
    const end = raw.indexOf(0);
    return decoder.decode(end < 0 ? raw : raw.subarray(0, end));
  };
  const octal = (at: number, length: number, field: string): number => {
    const digits = text(at, length).trim();
    if (!/^[0-7]+$/.test(digits)) {
      throw new MalformedInput(`tar: ${field} is not an octal number: "${digits}"`);
    }
    return parseInt(digits, 8);
  };
  if (octal(148, 8, "checksum") !== headerSum(header)) {
    throw new MalformedInput("tar: header checksum does not match; the archive is damaged");
  }
  const prefix = text(257, 5) === "ustar" ? text(345, 155) : "";
  const name = text(0, NAME_BYTES);
  const path = cleanPath(prefix === "" ? name : `${prefix}/${name}`);
  const flag = String.fromCharCode(header[156]!);
  const kind = KINDS[flag];
  if (kind === undefined) {
    throw new MalformedInput(`tar: ${path} is of type "${flag}", which no data directory contains`);
  }
  const size = kind === "file" ? octal(124, 12, "size") : 0;
  return { path, kind, size, target: kind === "symlink" ? text(157, NAME_BYTES) : "" };
}

/** "./base/1/" to "base/1"; the archive's root becomes ".". Throws for a path that leaves the directory. */
function cleanPath(path: string): string {
  const parts = path.split("/").filter((part) => part !== "" && part !== ".");
  if (path.startsWith("/") || parts.includes("..")) {
    throw new MalformedInput(`tar: member "${path}" lies outside of the directory`);
  }
  return parts.length === 0 ? "." : parts.join("/");
}

/** Takes exact byte counts from chunks of any size. */
class ChunkReader {
  private readonly chunks: AsyncIterator<Uint8Array>;
  private rest: Uint8Array = new Uint8Array(0);

  constructor(chunks: AsyncIterable<Uint8Array>) {
    this.chunks = chunks[Symbol.asyncIterator]();
  }

  /** Between 1 and `max` bytes, a view of the chunk they came in. */
  async some(max: number, what: string): Promise<Uint8Array> {
    while (this.rest.length === 0) {
      const next = await this.chunks.next();
      if (next.done === true) throw new MalformedInput(`tar: archive is cut off in ${what}`);
      this.rest = next.value;
    }
    const piece = this.rest.subarray(0, max);
    this.rest = this.rest.subarray(piece.length);
    return piece;
  }

  /** Exactly `size` bytes, contiguous. */
  async exactly(size: number, what: string): Promise<Uint8Array> {
    const first = await this.some(size, what);
    if (first.length === size) return first;
    const joined = new Uint8Array(size);
    joined.set(first);
    for (let at = first.length; at < size;) {
      const piece = await this.some(size - at, what);
      joined.set(piece, at);
      at += piece.length;
    }
    return joined;
  }

  async skip(size: number, what: string): Promise<void> {
    for (let left = size; left > 0;) left -= (await this.some(left, what)).length;
  }

  /** Reads on to the end of the chunks, so that whoever sends them can finish. */
  async drain(): Promise<void> {
    this.rest = new Uint8Array(0);
    while ((await this.chunks.next()).done !== true);
  }

  async close(): Promise<void> {
    await this.chunks.return?.();
  }
}

/**
 * The members of an archive, one after the other. Throws MalformedInput for a damaged or cut-off
 * archive (one without the zero block that ends it) and for paths that leave the directory.
 * Bodies are views of the chunks given.
 */
export async function* readTar(
  chunks: AsyncIterable<Uint8Array>,
): AsyncGenerator<TarEntry, void, undefined> {
  const reader = new ChunkReader(chunks);
  try {
    for (;;) {
      const header = parseHeader(await reader.exactly(TAR_BLOCK_BYTES, "a header"));
      if (header === undefined) break;
      let left = header.size;
      const body = async function* (): AsyncGenerator<Uint8Array, void, undefined> {
        while (left > 0) {
          const piece = await reader.some(left, header.path);
          left -= piece.length;
          yield piece;
        }
      };
      yield { ...header, body: body() };
      await reader.skip(left + tarPadding(header.size), header.path);
      left = 0;
    }
    await reader.drain();
  } finally {
    await reader.close();
  }
}

/** What packTar packs. */
export interface TarMember {
  readonly path: string;
  readonly kind: "file" | "directory";
  readonly size: number;
  /** Exactly `size` bytes. A chunk may be overwritten once the next is asked for. */
  readonly body: Iterable<Uint8Array> | AsyncIterable<Uint8Array>;
}

/** Joins pieces of any size to chunks of one size; everything is copied. */
class ChunkJoiner {
  private readonly size: number;
  private chunk: Uint8Array;
  private used = 0;

  constructor(size: number) {
    this.size = size;
    this.chunk = new Uint8Array(size);
  }

  /** Gives the chunks that became full. */
  *add(bytes: Uint8Array): Generator<Uint8Array, void, undefined> {
    for (let at = 0; at < bytes.length;) {
      const take = Math.min(bytes.length - at, this.size - this.used);
      this.chunk.set(bytes.subarray(at, at + take), this.used);
      this.used += take;
      at += take;
      if (this.used < this.size) continue;
      yield this.chunk;
      this.chunk = new Uint8Array(this.size);
      this.used = 0;
    }
  }

  rest(): Uint8Array {
    return this.chunk.subarray(0, this.used);
  }
}

const ZERO_BLOCKS = new Uint8Array(2 * TAR_BLOCK_BYTES);

/** An archive of `members` in chunks of `chunkBytes`, each in memory of its own. Nothing is read ahead. */
export async function* packTar(
  members: AsyncIterable<TarMember>,
  mtimeS: number,
  chunkBytes: number,
): AsyncGenerator<Uint8Array, void, undefined> {
  const joiner = new ChunkJoiner(chunkBytes);
  for await (const { path, kind, size, body } of members) {
    yield* joiner.add(tarHeader(path, kind, size, mtimeS));
    let written = 0;
    for await (const piece of body) {
      written += piece.length;
      yield* joiner.add(piece);
    }
    assert(written === size, `tar member ${path}: ${written} bytes instead of ${size}`);
    yield* joiner.add(ZERO_BLOCKS.subarray(0, tarPadding(size)));
  }
  yield* joiner.add(ZERO_BLOCKS);
  if (joiner.rest().length > 0) yield joiner.rest();
}
