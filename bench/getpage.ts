// GetPage over real sockets: pages that have an image, against a bare Node server; and pages to which
// ten records must be applied. The load comes from a process of its own.

import { Child } from "./child.ts";
import type { Base, Crashed } from "./corpus.ts";
import type { LoadCommand } from "./load-client.ts";
import { type Result, figure, goal } from "./result.ts";
import { type RunningServer, type Stores, TIMELINE } from "./stores.ts";
import { TENANT } from "./tenant.ts";
import { median } from "./wait.ts";

const CONNECTIONS = 8;
const DEPTH = 64;
/** Pages that are read again and again: more than the page server keeps, all in the system's cache. */
const IMAGE_PAGES_MAX = 40_000;
export const RECORDS_A_PAGE = 10;
/** Part of the pages that is read before the clock runs: processes start, code is compiled. */
const WARM_UP_PART = 0.25;

const AT = { tenant: TENANT, timeline: TIMELINE };

/** Pages of the imported base, in random order. */
export async function measureImages(
  stores: Stores,
  store: string,
  base: Base,
  options: { readonly rounds: number; readonly seconds: number },
): Promise<readonly Result[]> {
  const server = await stores.serve(store);
  const bare = new Child<object>("bare-server");
  const client = new Child<LoadCommand>("load-client");
  try {
    const barePort = await bare.ask({});
    const blocks = Math.min(base.table.blocks, IMAGE_PAGES_MAX);
    const { seconds } = options;
    const load = { do: "load", rel: base.table, lsn: base.startLsn, seconds } as const;
    const both = { ...load, firstBlock: 0, blocks, connections: CONNECTIONS, depth: DEPTH };
    const ours: number[] = [];
    const theirs: number[] = [];
    for (let i = 0; i < options.rounds; i++) {
      theirs.push(await client.ask({ ...both, port: barePort, timeline: undefined }));
      ours.push(await client.ask({ ...both, port: server.port, timeline: AT }));
    }
    const ratio = median(ours.map((own, i) => own / theirs[i]!));
    return [
      figure("GetPage with an image", median(ours) / 1000, "k pages/s"),
      figure("  bare Node server", median(theirs) / 1000, "k pages/s"),
      goal("  ratio", ratio, "", ">=", 0.4),
    ];
  } finally {
    await Promise.all([client.end(), bare.end(), server.end()]);
  }
}

/**
 * Pages once a round, in an order without locality, of a server that was started for it: it has
 * no rebuilt page yet, so that each is rebuilt.
 */
export async function measureRedo(
  stores: Stores,
  store: string,
  base: Base,
  crashed: Crashed,
  rounds: number,
): Promise<readonly Result[]> {
  const speeds: number[] = [];
  const client = new Child<LoadCommand>("load-client");
  let server: RunningServer | undefined;
  try {
    const { endLsn: lsn, dataDir: from } = crashed;
    const warmUp = Math.floor(base.table.blocks * WARM_UP_PART);
    const blocks = base.table.blocks - warmUp;
    for (let i = 0; i < rounds; i++) {
      await server?.end();
      server = await stores.serve(store);
      await server.process.ask({ do: "ingest", timeline: TIMELINE, from, end: lsn });
      await server.process.ask({ do: "settle", timeline: TIMELINE });
      const load = { do: "load", rel: base.table, lsn, port: server.port, timeline: AT } as const;
      const all = { ...load, connections: CONNECTIONS, depth: DEPTH, seconds: "once" } as const;
      await client.ask({ ...all, firstBlock: 0, blocks: warmUp });
      speeds.push(await client.ask({ ...all, firstBlock: warmUp, blocks }));
    }
  } finally {
    await client.end();
    await server?.end();
  }
  const speed = median(speeds);
  return [
    figure(`GetPage with ${RECORDS_A_PAGE} records to apply`, speed / 1000, "k pages/s"),
    goal("  a record", 1e6 / (speed * RECORDS_A_PAGE), "µs", "<=", 4),
  ];
}
