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
/** Pages that are read again and again: what the page cache holds, and more than that, all in the system's cache. */
const CACHED_PAGES_MAX = 30_000;
const IMAGE_PAGES_MAX = 40_000;
export const RECORDS_A_PAGE = 10;
/** Part of the pages that is read before the clock runs: processes start, code is compiled. */
const WARM_UP_PART = 0.4;

const AT = { tenant: TENANT, timeline: TIMELINE };

/** Pages of the imported base, in random order: as many as the page cache holds, then more. */
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
    const { rounds, seconds } = options;
    const load = { do: "load", rel: base.table, lsn: base.startLsn, seconds } as const;
    const all = { ...load, firstBlock: 0, connections: CONNECTIONS, depth: DEPTH };
    const sets = [CACHED_PAGES_MAX, IMAGE_PAGES_MAX].map((max) => {
      const blocks = Math.min(base.table.blocks, max);
      const ours = { ...all, blocks, port: server.port, timeline: AT };
      return { ours, bare: { ...all, blocks, port: barePort, timeline: undefined } };
    });
    const results: Result[] = [];
    for (const [i, { ours, bare: theirs }] of sets.entries()) {
      const speeds: { readonly own: number; readonly other: number }[] = [];
      await client.ask({ ...ours, seconds: "once" });
      await server.process.ask({ do: "counting" });
      for (let round = 0; round < rounds; round++) {
        const other = await client.ask(theirs);
        speeds.push({ other, own: await client.ask(ours) });
      }
      const counted = await server.process.ask({ do: "counting" });
      const where = i === 0 ? "all in the page cache" : "more than the page cache holds";
      results.push(
        figure(
          `GetPage with an image, ${where}`,
          median(speeds.map((s) => s.own)) / 1000,
          "k pages/s",
        ),
        figure("  bare Node server", median(speeds.map((s) => s.other)) / 1000, "k pages/s"),
        goal("  ratio", median(speeds.map(({ own, other }) => own / other)), "", ">=", 0.4),
        goal("  counting, of the server's time", counted * 100, "%", "<=", 2),
      );
    }
    return results;
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
