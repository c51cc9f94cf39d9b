// How long a branch takes, of a small and of a large timeline: the page server's own time from the
// request to the answer, and until the branch can be read.

import { type Result, figure, goal } from "./result.ts";
import { type Stores, TIMELINE } from "./stores.ts";
import { median } from "./wait.ts";

/** Branches of each timeline, in turns. */
export const BRANCHES = 40;

export async function measureBranches(
  stores: Stores,
  small: string,
  large: string,
): Promise<readonly Result[]> {
  const servers = [await stores.serve(small), await stores.serve(large)] as const;
  const times: [number[], number[]] = [[], []];
  try {
    for (let i = 0; i < BRANCHES; i++) {
      for (const [n, server] of servers.entries()) {
        const name = `branch-${i}`;
        times[n]!.push(await server.process.ask({ do: "branch", timeline: TIMELINE, name }));
      }
    }
  } finally {
    await Promise.all(servers.map((server) => server.end()));
  }
  const [smallMs, largeMs] = times.map(median) as [number, number];
  return [
    figure("branch of an empty cluster", smallMs, "ms"),
    figure("branch of the pgbench cluster", largeMs, "ms"),
    goal("  ratio", largeMs / smallMs, "", "<=", 2),
  ];
}
