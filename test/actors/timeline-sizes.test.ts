// The logical size of a live timeline: kept record by record, through seals and restarts, in branches
// too, and the same as a walk over all sizes.

import { expect, test } from "vitest";
import { timelineSizes } from "../../src/app/sizes.ts";
import { PAGE_BYTES } from "../../src/core/page.ts";
import { timelineTest } from "../support/timeline-test.ts";
import { MAIN } from "../support/timeline-world.ts";

const t = timelineTest();

const handle = (id = MAIN) => t.world.tenant.timelines.get(id)!;
const kept = (id = MAIN): number => handle(id).sizes!().logical;
const walked = (id = MAIN): number => {
  const { readFrom, facts } = handle(id);
  return readFrom!.pages.relations.logicalSize(facts.positions.visible);
};

test("it is kept through growth, seals and restarts, and in branches", async () => {
  t.addPages(10);
  let at = t.wal.start;
  for (let round = 0; round < 3; round++) {
    t.addPages(10 + 5 * round);
    const receiver = await t.attached(at);
    receiver.sendFrom(t.wal, at);
    await receiver.untilDurable(t.wal.end);
    at = t.wal.end;
    expect(kept()).toBe((10 + 5 * round) * PAGE_BYTES);
    expect(kept()).toBe(walked());
    if (round === 1) await t.seal();
  }
  expect(handle().entry.sealedLogicalSize).toBe(15 * PAGE_BYTES);
  await t.reopen();
  expect([kept(), walked()]).toEqual([20 * PAGE_BYTES, 20 * PAGE_BYTES]);
  await t.seal();
  expect(handle().entry.sealedLogicalSize).toBe(20 * PAGE_BYTES);
  const branch = await t.branchAt(at);
  expect([kept(branch), walked(branch)]).toEqual([20 * PAGE_BYTES, 20 * PAGE_BYTES]);
});

test("sizes of a timeline and of its tree", async () => {
  t.addPages(10);
  await t.takeIn();
  await t.seal();
  const branch = await t.branchAt(t.wal.end);
  const { shared, tenant } = t.world;
  const main = (await timelineSizes(shared, tenant, handle()))!;
  expect(main.logical).toBe(10 * PAGE_BYTES);
  expect(main.layers).toBe(handle().store!.sealedBytes);
  expect(main.physical).toBe(main.layers + main.wal);
  expect(main.history).toBe(t.wal.end - t.wal.start);
  // Nothing was there at the beginning, and all WAL since is kept; the branch adds nothing.
  expect(main.synthetic).toBeGreaterThanOrEqual(main.history);
  expect(main.synthetic).toBeLessThan(main.history + 64);
  const side = (await timelineSizes(shared, tenant, handle(branch)))!;
  expect(side.synthetic).toBe(main.synthetic);
  expect(side.history).toBe(0);
});
