// Sizes of the pagestream's messages as the load client counts them, and LSNs as it writes them.

import { PAGE_BYTES } from "../src/core/page.ts";

/** A GetPage request of version 3: CopyData, tag, reqid, two LSNs, relation, block. */
export const REQUEST_BYTES = 5 + 1 + 8 + 16 + 13 + 4;
/** Its answer: the same, and the page. */
export const ANSWER_BYTES = REQUEST_BYTES + PAGE_BYTES;

export function writeLsn(bytes: Buffer, at: number, lsn: number): void {
  bytes.writeUInt32BE(Math.floor(lsn / 2 ** 32), at);
  bytes.writeUInt32BE(lsn % 2 ** 32, at + 4);
}
