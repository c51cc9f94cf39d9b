// Free ports for programs that run side by side.

import { createServer } from "node:net";

/** How many ports above the wished one are tried. */
const PORTS_TRIED_MAX = 200;

/** The first free port on loopback from `wished` on. Somebody else may still take it first. */
export async function freePort(wished: number): Promise<number> {
  for (let port = wished; port < wished + PORTS_TRIED_MAX; port++) {
    if (await isFree(port)) return port;
  }
  throw new Error(`no free port between ${wished} and ${wished + PORTS_TRIED_MAX - 1}`);
}

function isFree(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const probe = createServer();
    probe.once("error", () => resolve(false));
    probe.listen({ port, host: "127.0.0.1" }, () => probe.close(() => resolve(true)));
  });
}
