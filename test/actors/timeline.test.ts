// A timeline live, on real files: WAL in and pages out, crashes, what a restart finds, records that
// cannot be followed, readers that wait, receivers that come and go.

import fs from "node:fs";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import type { TimelineMsg } from "../../src/actors/timeline-messages.ts";
import type { BackupSource } from "../../src/core/backup-source.ts";
import { type ReadError, readErrorText } from "../../src/core/errors.ts";
import { LSN_MAX, Lsn, WAL_SEGMENT_BYTES } from "../../src/core/lsn.ts";
import type { Result } from "../../src/core/result.ts";
import { RM } from "../../src/protocol/wal/rmgr.ts";
import { timelinePath, walPath } from "../../src/store/data-dir.ts";
import { OpenBudget } from "../../src/store/open-budget.ts";
import { until } from "../support/replication.ts";
import {
  BASE,
  MAIN,
  TENANT,
  TestReceiver,
  TimelineWorld,
  newWal,
  pageImage,
  unsupported,
} from "../support/timeline-world.ts";
import type { WalBuilder } from "../support/wal-builder.ts";

let dataDir: string;
let world: TimelineWorld;
let wal: WalBuilder;

beforeEach(async () => {
  dataDir = fs.mkdtempSync("/tmp/timeline-test-");
  world = await TimelineWorld.create(dataDir);
  wal = newWal();
});
afterEach(async () => {
  await world.close();
  fs.rmSync(dataDir, { recursive: true, force: true });
});

/** Records that write pages 0, 1, 2 … with fills from `seed` on. */
function addPages(count: number, seed = 1): void {
  for (let i = 0; i < count; i++) wal.add(pageImage(i, seed + i));
}

async function attached(at: Lsn = BASE): Promise<TestReceiver> {
  const receiver = new TestReceiver(world);
  await receiver.attachAt(at);
  return receiver;
}

/** Sends all of `wal` and waits until it is durable. */
async function takeIn(): Promise<TestReceiver> {
  const receiver = await attached();
  receiver.sendFrom(wal);
  await receiver.untilDurable(wal.end);
  return receiver;
}

async function reopen(): Promise<void> {
  await world.close();
  world = new TimelineWorld(dataDir);
  await world.loaded();
}

const seal = (): Promise<Result<undefined, string>> =>
  world.ask((reply) => ({ kind: "seal-now", reply }));

const errorOf = (answers: Awaited<ReturnType<TimelineWorld["read"]>>, i = 0): string => {
  const answer = answers[i];
  return answer?.kind === "error" ? readErrorText(answer.error) : `${answer?.kind}`;
};

