// Computes of a page server under test, booted and stopped through its API, and SQL on them.

import pg from "pg";
import { findPostgres } from "../../src/io/postgres.ts";
import { stopCompute } from "../../src/io/compute.ts";
import type { ComputeInfo } from "../../src/protocol/api-work.ts";
import type { ServerUnderTest } from "../verify/server.ts";
import { PG_BIN } from "./postgres.ts";

/**
 * Boots a compute on a timeline; with "synchronous" its commits wait for the page server; with
 * "full-copy" its directory holds all relations.
 */
export async function bootOn(
  server: ServerUnderTest,
  timeline: string,
  commits: "synchronous" | "asynchronous" = "synchronous",
  pages: "diskless" | "full-copy" = "diskless",
): Promise<ComputeInfo> {
  const request = {
    timeline,
    synchronous: commits === "synchronous",
    diskless: pages === "diskless",
  };
  const job = await server.done(await server.client.startCompute(request));
  const compute = job.result?.compute;
  if (compute === undefined) throw new Error(`the job says nothing of the compute on ${timeline}`);
  return compute;
}

/** Stops it; all it has written is in its timeline then. */
export async function haltOn(server: ServerUnderTest, timeline: string): Promise<void> {
  await server.done(await server.client.stopCompute(timeline));
}

/** Ends the server of a compute's directory by force, if one runs there. */
export async function dropCompute(dir: string): Promise<void> {
  const programs = await findPostgres({ major: 15, binDir: PG_BIN });
  await stopCompute(dir, { programs, mode: "immediate" });
}

/** Ends everything that a server has started, itself last, and removes its data. */
export async function removeServer(server: ServerUnderTest): Promise<void> {
  const computes = await server.client.computes().catch(() => []);
  for (const { dir } of computes) await dropCompute(dir);
  await server.cleanup();
}

/** One statement; its rows as arrays of text. */
export async function rowsOf(uri: string, text: string): Promise<readonly (readonly string[])[]> {
  const client = new pg.Client(uri);
  await client.connect();
  try {
    const found = await client.query<unknown[]>({ text, rowMode: "array" });
    return found.rows.map((row) => row.map(String));
  } finally {
    await client.end();
  }
}

/** The one value of the one row. */
export async function valueOf(uri: string, text: string): Promise<string> {
  const [row] = await rowsOf(uri, text);
  if (row?.length !== 1) throw new Error(`not one value: ${text}`);
  return row[0]!;
}
