// Snapshots and leases of a live timeline over real layers: what they keep is there after merges and
// restarts, in branches too, and goes when they go.

import { expect, test } from "vitest";
import type { HoldMsg } from "../../src/actors/timeline-holds.ts";
import type { AdminError } from "../../src/core/admin-error.ts";
import type { TimelineId } from "../../src/core/ids.ts";
import { SNAPSHOTS_MAX } from "../../src/core/limits.ts";
import { Lsn } from "../../src/core/lsn.ts";
import type { Result } from "../../src/core/result.ts";
import type { LeaseEntry, SnapshotEntry } from "../../src/store/catalog-entries.ts";
import { until } from "../support/replication.ts";
import { errorOf, timelineTest } from "../support/timeline-test.ts";
import { BASE, MAIN, pageImage } from "../support/timeline-world.ts";

const t = timelineTest();

type Reply<T> = { answer(value: Result<T, AdminError>): void };
const hold = <T>(build: (reply: Reply<T>) => HoldMsg, id = MAIN): Promise<Result<T, AdminError>> =>
  t.world.ask<Result<T, AdminError>>(build, id);
const snapshot = (name: string, lsn: Lsn, id = MAIN) =>
  hold<SnapshotEntry>((reply) => ({ kind: "snapshot", name, lsn, reply }), id);
const unsnapshot = (name: string) =>
  hold<undefined>((reply) => ({ kind: "delete-snapshot", name, reply }));
const lease = (lsn: Lsn, owner: string, durationMs: number) =>
  hold<number>((reply) => ({ kind: "lease", lsn, owner, durationMs, reply }));
const release = (lsn: Lsn | undefined, owner: string | undefined) =>
  hold<readonly LeaseEntry[]>((reply) => ({ kind: "release-leases", lsn, owner, reply }));

/** Everything below the last record may go, and goes. */
async function collect(id = MAIN): Promise<Lsn> {
  await t.world.ask((reply) => ({ kind: "seal-now", reply }), id);
  const cutoff = await t.world.ask<Lsn | undefined>(
    (reply) => ({ kind: "collect", windowMs: 0, walBytes: 0, reply }),
    id,
  );
  const merged = await t.world.ask<Result<undefined, string>>(
    (reply) => ({ kind: "compact", reply }),
    id,
  );
  expect(merged.ok).toBe(true);
  return cutoff!;
}

/** Writes page 0 with each fill; the LSNs after each. */
async function history(fills: readonly number[]): Promise<readonly Lsn[]> {
  const lsns: Lsn[] = [];
  for (const fill of fills) {
    t.wal.add(pageImage(0, fill));
    lsns.push(t.wal.end);
  }
  await t.takeIn();
  return lsns;
}

const versions = (): number =>
  t.world.tenant.catalog.layers(MAIN).reduce((sum, layer) => sum + layer.versions, 0);

test("a snapshot is read and branched from below the cutoff, and after a restart", async () => {
  const [first, second, third] = await history([1, 2, 3]);
  expect(await snapshot("monday", first!)).toMatchObject({ ok: true, value: { lsn: first } });
  const cutoff = await collect();
  expect(cutoff).toBe(third);
  await t.reopen();
  expect(await t.world.fill(0, { lsn: first! })).toBe(1);
  const { answers } = await t.world.batch([0], { lsn: second! });
  expect(errorOf(answers)).toContain(`gc cutoff ${Lsn.format(cutoff)}`);
  const branch = await t.branchAt(first!);
  expect(await t.world.fill(0, { id: branch })).toBe(1);
});

test("the same name again: the same moment is the same snapshot, another one a conflict", async () => {
  const [first, second] = await history([1, 2]);
  const made = await snapshot("a", first!);
  expect(await snapshot("a", first!)).toEqual(made);
  expect(await snapshot("a", second!)).toMatchObject({ ok: false, error: { kind: "conflict" } });
  expect(await snapshot("b", Lsn.of(second! + 4096))).toMatchObject({
    ok: false,
    error: { message: expect.stringContaining("above the last durable record") as string },
  });
});

test("what is gone cannot be kept: the refusal names the cutoff", async () => {
  const [first] = await history([1, 2]);
  const cutoff = Lsn.format(await collect());
  const refused = { message: expect.stringContaining(`its cutoff is ${cutoff}`) as string };
  expect(await snapshot("late", first!)).toMatchObject({ ok: false, error: refused });
  expect(await lease(first!, "me", 1_000)).toMatchObject({ ok: false, error: refused });
});

test("a deleted snapshot keeps nothing, and a merge gives its versions up", async () => {
  const [first] = await history([1, 2, 3]);
  await snapshot("monday", first!);
  await collect();
  const kept = versions();
  expect(await unsnapshot("tuesday")).toMatchObject({ ok: false, error: { kind: "not-found" } });
  expect(await unsnapshot("monday")).toMatchObject({ ok: true });
  const { answers } = await t.world.batch([0], { lsn: first! });
  expect(errorOf(answers)).toContain("gc cutoff");
  await collect();
  expect(versions()).toBeLessThan(kept);
});

