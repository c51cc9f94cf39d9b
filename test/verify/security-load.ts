// Many links at once, and one tenant that asks for more than its share while another reads on. The flood
// comes from a process of its own, so that what is measured is the server.

import { fork } from "node:child_process";
import type net from "node:net";
import { constants, setPriority } from "node:os";
import { fileURLToPath } from "node:url";
import { PAGE_BYTES } from "../../src/core/page.ts";
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
const MEASURE_MS = 3_000;
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

/**
 * p99 of one reader of `quiet`, ms, alone and while `flooded` is asked for all it gives, in turns: the
 * median of the rounds' ratios counts, so that one pause of the machine decides nothing.
 */
export async function floodFairness(
  flooded: LoadTarget,
  quiet: LoadTarget,
  rounds: number,
): Promise<{ readonly rounds: readonly FloodRound[]; readonly ratio: number }> {
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
  const flood = fork(fileURLToPath(import.meta.url), [JSON.stringify(flooded)], {
    execArgv: ["--import", "tsx"],
  });
  const heard = async (what: "flood" | "rest"): Promise<number> => {
    const answer = new Promise<number>((resolve) => flood.once("message", resolve));
    flood.send(what);
    return answer;
  };
  const measured: FloodRound[] = [];
  await p99();
  while (measured.length < rounds) {
    const alone = await p99();
    await heard("flood");
    const beside = await p99();
    const pages = await heard("rest");
    const round = (value: number): number => Math.round(value * 100) / 100;
    const ms = { alone: round(alone), beside: round(beside), ratio: round(beside / alone) };
    measured.push({ ...ms, floodedPages: pages });
  }
  flood.kill("SIGTERM");
  await client.close();
  const ratios = measured.map(({ ratio }) => ratio).sort((a, b) => a - b);
  return { rounds: measured, ratio: ratios[ratios.length >> 1]! };
}

export interface FloodRound {
  readonly alone: number;
  readonly beside: number;
  readonly ratio: number;
  readonly floodedPages: number;
}

/**
 * Writes requests as fast as the server takes them and throws the answers away. It has what the
 * machine's other processes leave of the processors: on a small one it would otherwise take the
 * measuring client's, and that is no business of the server's.
 */
async function flood(target: LoadTarget): Promise<void> {
  setPriority(constants.priority.PRIORITY_LOW);
  const requests = floodRequests();
  let sockets: net.Socket[] = [];
  let bytes = 0;
  const one = async (): Promise<net.Socket> => {
    const client = await connect(target);
    await client.pagestream(target.tenant, target.timeline, 3);
    const { socket } = client;
    socket.removeAllListeners("data").on("data", (chunk) => (bytes += chunk.length));
    socket.on("drain", () => more()).on("error", () => undefined);
    const more = (): void => {
      while (!socket.destroyed && socket.write(requests));
    };
    more();
    return socket;
  };
  process.on("message", (what) => {
    if (what === "flood") {
      bytes = 0;
      void Promise.all(Array.from({ length: FLOOD_LINKS }, one)).then((all) => {
        sockets = all;
        process.send?.(0);
      });
    } else {
      for (const socket of sockets) socket.destroy();
      process.send?.(Math.floor(bytes / PAGE_BYTES));
    }
  });
}

/** FLOOD_DEPTH requests for pages, as CopyData messages. */
function floodRequests(): Buffer {
  const one = (block: number): Buffer => {
    const message = Buffer.alloc(5 + 25 + 17);
    message.write("d", 0);
    message.writeUInt32BE(message.length - 1, 1);
    message[5] = 2;
    message.fill(0xff, 14, 22);
    message.writeBigUInt64BE(1n, 22);
    message.writeUInt32BE(REL.spc, 30);
    message.writeUInt32BE(REL.db, 34);
    message.writeUInt32BE(REL.rel, 38);
    message.writeUInt32BE(block, 43);
    return message;
  };
  return Buffer.concat(Array.from({ length: FLOOD_DEPTH }, (_, n) => one(n % BLOCKS)));
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  await flood(JSON.parse(process.argv[2]!) as LoadTarget);
}
