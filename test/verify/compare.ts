// Every block of every relation and fork of a stopped cluster, byte for byte against what the page
// server answers at an LSN. Nothing is passed over but free space maps (not logged), the main
// fork of unlogged relations and temporary files.

import fs from "node:fs";
import path from "node:path";
import type { Lsn } from "../../src/core/lsn.ts";
import {
  FORK_FSM,
  FORK_INIT,
  FORK_MAIN,
  FORK_VM,
  PAGE_BYTES,
  RELSEG_BLOCKS,
  type RelTag,
  formatRel,
} from "../../src/core/page.ts";
import { parseDataDirPath } from "../../src/protocol/data-dir-names.ts";
import { firstDifference, maskedPage, pageKind } from "../support/masks.ts";
import { PageClient, type PageStreamClient } from "../support/page-client.ts";

export interface Comparison {
  relations: number;
  compared: number;
  equal: number;
  maskedEqual: number;
  different: number;
  /** First few differences, as sentences. */
  readonly examples: string[];
}

export const noComparison = (): Comparison => ({
  relations: 0,
  compared: 0,
  equal: 0,
  maskedEqual: 0,
  different: 0,
  examples: [],
});

export interface Served {
  readonly port: number;
  readonly tenant: string;
  readonly timeline: string;
}

const EXAMPLES_MAX = 20;
/** Requests kept in flight on one connection. */
const DEPTH = 256;

/** Relation segment files of a data directory, by relation, in order of segments. */
function relationFiles(dataDir: string): ReadonlyMap<string, { rel: RelTag; files: string[] }> {
  const relations = new Map<string, { rel: RelTag; files: string[] }>();
  const inits = new Set<string>();
  for (const name of fs.readdirSync(dataDir, { recursive: true, encoding: "utf8" }).sort()) {
    const meaning = parseDataDirPath(name);
    if (meaning.kind !== "relation" || !fs.statSync(path.join(dataDir, name)).isFile()) continue;
    const key = formatRel(meaning.rel);
    if (meaning.rel.fork === FORK_INIT) inits.add(formatRel({ ...meaning.rel, fork: FORK_MAIN }));
    const known = relations.get(key) ?? { rel: meaning.rel, files: [] };
    known.files[meaning.segment] = path.join(dataDir, name);
    relations.set(key, known);
  }
  for (const [key, { rel }] of relations) {
    const main = formatRel({ ...rel, fork: FORK_MAIN });
    if (rel.fork === FORK_FSM || (inits.has(main) && rel.fork !== FORK_INIT)) relations.delete(key);
  }
  return relations;
}

/** Adds what comparing `dataDir` (a stopped cluster as of `lsn`) gives to `sum`. */
export async function compareCluster(
  dataDir: string,
  served: Served,
  lsn: Lsn,
  sum: Comparison,
): Promise<void> {
  const client = await PageClient.connect({ port: served.port });
  const stream = await client.pagestream(served.tenant, served.timeline);
  for (const { rel, files } of relationFiles(dataDir).values()) {
    await compareRelation(rel, files, stream, lsn, sum);
  }
  await client.close();
}

async function compareRelation(
  rel: RelTag,
  files: readonly string[],
  stream: PageStreamClient,
  lsn: Lsn,
  sum: Comparison,
): Promise<void> {
  sum.relations++;
  const at = { lsn, notModifiedSince: lsn };
  const blocks = await stream.nblocks(rel, at).catch((error: unknown) => {
    report(sum, `${formatRel(rel)}: ${String(error)}`);
    return -1;
  });
  if (blocks < 0) return;
  let inFiles = 0;
  for (const [segment, file] of files.entries()) {
    const bytes = fs.readFileSync(file);
    const count = bytes.length / PAGE_BYTES;
    inFiles = segment * RELSEG_BLOCKS + count;
    for (let from = 0; from < count; from += DEPTH) {
      const batch = Math.min(DEPTH, count - from);
      const pages = await Promise.allSettled(
        Array.from({ length: batch }, (_, i) =>
          stream.getPage(rel, segment * RELSEG_BLOCKS + from + i, at),
        ),
      );
      pages.forEach((answer, i) => {
        const block = segment * RELSEG_BLOCKS + from + i;
        const expected = bytes.subarray((from + i) * PAGE_BYTES, (from + i + 1) * PAGE_BYTES);
        sum.compared++;
        if (answer.status === "rejected") {
          report(sum, `${formatRel(rel)} block ${block}: ${String(answer.reason)}`);
        } else comparePage(rel, block, answer.value, expected, sum);
      });
    }
  }
  if (blocks !== inFiles) {
    report(sum, `${formatRel(rel)}: ${blocks} blocks served, ${inFiles} in files`);
  }
}

function comparePage(
  rel: RelTag,
  block: number,
  served: Uint8Array,
  expected: Uint8Array,
  sum: Comparison,
): void {
  if (firstDifference(served, expected) < 0) {
    sum.equal++;
    return;
  }
  const mask = rel.fork === FORK_VM ? maskHeaderOnly : maskedPage;
  const at = firstDifference(mask(served, block), mask(expected, block));
  if (at < 0) {
    sum.maskedEqual++;
    return;
  }
  report(
    sum,
    `${formatRel(rel)} block ${block} (${pageKind(expected)}): first difference at byte ${at}, ` +
      `served ${hex(served, at)}, file ${hex(expected, at)}; served LSN ${hex(served, 0)}, file LSN ${hex(expected, 0)}`,
  );
}

/** A visibility map is compared whole but for pd_lsn and checksum. */
function maskHeaderOnly(page: Uint8Array): Uint8Array {
  const copy = page.slice();
  copy.fill(0, 0, 10);
  return copy;
}

const hex = (page: Uint8Array, at: number): string =>
  Buffer.from(page.subarray(at, at + 8)).toString("hex");

function report(sum: Comparison, text: string): void {
  sum.different++;
  if (sum.examples.length < EXAMPLES_MAX) sum.examples.push(text);
}
