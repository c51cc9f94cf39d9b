// Bytes of sealed layers for each byte of database, when history has no length and everything is merged:
// of pgbench's tables, which compress, and of random bytes, which do not.

import type { Corpora } from "./corpus.ts";
import { type Result, figure, goal } from "./result.ts";
import { type Stores, TIMELINE } from "./stores.ts";

interface Bytes {
  readonly imported: number;
  readonly merged: number;
  /** Of all relations. */
  readonly logical: number;
}

/** `store` holds pgbench's tables as they were imported. `noisePages`: of the table of random bytes. */
export async function measureSpace(
  stores: Stores,
  store: string,
  corpora: Corpora,
  noisePages: number,
): Promise<readonly Result[]> {
  const pgbench = await measure(stores, store);
  // What every cluster has compresses: only what the table adds counts.
  const empty = await measure(stores, await imported(stores, corpora, 1));
  const both = await measure(stores, await imported(stores, corpora, noisePages));
  const noise: Bytes = {
    imported: both.imported - empty.imported,
    merged: both.merged - empty.merged,
    logical: both.logical - empty.logical,
  };
  return [
    figure("space, pgbench, as imported", pgbench.imported / pgbench.logical, "of its size"),
    goal("  merged", pgbench.merged / pgbench.logical, "of its size", "<=", 0.5),
    figure("space, random bytes, as imported", noise.imported / noise.logical, "of its size"),
    goal("  merged", noise.merged / noise.logical, "of its size", "<=", 1.1),
  ];
}

async function imported(stores: Stores, corpora: Corpora, noisePages: number): Promise<string> {
  const base = await corpora.noiseBase(noisePages);
  const { dataDir } = await stores.imported(base.dataDir);
  corpora.remove(base.dataDir);
  return dataDir;
}

async function measure(stores: Stores, store: string): Promise<Bytes> {
  const { process: server, end } = await stores.serve(store);
  try {
    const logical = await server.ask({ do: "logical-bytes", timeline: TIMELINE });
    const before = await server.ask({ do: "sealed-bytes", timeline: TIMELINE });
    await server.ask({ do: "compact", timeline: TIMELINE });
    const merged = await server.ask({ do: "sealed-bytes", timeline: TIMELINE });
    return { imported: before, merged, logical };
  } finally {
    await end();
  }
}
