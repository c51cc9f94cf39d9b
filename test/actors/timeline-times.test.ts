// LSN and time of a live timeline and of its branches, over real layers: a branch answers with its
// ancestor's commits up to the branch point, and nothing answers with what can be read no more.

import { expect, test } from "vitest";
import { lsnAtUnixTime, unixTimeAtLsn } from "../../src/app/times.ts";
import type { Lsn } from "../../src/core/lsn.ts";
import { RM } from "../../src/protocol/wal/rmgr.ts";
import { PG_EPOCH_US } from "../../src/store/commit-seconds.ts";
import { timelineTest } from "../support/timeline-test.ts";
import { BASE, MAIN, pageImage } from "../support/timeline-world.ts";

const t = timelineTest();
/** Microseconds since 2000 of the first commit; a whole second. */
const FROM = 800_000_000_000_000;
let xid = 700;

/** A commit at so many ms from the beginning (xl_xact_commit: its time); the end of its record. */
function commit(ms: number): Lsn {
  const main = new Uint8Array(8);
  new DataView(main.buffer).setBigInt64(0, BigInt(FROM + ms * 1000), true);
  t.wal.add({ rmid: RM.XACT, info: 0, xid: xid++, main });
  return t.wal.end;
}

const at = (ms: number, id = MAIN) => {
  const timeline = t.world.tenant.timelines.get(id)!;
  return lsnAtUnixTime(t.world.shared.directory, timeline, PG_EPOCH_US + FROM + ms * 1000);
};
const timeOf = (lsn: Lsn, id = MAIN): number | undefined => {
  const timeline = t.world.tenant.timelines.get(id)!;
  const us = unixTimeAtLsn(t.world.shared.directory, timeline, lsn);
  return us && (us - PG_EPOCH_US - FROM) / 1000;
};

test("the four answers, before and after sealing and a restart", async () => {
  expect(at(0)).toEqual({ kind: "nodata", lsn: BASE });
  const [first, second] = [commit(1_000), commit(3_000)];
  await t.takeIn();
  const check = (): void => {
    expect(at(500)).toEqual({ kind: "past", lsn: first });
    expect(at(1_500)).toEqual({ kind: "present", lsn: first });
    expect(at(3_500)).toEqual({ kind: "future", lsn: second });
    expect([timeOf(first), timeOf(second)]).toEqual([1_000, 3_000]);
  };
  check();
  await t.seal();
  check();
  await t.reopen();
  check();
});

test("a branch made in the middle of a second knows the commits before it and none after", async () => {
  const early = commit(1_000);
  const before = commit(5_100);
  await t.takeIn();
  const branch = await t.branchAt(before);
  const later = t.wal.end;
  const after = commit(5_300);
  await (await t.attached(later)).untilDurable(later);
  const receiver = await t.attached(later);
  receiver.sendFrom(t.wal, later);
  await receiver.untilDurable(t.wal.end);
  const check = (): void => {
    expect(at(5_400)).toEqual({ kind: "future", lsn: after });
    expect(at(5_200)).toEqual({ kind: "present", lsn: before });
    expect(at(5_400, branch)).toEqual({ kind: "future", lsn: before });
    expect(at(2_000, branch)).toEqual({ kind: "present", lsn: early });
    expect([timeOf(before, branch), timeOf(after, branch)]).toEqual([5_100, 5_100]);
  };
  check();
  await t.seal();
  check();
  await t.reopen();
  await t.world.loaded(branch);
  check();
});

test("what cannot be read any more is past, and the cutoff is the nearest", async () => {
  const first = commit(1_000);
  const second = commit(3_000);
  t.wal.add(pageImage(0, 1));
  await t.takeIn();
  await t.seal();
  const cutoff = await t.world.ask<Lsn | undefined>((reply) => ({
    kind: "collect",
    windowMs: 0,
    walBytes: 0,
    reply,
  }));
  expect([first < second, second < cutoff!]).toEqual([true, true]);
  expect(at(2_000)).toEqual({ kind: "past", lsn: cutoff });
  expect(at(500)).toEqual({ kind: "past", lsn: cutoff });
  expect(at(4_000)).toEqual({ kind: "future", lsn: cutoff });
  const later = t.wal.end;
  commit(9_000);
  const receiver = await t.attached(later);
  receiver.sendFrom(t.wal, later);
  await receiver.untilDurable(t.wal.end);
  expect(at(4_000)).toEqual({ kind: "past", lsn: cutoff });
  expect(at(9_500)).toEqual({ kind: "future", lsn: t.wal.end });
});

test("the window goes by the commits' own times, and so much WAL stays whatever its age", async () => {
  const nowMs = (PG_EPOCH_US + FROM) / 1000 + 100_000;
  await t.reopen({ clock: { nowMs: () => nowMs } });
  const lsns = [10_000, 40_000, 70_000, 95_000].map((ms) => commit(ms));
  await t.takeIn();
  await t.seal();
  const collect = (windowMs: number, walBytes: number): Promise<Lsn | undefined> =>
    t.world.ask((reply) => ({ kind: "collect", windowMs, walBytes, reply }));
  expect(await collect(1_000_000, 0), "nothing is that old").toBe(BASE);
  // 45 s ago the commit of 40 s was the newest: it shows the database as it was then.
  expect(await collect(45_000, 0)).toBe(lsns[1]);
  expect(await collect(50_000, 0), "it never goes back").toBe(lsns[1]);
  const floor = lsns[3]! - lsns[2]!;
  expect(await collect(1_000, floor), "WAL that stays").toBe(lsns[2]);
  expect(t.world.tenant.timelines.get(MAIN)!.entry.cutoff).toBe(lsns[2]);
});
