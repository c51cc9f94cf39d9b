// Timelines that nobody uses, of a tenant that has many: they are not loaded, and nobody who asks notices.

import { expect, test } from "vitest";
import { sealedOf } from "../../src/actors/directory.ts";
import { ask } from "../../src/actors/runtime.ts";
import type { TenantMsg } from "../../src/actors/tenant.ts";
import type { AdminError } from "../../src/core/admin-error.ts";
import { TIMELINE_LOOK_MS, TIMELINE_SLEEP_MS } from "../../src/core/limits.ts";
import type { Result } from "../../src/core/result.ts";
import { until } from "../support/replication.ts";
import { timelineTest } from "../support/timeline-test.ts";
import { MAIN } from "../support/timeline-world.ts";

const t = timelineTest();
let nowMs = 0;
const MANY = { timelinesAwake: 0, clock: { steadyMs: () => nowMs } };

const sleeps = (id = MAIN): boolean => t.world.tenant.timelines.get(id)!.asleep !== undefined;
const tick = (): void => t.world.tenant.ref.tell({ kind: "tick" });
const actors = (): number =>
  t.world.system.tree().filter(({ path }) => path.includes("/timeline-")).length;

/** Nobody asks for anything, for so long. */
async function untilAsleep(id = MAIN): Promise<void> {
  nowMs += TIMELINE_SLEEP_MS;
  await until("it sleeps", () => {
    tick();
    return sleeps(id);
  });
}

/** Pages 0 to 9, sealed, and a branch of them. */
async function sealedBranch(): Promise<typeof MAIN> {
  t.addPages(10);
  await t.takeIn();
  await t.seal();
  return t.branchAt(t.wal.end);
}

test("after a start they are an entry and an address; a read loads one, and what it reads through", async () => {
  const branch = await sealedBranch();
  const { positions } = t.world.main.facts;
  await t.reopen(MANY);
  expect([sleeps(), sleeps(branch), actors()]).toEqual([true, true, 0]);
  expect(t.world.main.facts.positions).toEqual(positions);
  expect(sealedOf(t.world.main)).toMatchObject({ layers: 2 });
  expect(await t.world.fill(3, { id: branch })).toBe(4);
  expect([sleeps(), sleeps(branch), actors()]).toEqual([false, false, 2]);
  expect(t.world.main.facts.positions).toEqual(positions);
});

test("what is not in sealed layers is loaded", async () => {
  t.addPages(10);
  await t.takeIn();
  await t.reopen(MANY);
  expect(sleeps()).toBe(false);
  await t.world.loaded();
  expect(t.world.main.facts.positions.durable).toBe(t.wal.end);
  expect(await t.world.fill(9)).toBe(10);
});

test("one that nobody asks goes to sleep, but not while a branch that is awake reads through it", async () => {
  const branch = await sealedBranch();
  await t.reopen(MANY);
  await t.world.fill(0, { id: branch });
  nowMs += TIMELINE_SLEEP_MS;
  await t.world.fill(0, { id: branch });
  for (let i = 0; i < 3; i++) {
    tick();
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
  expect([sleeps(), sleeps(branch)]).toEqual([false, false]);
  await untilAsleep(branch);
  await untilAsleep();
  await until("no actor is left", () => actors() === 0);
  expect(await t.world.fill(5, { id: branch })).toBe(6);
});

test("what is asked while it goes to sleep is answered", async () => {
  const branch = await sealedBranch();
  await t.reopen(MANY);
  for (let i = 0; i < 20; i++) {
    await t.world.fill(0, { id: branch });
    nowMs += TIMELINE_SLEEP_MS;
    const { ref } = t.world.tenant.timelines.get(branch)!;
    ref.tell({ kind: "tick" });
    // The first waits behind the tick that ends the actor, the second comes when it has ended.
    const first = t.world.fill(1, { id: branch });
    await new Promise((resolve) => setImmediate(resolve));
    expect(await Promise.all([first, t.world.fill(2, { id: branch })])).toEqual([2, 3]);
  }
});

test("it takes in WAL, gives leases and is branched as if it had been awake", async () => {
  await sealedBranch();
  const end = t.wal.end;
  await t.reopen(MANY);
  const lease = await t.world.ask<Result<number, AdminError>>((reply) => ({
    kind: "lease",
    lsn: end,
    reply,
  }));
  expect(lease).toMatchObject({ ok: true });
  await untilAsleep();
  t.addPages(1, 77);
  await t.takeIn(end);
  expect(await t.world.fill(0)).toBe(77);
  expect(await t.world.fill(0, { lsn: end })).toBe(1);
});

test("one that has layers is woken now and then, for history that may go; one that has none is not", async () => {
  const branch = await sealedBranch();
  await t.reopen(MANY);
  tick();
  await new Promise((resolve) => setTimeout(resolve, 20));
  expect(sleeps()).toBe(true);
  nowMs += TIMELINE_LOOK_MS;
  tick();
  await until("it is loaded", () => t.world.main.store !== undefined);
  expect(sleeps(branch)).toBe(true);
});

test("it is deleted, with its branches, without being loaded", async () => {
  await sealedBranch();
  await t.reopen(MANY);
  const removed = await ask<TenantMsg, Result<readonly string[], AdminError>>(
    t.world.tenant.ref,
    (reply) => ({ kind: "remove", timeline: MAIN, recursive: true, reply }),
    10_000,
  );
  expect(removed).toEqual({ ok: true, value: ["branch", "main"] });
  expect([actors(), t.world.tenant.timelines.size]).toEqual([0, 0]);
});
