// Merging by a thread beside the main one: what it works on is read meanwhile, what it writes counts when
// the timeline enters it, and nothing is left of a merge that came to nothing.

import fs from "node:fs";
import { expect, test } from "vitest";
import type { MergeWanted, OpenMergeThread } from "../../src/actors/merger.ts";
import type { JobTold } from "../../src/actors/thread-jobs.ts";
import { openMergeThread } from "../../src/app/threads.ts";
import { KIND } from "../../src/core/key.ts";
import { MERGE_RETRY_MS } from "../../src/core/limits.ts";
import { LSN_INVALID, type Lsn } from "../../src/core/lsn.ts";
import type { Result } from "../../src/core/result.ts";
import { systemClock } from "../../src/io/clock.ts";
import type { Merged } from "../../src/store/merge-order.ts";
import { plainFailure } from "../../src/store/store-errors.ts";
import { mergeInPlace } from "../support/in-place-thread.ts";
import { until } from "../support/replication.ts";
import { timelineTest } from "../support/timeline-test.ts";
import { BASE, MAIN, REL, TimelineWorld } from "../support/timeline-world.ts";

/** Starting a thread from sources takes a second, on a busy machine many. */
const SLOW_MS = 60_000;
const PAGES = 300;
const t = timelineTest();

const compact = (id = MAIN): Promise<Result<undefined, string>> =>
  t.world.ask((reply) => ({ kind: "compact", reply }), id, SLOW_MS);

/** As many tiers as there are fills, above that of the import, all pages in each. */
async function layers(fills: readonly number[]): Promise<void> {
  for (const fill of fills) {
    const from = t.wal.end;
    t.addPages(PAGES, fill);
    await t.takeIn(fill === fills[0] ? BASE : from);
    expect(await t.seal()).toEqual({ ok: true, value: undefined });
  }
}

/** Only what the catalog names lies there. */
function expectNoOrphans(id = MAIN): void {
  const names = fs.readdirSync(t.layersOf(id)).filter((name) => !name.endsWith("-lock"));
  const entries = t.world.tenant.catalog.layers(id);
  expect(names.sort()).toEqual(entries.map(({ file }) => file).sort());
}

type Told = JobTold<Merged, MergeWanted>;

/** A thread whose answers are held back until they are released. */
function holding(open: OpenMergeThread): {
  readonly open: OpenMergeThread;
  readonly told: readonly Told[];
  readonly asked: readonly string[];
  readonly release: () => void;
} {
  const told: Told[] = [];
  const asked: string[] = [];
  let hear: ((told: Told) => void) | undefined;
  let hold = true;
  return {
    ...{ told, asked },
    open: (handlers) => {
      hear = handlers.onTold;
      const onTold = (one: Told): void => void (hold ? told.push(one) : handlers.onTold(one));
      const thread = open({ ...handlers, onTold });
      return {
        ...thread,
        tell: (message) => {
          asked.push(message.kind);
          thread.tell(message);
        },
      };
    },
    release: () => {
      hold = false;
      for (const one of told.splice(0)) hear?.(one);
    },
  };
}

test("tiers become one in a thread, and are read until they do", async () => {
  const held = holding(openMergeThread);
  await t.reopen({ merger: held.open });
  await layers([1, 2, 3]);
  const merged = compact();
  await until("it is written", () => held.told.length > 0, SLOW_MS);
  expect(held.told).toMatchObject([{ kind: "done" }]);
  expect(t.world.main.store!.tiers).toHaveLength(4);
  expect(await t.world.fill(7)).toBe(10);
  held.release();
  expect(await merged).toEqual({ ok: true, value: undefined });
  expect(t.world.main.store!.tiers).toHaveLength(1);
  expectNoOrphans();
  expect(await t.world.fill(7)).toBe(10);
  await t.reopen();
  expect(await t.world.fill(299)).toBe(302 & 255);
});

test("a thread that dies leaves the tiers as they are; the next one merges, and nothing is left", async () => {
  let deaths = 0;
  let laterMs = 0;
  const dying: OpenMergeThread = (handlers) => {
    const thread = mergeInPlace(handlers);
    if (deaths++ > 0) return thread;
    return { ...thread, tell: () => handlers.onDied(new Error("told to die")) };
  };
  const clock = { steadyMs: () => systemClock.steadyMs() + laterMs };
  await t.reopen({ merger: dying, clock });
  await layers([1, 2]);
  // What the dead one had written: a finished file, and one that was not.
  for (const name of ["00000002-0-1-m1-0.layer", "00000002-0-1-m1-0.layer-lock", "merge-1-1.tmp"]) {
    fs.writeFileSync(`${t.layersOf()}/${name}`, "half");
  }
  expect(await compact()).toMatchObject({ ok: false });
  expect(t.world.main.merge?.()).toMatchObject({
    merging: false,
    failure: expect.stringMatching(/the thread of merger is not there/),
  });
  expect(t.world.crashes).toMatchObject([{ path: "world/merger" }]);
  expect(await t.world.fill(0)).toBe(2);
  laterMs = MERGE_RETRY_MS;
  expect(await compact()).toEqual({ ok: true, value: undefined });
  expect(t.world.main.merge?.().failure).toBeUndefined();
  expectNoOrphans();
  expect(await t.world.fill(0)).toBe(2);
});

