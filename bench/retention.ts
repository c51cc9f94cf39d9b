// What keeping history costs while people work: ingest and page reads beside a merge of everything, bytes written
// and stored for each byte of a database that is overwritten again and again, letting go of history that many
// branches hold, and how far a read has to look when all that is over.

import fs from "node:fs";
import type { TimelineId } from "../src/core/ids.ts";
import type { Lsn } from "../src/core/lsn.ts";
import { Child } from "./child.ts";
import type { Base, Corpora, Crashed } from "./corpus.ts";
import type { LoadCommand } from "./load-client.ts";
import { type Result, figure, goal } from "./result.ts";
import { addBranches } from "./scale.ts";
import { type RunningServer, type Stores, TIMELINE } from "./stores.ts";
import { TENANT } from "./tenant.ts";

const MB = 1e6;
const SAMPLE_MS = 20;
const OVERWRITES = 10;
const LINKS = 4;

interface Compared {
  readonly alone: number;
  readonly beside: number;
  /** The merge had not ended when what was measured beside it had. */
  readonly lasted: boolean;
}

/**
 * Measures something alone, and beside a merge of all layers of a timeline: the database and several tiers
 * over it. Each time there is another branch for it. A server of its own, because a merge can be had once.
 */
async function compare(
  stores: Stores,
  store: string,
  { dataDir: from, endLsn: end }: Crashed,
  measure: (server: RunningServer, branch: TimelineId) => Promise<number>,
): Promise<Compared> {
  const branches: TimelineId[] = [];
  const server = await stores.serve(store, (dir) => branches.push(...addBranches(dir, 2)));
  const { process: asked } = server;
  const [first, second] = branches as [TimelineId, TimelineId];
  try {
    await asked.ask({ do: "ingest", timeline: TIMELINE, from, end });
    await asked.ask({ do: "settle", timeline: TIMELINE });
    const alone = await measure(server, first);
    await asked.ask({ do: "settle", timeline: first });
    await asked.ask({ do: "compacting", timeline: TIMELINE });
    const beside = await measure(server, second);
    const lasted = (await asked.ask({ do: "merging", timeline: TIMELINE })) === 1;
    return { alone, beside, lasted };
  } finally {
    await server.end();
  }
}

/** Ingest, and page reads, alone and beside a merge of all layers of another timeline of the process. */
export async function measureBesideMerge(
  stores: Stores,
  store: string,
  base: Base,
  crashed: Crashed,
  seconds: number,
): Promise<readonly Result[]> {
  const { endLsn: end, dataDir: from } = crashed;
  const ingest = await compare(stores, store, crashed, ({ process: asked }, timeline) =>
    asked.ask({ do: "ingest", timeline, from, end }),
  );
  const client = new Child<LoadCommand>("load-client");
  try {
    const read = (server: RunningServer): Promise<number> =>
      client.ask({
        ...{ do: "load", rel: base.table, lsn: base.startLsn, port: server.port },
        timeline: { tenant: TENANT, timeline: TIMELINE },
        ...{ firstBlock: 0, blocks: base.table.blocks },
        ...{ connections: LINKS, depth: 1, seconds, gives: "p99" },
      });
    let warm = false;
    const reads = await compare(stores, store, crashed, async (server) => {
      if (!warm) await read(server);
      warm = true;
      return read(server);
    });
    return [
      goal("ingest beside a merge, of ingest alone", ingest.alone / ingest.beside, "", ">=", 0.7),
      figure("  the merge lasted as long as that", ingest.lasted ? 1 : 0, ""),
      figure("GetPage, idle, 99th percentile", reads.alone, "ms"),
      figure("  beside a merge", reads.beside, "ms"),
      goal("  ratio", reads.beside / reads.alone, "", "<=", 3),
      figure("  the merge lasted as long as that", reads.lasted ? 1 : 0, ""),
    ];
  } finally {
    await client.end();
  }
}

