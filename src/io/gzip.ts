// A stream of bytes as one gzip stream, at the fastest level: what is sent is mostly pages, and the
// receiver waits.

import { Readable, pipeline } from "node:stream";
import { constants, createGzip } from "node:zlib";

/**
 * Compresses on the thread pool. An error of `source` is thrown to whoever iterates; leaving the
 * iteration early ends `source`. Chunks are copied: `source` may use their memory again.
 */
export function gzipped(source: AsyncIterable<Uint8Array>): AsyncIterable<Uint8Array> {
  const gzip = createGzip({ level: constants.Z_BEST_SPEED });
  // pipeline hands an error of the source to `gzip`, whose iterator throws it.
  pipeline(Readable.from(copies(source), { highWaterMark: 1 }), gzip, () => undefined);
  return gzip;
}

async function* copies(source: AsyncIterable<Uint8Array>): AsyncGenerator<Buffer> {
  for await (const chunk of source) yield Buffer.from(chunk);
}