test("what a snapshot kept goes by itself when it is deleted, and so does what a branch kept", async () => {
  const lsns: Lsn[] = [];
  for (let i = 1; i <= 6; i++) {
    t.addPages(30, 10 * i);
    lsns.push(t.wal.end);
  }
  await t.takeIn();
  for (const [i, name] of ["a", "b", "c"].entries()) await snapshot(name, lsns[i]!);
  const branch = await t.branchAt(lsns[3]!);
  await collect();
  const counts = [versions()];
  const tickUntilFewer = (): Promise<unknown> => {
    const before = versions();
    return until("merged", () => {
      t.world.main.ref.tell({ kind: "tick" });
      return versions() < before;
    });
  };
  for (const name of ["a", "b", "c"]) await unsnapshot(name);
  await tickUntilFewer();
  counts.push(versions());
  const removed = await new Promise<Result<readonly string[], AdminError>>((answer) =>
    t.world.tenant.ref.tell({
      ...{ kind: "remove", timeline: branch, recursive: false, reply: { answer } },
    }),
  );
  expect(removed.ok).toBe(true);
  await tickUntilFewer();
  counts.push(versions());
  expect(new Set(counts).size).toBe(3);
  expect(await t.world.fill(0)).toBe(60);
});

test("branches made while layers are merged read what they branched from", async () => {
  const fills = Array.from({ length: 40 }, (_, i) => i + 1);
  for (let block = 0; block < 1_500; block++) t.wal.add(pageImage(block, block));
  const lsns = await history(fills);
  await snapshot("early", lsns[5]!);
  await t.seal();
  await t.world.ask((reply) => ({ kind: "collect", windowMs: 0, walBytes: 41_000, reply }));
  const cutoff = t.world.main.entry.cutoff!;
  const merged = t.world.ask<Result<undefined, string>>((reply) => ({ kind: "compact", reply }));
  await until("it is being merged", () => t.world.main.merge?.().merging === true);
  // At the cutoff, above it, and at what a snapshot holds below it.
  const above = lsns.findIndex((lsn) => lsn > cutoff);
  expect([above > 5, above < 40]).toEqual([true, true]);
  const made: [TimelineId, number][] = [];
  const answers: Promise<unknown>[] = [];
  for (const [i, at] of [5, above, 38].entries()) {
    const id = String(i).repeat(32) as TimelineId;
    const request = { id, name: `b${i}`, ancestor: MAIN, lsn: lsns[at]! };
    answers.push(
      new Promise((answer) =>
        t.world.tenant.ref.tell({ kind: "branch", request, reply: { answer } }),
      ),
    );
    made.push([id, at]);
  }
  const branched = await Promise.all(answers);
  expect(t.world.main.merge?.().merging, "still being merged").toBe(true);
  expect(branched).toMatchObject(made.map(() => ({ ok: true })));
  // The snapshot goes while the merge goes by it.
  await unsnapshot("early");
  expect((await merged).ok).toBe(true);
  await collect();
  await t.reopen();
  for (const [id, at] of made) {
    await t.world.loaded(id);
    expect(await t.world.fill(0, { id }), `branch at ${at}`).toBe(fills[at]);
  }
});

test("a snapshot of a branch keeps what the branch reads in its ancestor", async () => {
  const [first, , third] = await history([1, 2, 3]);
  const branch = await t.branchAt(third!);
  expect(await snapshot("early", first!, branch)).toMatchObject({ ok: true });
  expect(await collect()).toBe(third);
  await t.reopen();
  await t.world.loaded(branch);
  expect(await t.world.fill(0, { lsn: first!, id: branch })).toBe(1);
});

test("leases have owners, are renewed and never shortened, and are released by owner or LSN", async () => {
  const [first, second] = await history([1, 2]);
  const long = await lease(first!, "a", 60_000);
  expect(await lease(first!, "a", 10_000)).toEqual(long);
  await lease(first!, "b", 60_000);
  await lease(second!, "b", 60_000);
  const owners = (): readonly string[] =>
    t.world.tenant.catalog.leases(MAIN).map(({ lsn, owner }) => `${lsn === first ? 1 : 2}${owner}`);
  expect(owners()).toEqual(["1a", "1b", "2b"]);
  expect(await release(second!, "a")).toMatchObject({ ok: false, error: { kind: "not-found" } });
  expect(await release(undefined, "b")).toMatchObject({ ok: true, value: [{}, {}] });
  await t.reopen();
  expect(owners()).toEqual(["1a"]);
  await collect();
  expect(await t.world.fill(0, { lsn: first! })).toBe(1);
  expect(await release(first!, undefined)).toMatchObject({ ok: true });
  const { answers } = await t.world.batch([0], { lsn: first! });
  expect(errorOf(answers)).toContain("gc cutoff");
});

test("a lease that has ended is forgotten before a merge, also if the clock is set back then", async () => {
  let nowMs = 1_000_000;
  await t.reopen({ clock: { nowMs: () => nowMs } });
  const [first] = await history([1, 2]);
  await lease(first!, "a", 1_000);
  nowMs += 1_000;
  await collect();
  nowMs -= 1_000;
  const { answers } = await t.world.batch([0], { lsn: first! });
  expect(errorOf(answers)).toContain("gc cutoff");
  expect(t.world.tenant.catalog.leases(MAIN)).toEqual([]);
});

test("snapshots are bounded", async () => {
  t.addPages(1);
  await t.takeIn();
  t.world.tenant.catalog.change((change) => {
    for (let i = 0; i < SNAPSHOTS_MAX; i++) {
      change.putSnapshot({ timeline: MAIN, name: `s${i}`, lsn: BASE, createdAtMs: 0 });
    }
  });
  const refused = { message: expect.stringContaining("delete some") as string };
  expect(await snapshot("more", t.wal.end)).toMatchObject({ ok: false, error: refused });
});