describe("WAL in, pages out", () => {
  test("pages at any LSN; what is durable is told; a restart and a seal change nothing", async () => {
    addPages(3);
    const early = wal.end;
    addPages(3, 101);
    await takeIn();
    const expectAll = async (): Promise<void> => {
      expect([await world.fill(0), await world.fill(2)]).toEqual([101, 103]);
      expect(await world.fill(2, { lsn: early })).toBe(3);
      expect(world.main.facts.positions.visible).toBe(wal.end);
    };
    await expectAll();
    await reopen();
    await expectAll();
    expect(await seal()).toEqual({ ok: true, value: undefined });
    expect(world.main.entry.sealedLsn).toBe(wal.end);
    await expectAll();
    await reopen();
    await expectAll();
  });

  test("cut anywhere: only whole records count, and streaming starts again behind the last", async () => {
    addPages(2);
    const whole = wal.end;
    addPages(1, 50);
    const bytes = wal.bytes();
    const receiver = await attached();
    const cut = whole - BASE + 5_000;
    receiver.send(BASE, bytes.subarray(0, 3_000));
    receiver.send(Lsn.of(BASE + 3_000), bytes.subarray(3_000, cut));
    await receiver.untilDurable(whole);
    expect(world.main.facts.positions).toMatchObject({ received: BASE + cut, visible: whole });
    const again = await attached(whole);
    expect(receiver.refused).toMatchObject({ retry: false });
    again.sendFrom(wal, whole);
    await again.untilDurable(wal.end);
    expect(await world.fill(0)).toBe(50);
  });

  test("of WAL that was rewound nothing holds back what comes instead", async () => {
    addPages(1);
    const whole = wal.end;
    const other = newWal();
    other.add(pageImage(0, 1));
    wal.add({ rmid: RM.LOGICALMSG, info: 0, main: new Uint8Array(50_000).fill(7) });
    const receiver = await attached();
    receiver.send(BASE, wal.bytes().subarray(0, wal.end - BASE - 8));
    await receiver.untilDurable(whole);
    const again = await attached(whole);
    // Another history from there on, shorter than what was received of the first.
    other.add(pageImage(1, 9));
    again.sendFrom(other, whole);
    await again.untilDurable(other.end);
    expect(await world.fill(1)).toBe(9);
  });

  test("behind a switch of segments streaming starts in the next, though the old one has not all come", async () => {
    addPages(1);
    const before = wal.end;
    wal.switchSegment();
    const next = wal.end;
    expect(next % WAL_SEGMENT_BYTES).toBe(0);
    addPages(1, 70);
    const receiver = await attached();
    const bytes = wal.bytes();
    receiver.send(BASE, bytes.subarray(0, before - BASE + 4_096));
    await until("the switch is in", () => world.main.facts.positions.visible === next);
    expect(receiver.durable).toBeLessThan(next);
    const again = await attached(next);
    again.sendFrom(wal, next);
    await again.untilDurable(wal.end);
    expect(await world.fill(0)).toBe(70);
    await reopen();
    expect(world.main.facts.positions.visible).toBe(wal.end);
    expect(await world.fill(0)).toBe(70);
    expect(world.crashes).toEqual([]);
  });

  test("bytes that are no WAL: those before count, that connection is told, the next one goes on", async () => {
    addPages(2);
    const whole = wal.end;
    addPages(1, 30);
    const bytes = wal.bytes();
    const bad = bytes.slice();
    bad[whole - BASE + 100]! ^= 1;
    const receiver = await attached();
    receiver.send(BASE, bad);
    expect((await receiver.untilRefused()).reason).toMatch(/CRC/);
    expect(receiver.refused).toMatchObject({ retry: true });
    await until("what came before is durable", () => world.main.facts.positions.durable === whole);
    receiver.send(wal.end, new Uint8Array(100)); // of a connection that does not count any more
    const again = await attached(whole);
    again.sendFrom(wal, whole);
    await again.untilDurable(wal.end);
    expect(await world.fill(0)).toBe(30);
    expect(world.main.facts.phase).toEqual({ kind: "active" });
  });

  test("WAL with a gap is refused and streamed again", async () => {
    addPages(2);
    const receiver = await attached();
    receiver.send(Lsn.of(BASE + 8), wal.bytes().subarray(8));
    const refused = await receiver.untilRefused();
    expect(refused).toMatchObject({ retry: true });
    expect(refused.reason).toBe("WAL came at 0/2000030, not at 0/2000028");
    const again = await attached();
    again.sendFrom(wal);
    await again.untilDurable(wal.end);
    expect(await world.fill(1)).toBe(2);
  });

  test("two receivers at once: the last one counts, and only one is answered", async () => {
    addPages(2);
    const whole = wal.end;
    const bytes = wal.bytes();
    const old = await attached();
    old.send(BASE, bytes.subarray(0, bytes.length - 100));
    const [first, second] = [new TestReceiver(world), new TestReceiver(world)];
    void first.attach().catch(() => undefined);
    await second.attachAt(wal.records[0]!.endLsn);
    expect(first.refused).toMatchObject({ retry: false });
    second.sendFrom(wal, wal.records[0]!.endLsn);
    await second.untilDurable(whole);
    expect(world.crashes).toEqual([]);
  });

  test("a receiver that was stopped before its turn came does not count", async () => {
    const receiver = new TestReceiver(world);
    receiver.ref.stop();
    expect(await receiver.attach()).toEqual({
      ok: false,
      error: expect.stringMatching(/replaced/),
    });
  });
});

