// What Node can do at best: a TCP server that answers every request with the same 8 KiB page from
// memory, without looking at it. One write for all requests of a socket read, no copy. The measure
// for GetPage.

import net from "node:net";
import { ANSWER_BYTES, REQUEST_BYTES } from "./frames.ts";

/** Answers that one write sends at most. */
const SLAB_ANSWERS = 512;

const slab = Buffer.alloc(SLAB_ANSWERS * ANSWER_BYTES, 0x70);
for (let i = 0; i < SLAB_ANSWERS; i++) {
  const at = i * ANSWER_BYTES;
  slab[at] = 0x64;
  slab.writeUInt32BE(ANSWER_BYTES - 1, at + 1);
  slab[at + 5] = 102;
}

const server = net.createServer({ noDelay: true }, (socket) => {
  let partial = 0;
  socket.on("data", (chunk) => {
    const have = partial + chunk.length;
    let requests = Math.floor(have / REQUEST_BYTES);
    partial = have - requests * REQUEST_BYTES;
    for (; requests > 0; requests -= SLAB_ANSWERS) {
      socket.write(slab.subarray(0, Math.min(requests, SLAB_ANSWERS) * ANSWER_BYTES));
    }
  });
  socket.on("error", () => socket.destroy());
});

process.on("message", () => {
  server.listen(0, "127.0.0.1", () => {
    const address = server.address();
    if (typeof address === "object") process.send?.({ value: address?.port });
  });
});
process.on("disconnect", () => process.exit(0));
