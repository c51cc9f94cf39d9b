// SIGKILL, the short form of `npm run verify:restart`: a few kills under load, every page compared
// at the end; and a kill in the middle of a base backup.

import { setTimeout as sleep } from "node:timers/promises";
import { expect, test } from "vitest";
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
  } finally {
    await rounds.cleanup();
  }
  expect(rounds.report.examples).toEqual([]);
  expect(rounds.report.compared).toBeGreaterThan(5_000);
  expect(isGood(rounds.report)).toBe(true);
});

test("killed during a base backup, it knows nothing of it and takes it again", async () => {
  const primary = await startPostgres();
  const server = new ServerUnderTest();
  try {
    await primary.pgbench(["-i", "-q", "-s", "3"]);
    await server.start();
    // At this rate the backup takes about a minute.
    const slow = { conninfo: primary.uri, name: "prod", max_rate_bytes: 1_048_576 };
    const job = await server.client.follow(slow);
    for (let bytes = 0; bytes === 0; await sleep(50)) {
      const { state, error, steps } = await server.client.job(job.id);
      if (state !== "running") throw new Error(`the backup is ${state}: ${error}`);
      bytes = steps.find(({ name }) => name === "base backup")?.bytes_done ?? 0;
    }
    await server.kill();
    await server.start();
    await expect(server.client.timeline("prod")).rejects.toThrow(/"prod" does not exist/);
    await server.done(await server.client.follow({ conninfo: primary.uri, name: "prod" }));
    const { state, source } = await server.client.timeline("prod");
    expect([state, source.connection]).toEqual(["Active", "streaming"]);
    expect((await server.client.check()).problems).toEqual([]);
    // A slot that nobody uses would keep WAL on the primary for ever.
    const slots = "SELECT count(*), bool_and(active) FROM pg_replication_slots";
    expect(await primary.sql(slots)).toBe("1|t");
  } finally {
    await removeServer(server);
    await primary.cleanup();
  }
});