describe("after a crash", () => {
  test("the same answers, and WAL goes on where it was", async () => {
    addPages(3);
    const receiver = await takeIn();
    const before = wal.end;
    await world.crashAndReload();
    expect(await world.fill(2)).toBe(3);
    addPages(1, 80);
    const again = await attached(before);
    receiver.sendFrom(wal, before); // of a receiver of the life before
    again.sendFrom(wal, before);
    await again.untilDurable(wal.end);
    expect(await world.fill(0)).toBe(80);
  });

  test("while a layer is being sealed: sealed whole by the next life, once", async () => {
    for (let i = 0; i < 3_000; i++) wal.add(pageImage(i, i));
    await takeIn();
    const sealing = seal();
    await until("sealing", () => world.main.store?.isSealing === true);
    await world.crashAndReload();
    expect(await sealing).toMatchObject({ ok: false });
    expect(world.main.facts.positions.visible).toBe(wal.end);
    expect(await seal()).toMatchObject({ ok: true });
    expect(world.tenant.catalog.layers(MAIN)).toHaveLength(2); // the base, and this one
    expect(await world.fill(2_999)).toBe(2_999 & 255);
    expect(world.crashes).toHaveLength(1);
  });

  test("again and again, faster than it loads: never two lives at the files", async () => {
    await world.close();
    const restart = { crashesMax: 50, windowMs: 60_000, backOffMs: 0, backOffMsMax: 0 };
    world = new TimelineWorld(dataDir, { restart });
    await world.loaded();
    for (let i = 0; i < 500; i++) wal.add(pageImage(i, i));
    await takeIn();
    for (let i = 0; i < 20; i++) {
      world.crash();
      if (i % 3 === 0) void seal();
      await new Promise((resolve) => setTimeout(resolve, (i * 7) % 12));
    }
    await until("all crashes", () => world.crashes.length === 20);
    expect(await world.fill(499)).toBe(499 & 255);
    expect(await seal()).toMatchObject({ ok: true });
    await reopen();
    expect(await world.fill(250)).toBe(250);
  });

  test("those who wait are told, and the request that crashed it is answered", async () => {
    addPages(1);
    await takeIn();
    const parked = world.read([0], { lsn: Lsn.of(wal.end + 8) });
    const sealNow = world.crashes.length;
    world.crash();
    expect(errorOf(await parked)).toBe("shutdown");
    await until("the crash", () => world.crashes.length > sealNow);
    // Asked while it is loaded anew: waits, and is answered.
    expect(await world.fill(0)).toBe(1);
  });

  test("too often: broken, reads are answered with the reason, neighbours go on, a restart repairs it", async () => {
    addPages(1);
    await takeIn();
    const branch = await branchAt(wal.end);
    for (let i = 0; i < 4; i++) {
      world.crash();
      await until("a crash", () => world.crashes.length === i + 1);
      await world.loaded();
    }
    expect(world.main.facts.phase).toMatchObject({ kind: "broken" });
    expect(errorOf(await world.read([0]))).toMatch(/broken: it crashed too often: told to crash/);
    expect(await seal()).toMatchObject({ ok: false });
    expect(await world.fill(0, { id: branch })).toBe(1);
    await reopen();
    expect(await world.fill(0)).toBe(1);
  });

  test("a stop while it loads, while it seals, while it backs off: nothing is left open", async () => {
    for (let i = 0; i < 2_000; i++) wal.add(pageImage(i, i));
    await takeIn();
    await world.close();
    world = new TimelineWorld(dataDir); // stopped while loading
    await world.close();
    world = new TimelineWorld(dataDir);
    await world.loaded();
    void seal();
    await until("sealing", () => world.main.store?.isSealing === true);
    await world.close();
    world = new TimelineWorld(dataDir);
    await world.loaded();
    world.crash();
    await world.close();
    world = new TimelineWorld(dataDir);
    await world.loaded();
    expect(await world.fill(1_999)).toBe(1_999 & 255);
    expect(world.fatal).toEqual([]);
    const open = fs.readdirSync("/proc/self/fd").flatMap((fd) => {
      try {
        return [fs.readlinkSync(`/proc/self/fd/${fd}`)];
      } catch {
        return [];
      }
    });
    const segments = open.filter((file) =>
      file.startsWith(walPath(timelinePath(dataDir, TENANT, MAIN))),
    );
    expect(segments, "WAL is not received, so no segment is open").toEqual([]);
  });
});