test("a merge that nobody waits for any more is given up, and leaves nothing", async () => {
  const held = holding(mergeInPlace);
  await t.reopen({ merger: held.open });
  await layers([1, 2]);
  const merged = compact();
  await until("it is under way", () => held.asked.length > 0);
  const closed = t.world.close();
  await until("it is given up", () => held.asked.includes("give-up"));
  held.release();
  await closed;
  expect(await merged).toMatchObject({ ok: false });
  t.world = new TimelineWorld(t.dataDir);
  await t.world.loaded();
  expect(t.world.main.store!.tiers).toHaveLength(3);
  expectNoOrphans();
});

test("what a branch reads of its ancestor is sealed before its layers are merged", async () => {
  await layers([1]);
  const from = t.wal.end;
  t.addPages(PAGES, 50);
  const receiver = await t.takeIn(from);
  const id = await t.branchAt(t.wal.end);
  expect([t.world.main.store!.openIsEmpty, t.world.main.entry.sealedLsn]).toEqual([false, from]);
  expect(receiver.refused).toBeUndefined();
  const branch = t.world.tenant.timelines.get(id)!.store!;
  const { sink } = branch;
  const page = sink.groups.id(KIND.PAGE, REL.spc, REL.db, REL.rel, REL.fork);
  for (const behind of [8, 16]) {
    const lsn = (t.wal.end + behind) as Lsn;
    branch.sink.putZeroPage(page, 0, lsn);
    branch.freeze(lsn, LSN_INVALID);
    const seal = branch.beginSeal(0)!;
    while (seal.step());
    await seal.finish();
  }
  expect(branch.unsealedAncestor?.id).toBe(MAIN);
  const retained = { cutoff: branch.sealedUpTo, pins: [] };
  const plan = { from: 0, to: 1, reason: "asked" } as const;
  expect(() => branch.beginMerge({ plan, retained, nowMs: 0 })).toThrow(/I9/);
  expect(await compact(id)).toEqual({ ok: true, value: undefined });
  expect(t.world.main.entry.sealedLsn).toBe(t.wal.end);
  expect(branch.tiers).toHaveLength(1);
  expectNoOrphans(id);
});

test("a layer that a merge finds damaged is in quarantine, and said to be", async () => {
  await layers([1, 2]);
  const [, older] = t.world.tenant.catalog.layers(MAIN);
  const file = `${t.layersOf()}/${older!.file}`;
  const bytes = fs.readFileSync(file);
  // In its pages, behind LMDB's tree: what was verified when it was written is believed until it is read.
  const at = bytes.indexOf(Buffer.alloc(64, 77));
  expect(at).toBeGreaterThan(0);
  const fd = fs.openSync(file, "r+");
  fs.writeSync(fd, Buffer.from([1]), 0, 1, at);
  fs.closeSync(fd);
  const merged = await compact();
  expect(merged).toMatchObject({ ok: false, error: expect.stringContaining(older!.file) });
  const { map } = t.world.main.store!;
  await until("it is in quarantine", () => map.damaged.length > 0);
  expect(map.damaged).toMatchObject([{ file: older!.file }]);
  expect(await t.world.fill(PAGES - 1)).toBe((PAGES + 1) & 255);
});

test("a merge that is cancelled leaves the tiers as they are, and another one can be asked for", async () => {
  const asked: string[] = [];
  let idle = true;
  const open: OpenMergeThread = (handlers) => {
    const thread = mergeInPlace(handlers);
    return {
      ...thread,
      tell: (message) => {
        asked.push(message.kind);
        if (!idle) return thread.tell(message);
        if (message.kind !== "give-up") return;
        const failure = plainFailure(new Error("given up"));
        handlers.onTold({ kind: "failed", job: message.job, failure });
      },
    };
  };
  await t.reopen({ merger: open });
  await layers([1, 2]);
  const merged = compact();
  await until("it is under way", () => asked.length > 0);
  t.world.main.ref.tell({ kind: "compact-stop" });
  expect(await merged).toEqual({ ok: false, error: "cancelled on request" });
  await until("it is given up", () => t.world.main.merge?.().merging === false);
  expect(asked).toEqual(["order", "give-up"]);
  expect(t.world.main.merge?.().failure).toBeUndefined();
  expect(t.world.main.store!.tiers).toHaveLength(3);
  idle = false;
  expect(await compact()).toEqual({ ok: true, value: undefined });
  expect(t.world.main.store!.tiers).toHaveLength(1);
  expectNoOrphans();
});