/** A table that is written ten times over, an image of each page each time. */
export async function measureAmplification(
  stores: Stores,
  corpora: Corpora,
  pages: number,
): Promise<readonly Result[]> {
  const base = await corpora.halfFullBase(pages);
  const { dataDir: store } = await stores.imported(base.dataDir);
  const crashed = await corpora.overwrites(base, OVERWRITES);
  const server = await stores.serve(store);
  const client = new Child<LoadCommand>("load-client");
  try {
    const { process: asked } = server;
    const at = { timeline: TIMELINE } as const;
    const before = writtenBy(server);
    const { endLsn: end, dataDir: from } = crashed;
    await asked.ask({ do: "ingest", ...at, from, end });
    await asked.ask({ do: "settle", ...at });
    const wal = end - base.startLsn;
    // WAL files are written as WAL comes: one byte a byte.
    const written = writtenBy(server) - before - wal;
    const kept = await asked.ask({ do: "sealed-bytes", ...at });
    const costs = await readCosts(server, client, base, end);
    await asked.ask({ do: "collect", ...at });
    const logical = await asked.ask({ do: "logical-bytes", ...at });
    const stored = await asked.ask({ do: "sealed-bytes", ...at });
    return [
      figure(`WAL of ${OVERWRITES} overwrites of ${pages} pages`, wal / MB, "MB"),
      figure("  bytes written to layers, a byte of WAL", written / wal, ""),
      figure("  stored, all history kept, a byte of WAL", kept / wal, ""),
      figure("  stored, no history kept, a byte of database", stored / logical, ""),
      ...costs,
    ];
  } finally {
    await Promise.all([client.end(), server.end()]);
    corpora.remove(crashed.dataDir);
  }
}

/** Of reads of all pages at the end, when merges have caught up. */
async function readCosts(
  server: RunningServer,
  client: Child<LoadCommand>,
  base: Base,
  lsn: Lsn,
): Promise<readonly Result[]> {
  const at = { tenant: TENANT, timeline: TIMELINE };
  const load = { do: "load", rel: base.table, lsn, port: server.port, timeline: at } as const;
  const all = { firstBlock: 0, blocks: base.table.blocks, connections: LINKS, depth: 16 };
  await client.ask({ ...load, ...all, seconds: "once" });
  const layers = await server.process.ask({ do: "layers-p99" });
  const records = await server.process.ask({ do: "records-p99" });
  return [
    goal("layers a page read looks into, 99th percentile", layers, "", "<=", 8),
    goal("records it applies, 99th percentile", records, "", "<=", 20),
  ];
}

/** Letting go of history of which many branches each hold one moment. */
export async function measureCollect(
  stores: Stores,
  corpora: Corpora,
  sizes: { readonly pages: number; readonly branches: number },
): Promise<readonly Result[]> {
  const base = await corpora.roomyBase(sizes.pages);
  const { dataDir: store } = await stores.imported(base.dataDir);
  const crashed = await corpora.updates(base, OVERWRITES);
  const { endLsn: end, dataDir: from } = crashed;
  const server = await stores.serve(store);
  try {
    const { process: asked } = server;
    await asked.ask({ do: "ingest", timeline: TIMELINE, from, end });
    const step = (end - base.startLsn) / (sizes.branches + 1);
    let branching = 0;
    for (let i = 1; i <= sizes.branches; i++) {
      const lsn = (Math.floor((base.startLsn + i * step) / 8) * 8) as Lsn;
      branching += await asked.ask({ do: "branch", timeline: TIMELINE, name: `b${i}`, lsn });
    }
    await asked.ask({ do: "settle", timeline: TIMELINE });
    const before = anonymous(server);
    const watched = watchMemory(server);
    const seconds = await asked
      .ask({ do: "collect", timeline: TIMELINE })
      .finally(() => watched.stop());
    return [
      goal(`letting history go that ${sizes.branches} branches hold`, seconds, "s", "<=", 5),
      goal("  memory beyond what was used before", (watched.peak() - before) / MB, "MB", "<=", 200),
      figure("  making one of these branches", branching / sizes.branches, "ms"),
    ];
  } finally {
    await server.end();
    corpora.remove(crashed.dataDir);
  }
}

/** Bytes that the process has handed to the kernel for writing. */
function writtenBy({ process }: RunningServer): number {
  const io = fs.readFileSync(`/proc/${process.pid}/io`, "utf8");
  return Number(/^wchar: (\d+)/m.exec(io)?.[1]);
}

function anonymous({ process }: RunningServer): number {
  const status = fs.readFileSync(`/proc/${process.pid}/status`, "utf8");
  return Number(/^RssAnon:\s+(\d+) kB/m.exec(status)?.[1]) * 1024;
}

/** Looks at memory of the process's own again and again. */
function watchMemory(server: RunningServer): {
  readonly peak: () => number;
  readonly stop: () => void;
} {
  let peak = 0;
  const look = (): void => {
    peak = Math.max(peak, anonymous(server));
  };
  look();
  const timer = setInterval(look, SAMPLE_MS);
  return { peak: () => peak, stop: () => clearInterval(timer) };
}
