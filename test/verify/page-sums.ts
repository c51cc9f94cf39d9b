// One word for all pages of some relations at one moment: it is the same exactly when they are.

import { createHash } from "node:crypto";
import type { Lsn } from "../../src/core/lsn.ts";
import type { RelTag } from "../../src/core/page.ts";
import { PageClient } from "../support/page-client.ts";
import type { Served } from "./compare.ts";

const READ_AHEAD = 256;

export async function sumOfPages(
  { port, tenant, timeline }: Served,
  rels: readonly RelTag[],
  lsn: Lsn,
): Promise<string> {
  const client = await PageClient.connect({ port });
  const stream = await client.pagestream(tenant, timeline);
  const when = { lsn, notModifiedSince: lsn };
  const hash = createHash("sha256");
  for (const rel of rels) {
    const blocks = await stream.nblocks(rel, when);
    hash.update(String(blocks));
    for (let from = 0; from < blocks; from += READ_AHEAD) {
      const count = Math.min(READ_AHEAD, blocks - from);
      const wanted = Array.from({ length: count }, (_, i) => stream.getPage(rel, from + i, when));
      for (const page of await Promise.all(wanted)) hash.update(page);
    }
  }
  await client.close();
  return hash.digest("hex");
}
