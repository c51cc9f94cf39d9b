// Many links at once, and one tenant that asks for more than its share while another reads on. The flood
// comes from a process of its own, so that what is measured is the server.

import { fork } from "node:child_process";
import { fileURLToPath } from "node:url";
import { PageClient } from "../support/page-client.ts";

export interface LoadTarget {
  readonly port: number;
  readonly token: string;
  readonly tenant: string;
  readonly timeline: string;
}

/** pg_class of template1: there in every new cluster. */
const REL = { spc: 1663, db: 1, rel: 1259, fork: 0 };
const BLOCKS = 8;
const MEASURE_MS = 5_000;
const FLOOD_LINKS = 16;
const FLOOD_DEPTH = 128;

const connect = ({ port, token }: LoadTarget): Promise<PageClient> =>
  PageClient.connect({ port, password: token });

/** How many pages the busy ones got while the idle ones were there. */
export async function manyConnections(
  target: LoadTarget,
  idle: number,
  busy: number,
): Promise<{ readonly idle: number; readonly busy: number; readonly pages: number }> {
  const open = async (count: number): Promise<readonly PageClient[]> => {
    const clients: PageClient[] = [];
    while (clients.length < count) {
      const some = Array.from({ length: Math.min(50, count - clients.length) }, () =>
        connect(target),
      );
      clients.push(...(await Promise.all(some)));
    }
    return clients;
  };
  const silent = await open(idle);
  const working = await open(busy);
  let pages = 0;
  const until = performance.now() + MEASURE_MS;
  await Promise.all(
    working.map(async (client) => {
      const stream = await client.pagestream(target.tenant, target.timeline, 3);
      while (performance.now() < until) {
        await stream.getPage(REL, pages % BLOCKS);
        pages++;
      }
    }),
  );
  for (const client of silent) await client.query("set still to here");
  await Promise.all([...silent, ...working].map((client) => client.close()));
  return { idle: silent.length, busy: working.length, pages };
}

/** p99 of one reader of `quiet`, ms, alone and while `flooded` is asked for all it gives. */
export async function floodFairness(
  flooded: LoadTarget,
  quiet: LoadTarget,
): Promise<{ readonly alone: number; readonly beside: number; readonly ratio: number }> {
  const client = await connect(quiet);
  const stream = await client.pagestream(quiet.tenant, quiet.timeline, 3);
  const p99 = async (): Promise<number> => {
    const times: number[] = [];
    for (const end = performance.now() + MEASURE_MS; performance.now() < end;) {
      const from = performance.now();
      await stream.getPage(REL, times.length % BLOCKS);
      times.push(performance.now() - from);
      await new Promise((resolve) => setTimeout(resolve, 1));
    }
    times.sort((a, b) => a - b);
    return times[Math.floor(times.length * 0.99)]!;
  };
  await p99();
  const alone = await p99();
  const flood = fork(fileURLToPath(import.meta.url), [JSON.stringify(flooded)], {
    execArgv: ["--import", "tsx"],
  });
  await new Promise((resolve) => flood.once("message", resolve));
  const beside = await p99();
  flood.kill("SIGTERM");
  await client.close();
  const round = (value: number): number => Math.round(value * 100) / 100;
  return { alone: round(alone), beside: round(beside), ratio: round(beside / alone) };
}

async function flood(target: LoadTarget): Promise<void> {
  const one = async (): Promise<void> => {
    const stream = await (await connect(target)).pagestream(target.tenant, target.timeline, 3);
    const ask = async (): Promise<void> => {
      for (let n = 0; ; n++) await stream.getPage(REL, n % BLOCKS);
    };
    await Promise.all(Array.from({ length: FLOOD_DEPTH }, ask));
  };
  const all = Array.from({ length: FLOOD_LINKS }, one);
  setTimeout(() => process.send?.("flooding"), 1_000);
  await Promise.all(all);
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  await flood(JSON.parse(process.argv[2]!) as LoadTarget);
}
