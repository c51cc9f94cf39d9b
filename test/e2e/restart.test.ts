// SIGKILL, the short form of `npm run verify:restart`: a few kills under load, every page compared
// at the end; and a kill in the middle of a base backup.

import { setTimeout as sleep } from "node:timers/promises";
import { expect, test } from "vitest";
import type { Job } from "../../src/protocol/api-work.ts";
import { removeServer } from "../support/computes.ts";
import { startPostgres } from "../support/postgres.ts";
import { Random } from "../verify/random.ts";
import { RestartRounds, isGood } from "../verify/restart-rounds.ts";
import { ServerUnderTest } from "../verify/server.ts";

test("killed under load, it goes on with all that it had acknowledged", async () => {
  const seed = Date.now() % 1_000_000;
  const say = (line: string): void => void process.stdout.write(`seed ${seed}: ${line}\n`);
  const rounds = new RestartRounds({ rounds: 2, random: new Random(seed), say, scale: 1 });
  try {
    await rounds.begin();
    await rounds.round(1);
    await rounds.round(2);
    await rounds.end();
  } catch (error) {
    say(await rounds.describe());
    throw error;
  } finally {
    await rounds.cleanup();
  }
  expect(rounds.report.examples).toEqual([]);
  expect(rounds.report.compared).toBeGreaterThan(5_000);
  expect(isGood(rounds.report)).toBe(true);
});

test("a base backup that is cut short leaves nothing behind, and is taken again", async () => {
  const primary = await startPostgres();
  const server = new ServerUnderTest();
  // A slot that nobody uses would keep WAL on the primary for ever.
  const slots = (): Promise<string> =>
    primary.sql("SELECT count(*), count(*) FILTER (WHERE active) FROM pg_replication_slots");
  /** Begins to follow, at a rate at which the backup takes a minute; gives the job in its midst. */
  async function inTheMidst(): Promise<Job> {
    const rate = { max_rate_bytes: 1_048_576 };
    const { id } = await server.client.follow({ conninfo: primary.uri, name: "prod", ...rate });
    for (;;) {
      const job = await server.client.job(id);
      if (job.state !== "running") throw new Error(`the backup is ${job.state}: ${job.error}`);
      if (job.steps.some(({ bytes_done: bytes = 0 }) => bytes > 0)) return job;
      await sleep(50);
    }
  }
  try {
    await primary.pgbench(["-i", "-q", "-s", "3"]);
    await server.start();
    const job = await inTheMidst();
    const cut = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = ";
    await primary.sql(`${cut} 'walsender'`);
    await expect(server.done(job)).rejects.toThrow(/follow of prod: .*terminat/);
    expect(await slots()).toBe("0|0");
    await expect(server.client.timeline("prod")).rejects.toThrow(/"prod" does not exist/);

    await inTheMidst();
    await server.kill();
    await server.start();
    await expect(server.client.timeline("prod")).rejects.toThrow(/"prod" does not exist/);
    await server.done(await server.client.follow({ conninfo: primary.uri, name: "prod" }));
    const { state, source } = await server.client.timeline("prod");
    expect([state, source.connection]).toEqual(["Active", "streaming"]);
    expect((await server.client.check()).problems).toEqual([]);
    expect(await slots()).toBe("1|1");
  } finally {
    await removeServer(server);
    await primary.cleanup();
  }
});
