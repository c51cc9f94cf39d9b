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
  /** Visibility maps of a logged database copy that lack bits which PostgreSQL did not log. */
  vmNotLogged: number;
  different: number;
  /** First few differences, as sentences. */
  readonly examples: string[];
}

export const noComparison = (): Comparison => ({
  relations: 0,
  compared: 0,
  equal: 0,
  maskedEqual: 0,
  vmNotLogged: 0,
  different: 0,
  examples: [],
});

/** Adds `found` to `sum`. */
export function addComparison(sum: Comparison, found: Comparison): void {
  for (const key of [
    "relations",
    "compared",
    "equal",
    "maskedEqual",
    "vmNotLogged",
    "different",
  ] as const) {
    sum[key] += found[key];
  }
  sum.examples.push(...found.examples.slice(0, EXAMPLES_MAX));
}

export interface Served {
  readonly port: number;
  readonly tenant: string;
  readonly timeline: string;
  /**
   * Databases that CREATE DATABASE … STRATEGY wal_log made on the very cluster that is compared. It logs the
   * copied visibility map as if everything between pd_lower and pd_upper were unused, so the bits are
   * not in the WAL (RelationCopyStorageUsingBuffer, bufmgr.c): no standby has them either.
   */
  readonly loggedCopies?: ReadonlySet<number>;
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
    const lossy = rel.fork === FORK_VM && served.loggedCopies?.has(rel.db) === true;
    await compareRelation(rel, files, stream, lsn, lossy, sum);
  }
  await client.close();
}

async function compareRelation(
  rel: RelTag,
  files: readonly string[],
  stream: PageStreamClient,
  lsn: Lsn,
  lossy: boolean,
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
    // Not as a Buffer: its slice() does not copy.
    const bytes = new Uint8Array(fs.readFileSync(file));
    const count = bytes.length / PAGE_BYTES;
    inFiles = segment * RELSEG_BLOCKS + count;
    for (let from = 0; from < count; from += DEPTH) {
      const first = segment * RELSEG_BLOCKS + from;
      const pages = await readPages(stream, rel, first, Math.min(DEPTH, count - from), blocks, at);
      pages.forEach((served, i) => {
        const expected = bytes.subarray((from + i) * PAGE_BYTES, (from + i + 1) * PAGE_BYTES);
        sum.compared++;
        if (typeof served === "string")
          report(sum, `${formatRel(rel)} block ${first + i}: ${served}`);
        else if (lossy && lacksBitsOnly(served, expected)) sum.vmNotLogged++;
        else comparePage(rel, first + i, served, expected, sum);
      });
    }
  }
  // A file may be longer, by pages that were added and never written: PostgreSQL logs no extension.
  // They were compared with zeros above.
  if (blocks > inFiles) report(sum, `${formatRel(rel)}: ${blocks} blocks, ${inFiles} in files`);
}

/** Pages, or why there is none. A visibility map that the page server does not know is all zeros. */
async function readPages(
  stream: PageStreamClient,
  rel: RelTag,
  first: number,
  count: number,
  blocks: number,
  at: { readonly lsn: Lsn; readonly notModifiedSince: Lsn },
): Promise<readonly (Uint8Array | string)[]> {
  if (rel.fork === FORK_VM && blocks === 0) return Array<Uint8Array>(count).fill(ZERO_PAGE);
  const pages = await Promise.allSettled(
    Array.from({ length: count }, (_, i) => stream.getPage(rel, first + i, at)),
  );
  return pages.map((p) => (p.status === "fulfilled" ? p.value : String(p.reason)));
}

const ZERO_PAGE = new Uint8Array(PAGE_BYTES);

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

/** Of a visibility map every bit counts; its header does not: an empty page and none mean the same. */
function maskHeaderOnly(page: Uint8Array): Uint8Array {
  const copy = new Uint8Array(page);
  copy.fill(0, 0, 24);
  return copy;
}

/** True when the served visibility map differs, and only by bits that are not set: the safe direction. */
function lacksBitsOnly(served: Uint8Array, expected: Uint8Array): boolean {
  const a = maskHeaderOnly(served);
  const b = maskHeaderOnly(expected);
  return firstDifference(a, b) >= 0 && a.every((byte, i) => (byte & ~b[i]!) === 0);
}

const hex = (page: Uint8Array, at: number): string =>
  Buffer.from(page.subarray(at, at + 8)).toString("hex");

function report(sum: Comparison, text: string): void {
  sum.different++;
  if (sum.examples.length < EXAMPLES_MAX) sum.examples.push(text);
}