describe("a record that cannot be followed", () => {
  test("breaks the timeline there: what is before stays readable, also after restarts; WAL is kept", async () => {
    addPages(2);
    const whole = wal.end;
    wal.add(unsupported);
    addPages(1, 90);
    const receiver = await attached();
    receiver.sendFrom(wal);
    expect(await receiver.untilRefused()).toMatchObject({ retry: false });
    await until("broken", () => world.main.facts.phase.kind === "broken");
    const expectBroken = async (): Promise<void> => {
      expect(world.main.facts.phase).toMatchObject({
        reason: expect.stringMatching(/WAL behind .* cannot be followed: .*fork 1 other than/),
      });
      expect(world.main.facts.positions.visible).toBe(whole);
      // Of the record's changes nothing shows.
      expect([await world.fill(0), await world.fill(1)]).toEqual([1, 2]);
      const both = await world.batch([1], { lsn: Lsn.of(whole + 8) });
      expect(errorOf(both.answers)).toMatch(/the timeline is broken: WAL behind/);
      expect(await new TestReceiver(world).attach()).toMatchObject({ ok: false });
    };
    await expectBroken();
    expect(world.crashes).toHaveLength(1);
    await reopen();
    await expectBroken();
    expect(world.crashes).toEqual([]);
    const segment = fs.readFileSync(
      `${walPath(timelinePath(dataDir, TENANT, MAIN))}/000000010000000000000002`,
    );
    const kept = segment.subarray(40, 40 + wal.end - BASE);
    expect(kept.equals(wal.bytes()), "what was received is not removed").toBe(true);
  });

  test("a branch below it, and a backup, still work", async () => {
    addPages(2);
    const whole = wal.end;
    wal.add(unsupported);
    const receiver = await attached();
    receiver.sendFrom(wal);
    await until("broken", () => world.main.facts.phase.kind === "broken");
    const id = await branchAt(whole);
    expect(await world.fill(1, { id })).toBe(2);
    const source = await world.ask<Result<BackupSource, ReadError>>((reply) => ({
      ...{ kind: "backup-source", lsn: undefined, reply },
    }));
    expect(source).toMatchObject({ ok: true, value: { lsn: whole } });
    await reopen();
    await world.loaded(id);
    expect(await world.fill(1, { id })).toBe(2);
  });
});

describe("readers that wait", () => {
  test("are answered when their LSN has come, one by one; others are not held up", async () => {
    addPages(1);
    await takeIn();
    const first = wal.end;
    addPages(1, 20);
    const second = wal.end;
    addPages(1, 40);
    const third = wal.end;
    const late = [second, third].map((lsn) => world.fill(0, { lsn }));
    expect(await world.fill(0)).toBe(1);
    const receiver = await attached(first);
    receiver.send(first, wal.bytes().subarray(first - BASE, second - BASE));
    expect(await late[0]).toBe(20);
    receiver.sendFrom(wal, second);
    expect(await late[1]).toBe(40);
  });

  test("until the deadline: only what really waited is refused", async () => {
    let nowMs = 1_000;
    await world.close();
    world = new TimelineWorld(dataDir, { clock: { steadyMs: () => nowMs } });
    await world.loaded();
    addPages(1);
    await takeIn();
    const slab = new Uint8Array(2 * 8192);
    const later = Lsn.of(wal.end + 4_096);
    const request = {
      kind: "get-page",
      rel: { spc: 1663, db: 5, rel: 16_384, fork: 0 },
      block: 0,
    } as const;
    const answers = world.ask<Awaited<ReturnType<TimelineWorld["read"]>>>((reply) => ({
      kind: "read",
      batch: {
        requests: [
          { ...request, lsn: later, notModifiedSince: later },
          { ...request, lsn: wal.end, notModifiedSince: wal.end },
        ],
        slab,
        pageOffsets: Int32Array.of(0, 8192),
      },
      reply,
    }));
    expect(await world.fill(0)).toBe(1); // by now it is parked
    nowMs += 61_000;
    world.main.ref.tell({ kind: "tick" });
    const both = await answers;
    expect(errorOf(both, 0)).toMatch(
      /LSN timeout: waited 61000 ms for .*is its WAL source connected/,
    );
    expect(both[1]).toEqual({ kind: "page" });
    expect(slab.at(-1)).toBe(1);
  });

  test("at the end of a page both its end and the start of the next record are that moment", async () => {
    addPages(1);
    const room = 8192 - (wal.end % 8192);
    // A record that ends exactly at the page's end.
    wal.add({ rmid: RM.LOGICALMSG, info: 0, main: new Uint8Array(room - 24 - 5).fill(1) });
    expect(wal.end % 8192).toBe(0);
    await takeIn();
    expect(await world.fill(0, { lsn: Lsn.normalize(wal.end) })).toBe(1);
    const branch = await branchAt(wal.end);
    expect(world.tenant.timelines.get(branch)!.entry.ancestor?.lsn).toBe(Lsn.normalize(wal.end));
    expect(await world.fill(0, { id: branch, lsn: Lsn.normalize(wal.end) })).toBe(1);
  });

  test("requests that make no sense are answered, and harm nobody", async () => {
    addPages(1);
    await takeIn();
    const ask = async (lsn: Lsn, since: Lsn): Promise<string> =>
      errorOf(await world.read([0], { lsn, since }));
    expect(await ask(Lsn.of(0), Lsn.of(0))).toMatch(/invalid LSN\(0\)/);
    expect(await ask(Lsn.of(8), Lsn.of(8))).toMatch(/garbage collected/);
    expect(await ask(wal.end, LSN_MAX)).toMatch(/not_modified_since/);
    expect(await ask(LSN_MAX, LSN_MAX)).toMatch(/must be a real LSN/);
    expect(await world.fill(0)).toBe(1);
  });
});

describe("memory", () => {
  test("over the budget WAL waits while a layer is sealed, then goes on: nothing is lost, nobody starves", async () => {
    await world.close();
    const budget = new OpenBudget(3 * 1024 * 1024);
    world = new TimelineWorld(dataDir, { budget });
    await world.loaded();
    for (let i = 0; i < 4_000; i++) wal.add(pageImage(i, i));
    const receiver = await attached();
    let most = 0;
    const bytes = wal.bytes();
    for (let at = 0; at < bytes.length; at += 65_536) {
      receiver.send(Lsn.of(BASE + at), bytes.subarray(at, at + 65_536));
      if (at % (64 * 65_536) !== 0) continue;
      await until("it keeps up", () => {
        most = Math.max(most, budget.bytes);
        return world.main.facts.positions.received >= BASE + at;
      });
    }
    await receiver.untilDurable(wal.end);
    expect(most).toBeLessThan(8 * 1024 * 1024);
    expect(world.tenant.catalog.layers(MAIN).length).toBeGreaterThan(5);
    for (const block of [0, 1_234, 3_999]) expect(await world.fill(block)).toBe(block & 255);
  });

  test("seal-now answers for all that was visible, also while another seal is under way", async () => {
    for (let i = 0; i < 2_000; i++) wal.add(pageImage(i, i));
    const receiver = await takeIn();
    const first = seal();
    const half = wal.end;
    await until("sealing", () => world.main.store?.isSealing === true);
    addPages(10, 200);
    receiver.sendFrom(wal, half);
    await receiver.untilDurable(wal.end);
    const second = seal();
    expect(await Promise.all([first, second])).toEqual([
      { ok: true, value: undefined },
      { ok: true, value: undefined },
    ]);
    expect(world.main.entry.sealedLsn).toBe(wal.end);
    expect(world.main.store?.openIsEmpty).toBe(true);
  });
});

describe("leases", () => {
  test("are durable, renewed, bounded, and refused for what is not kept", async () => {
    const lease = (lsn: Lsn): Promise<number | undefined> =>
      world.ask((reply) => ({ kind: "lease", lsn, reply }) satisfies TimelineMsg);
    const until = await lease(BASE);
    expect(until).toBeGreaterThan(Date.now() + 5 * 60_000);
    expect(await lease(BASE)).toBeGreaterThanOrEqual(until!);
    expect(await lease(Lsn.of(8))).toBeUndefined();
    await reopen();
    expect(world.tenant.catalog.leases(MAIN)).toMatchObject([{ lsn: BASE }]);
  });
});

/** Makes a branch and waits for it. */
async function branchAt(lsn: Lsn, name = "branch"): Promise<typeof MAIN> {
  const id = "c".repeat(32) as typeof MAIN;
  const made = await new Promise<Result<unknown, unknown>>((answer) =>
    world.tenant.ref.tell({
      kind: "branch",
      request: { id, name, ancestor: MAIN, lsn },
      reply: { answer },
    }),
  );
  expect(made).toMatchObject({ ok: true });
  await world.loaded(id);
  return id;
}
