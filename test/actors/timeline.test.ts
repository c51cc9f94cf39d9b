// A timeline live, on real files: WAL in and pages out, what a restart finds, records that cannot be
// followed, readers that wait, receivers that come and go, memory that is full.

import fs from "node:fs";
import { describe, expect, test } from "vitest";
import type { TimelineMsg } from "../../src/actors/timeline-messages.ts";
import type { AdminError } from "../../src/core/admin-error.ts";
import type { BackupSource } from "../../src/core/backup-source.ts";
import type { ReadError } from "../../src/core/errors.ts";
import { LEASES_MAX } from "../../src/core/limits.ts";
import { LSN_MAX, Lsn, WAL_SEGMENT_BYTES } from "../../src/core/lsn.ts";
import type { Result } from "../../src/core/result.ts";
import { RM } from "../../src/protocol/wal/rmgr.ts";
import { timelinePath, walPath } from "../../src/store/data-dir.ts";
import { OpenBudget } from "../../src/store/open-budget.ts";
import { until } from "../support/replication.ts";
import { errorOf, timelineTest } from "../support/timeline-test.ts";
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

const t = timelineTest();

describe("WAL in, pages out", () => {
  test("pages at any LSN; what is durable is told; a restart and a seal change nothing", async () => {
    t.addPages(3);
    const early = t.wal.end;
    t.addPages(3, 101);
    await t.takeIn();
    const expectAll = async (): Promise<void> => {
      expect([await t.world.fill(0), await t.world.fill(2)]).toEqual([101, 103]);
      expect(await t.world.fill(2, { lsn: early })).toBe(3);
      expect(t.world.main.facts.positions.visible).toBe(t.wal.end);
    };
    await expectAll();
    await t.reopen();
    await expectAll();
    expect(await t.seal()).toEqual({ ok: true, value: undefined });
    expect(t.world.main.entry.sealedLsn).toBe(t.wal.end);
    await expectAll();
    await t.reopen();
    await expectAll();
  });

  test("cut anywhere: only whole records count, and streaming starts again behind the last", async () => {
    t.addPages(2);
    const whole = t.wal.end;
    t.addPages(1, 50);
    const bytes = t.wal.bytes();
    const receiver = await t.attached();
    const cut = whole - BASE + 5_000;
    receiver.send(BASE, bytes.subarray(0, 3_000));
    receiver.send(Lsn.of(BASE + 3_000), bytes.subarray(3_000, cut));
    await receiver.untilDurable(whole);
    expect(t.world.main.facts.positions).toMatchObject({ received: BASE + cut, visible: whole });
    const again = await t.attached(whole);
    expect(receiver.refused).toMatchObject({ retry: false });
    again.sendFrom(t.wal, whole);
    await again.untilDurable(t.wal.end);
    expect(await t.world.fill(0)).toBe(50);
  });

  test("of WAL that was rewound nothing holds back what comes instead", async () => {
    t.addPages(1);
    const whole = t.wal.end;
    const other = newWal();
    other.add(pageImage(0, 1));
    t.wal.add({ rmid: RM.LOGICALMSG, info: 0, main: new Uint8Array(50_000).fill(7) });
    const receiver = await t.attached();
    receiver.send(BASE, t.wal.bytes().subarray(0, t.wal.end - BASE - 8));
    await receiver.untilDurable(whole);
    const again = await t.attached(whole);
    // Another history from there on, shorter than what was received of the first.
    other.add(pageImage(1, 9));
    again.sendFrom(other, whole);
    await again.untilDurable(other.end);
    expect(await t.world.fill(1)).toBe(9);
  });

  test("behind a switch of segments streaming starts in the next, though the old one has not all come", async () => {
    t.addPages(1);
    const before = t.wal.end;
    t.wal.switchSegment();
    const next = t.wal.end;
    expect(next % WAL_SEGMENT_BYTES).toBe(0);
    t.addPages(1, 70);
    const receiver = await t.attached();
    const bytes = t.wal.bytes();
    receiver.send(BASE, bytes.subarray(0, before - BASE + 4_096));
    await until("the switch is in", () => t.world.main.facts.positions.visible === next);
    expect(receiver.durable).toBeLessThan(next);
    const again = await t.attached(next);
    again.sendFrom(t.wal, next);
    await again.untilDurable(t.wal.end);
    expect(await t.world.fill(0)).toBe(70);
    await t.reopen();
    expect(t.world.main.facts.positions.visible).toBe(t.wal.end);
    expect(await t.world.fill(0)).toBe(70);
    expect(t.world.crashes).toEqual([]);
  });

  test("bytes that are no WAL: those before count, that connection is told, the next one goes on", async () => {
    t.addPages(2);
    const whole = t.wal.end;
    t.addPages(1, 30);
    const bytes = t.wal.bytes();
    const bad = bytes.slice();
    bad[whole - BASE + 100]! ^= 1;
    const receiver = await t.attached();
    receiver.send(BASE, bad);
    expect((await receiver.untilRefused()).reason).toMatch(/CRC/);
    expect(receiver.refused).toMatchObject({ retry: true });
    await until(
      "what came before is durable",
      () => t.world.main.facts.positions.durable === whole,
    );
    receiver.send(t.wal.end, new Uint8Array(100)); // of a connection that does not count any more
    const again = await t.attached(whole);
    again.sendFrom(t.wal, whole);
    await again.untilDurable(t.wal.end);
    expect(await t.world.fill(0)).toBe(30);
    expect(t.world.main.facts.phase).toEqual({ kind: "active" });
  });

  test("WAL with a gap is refused and streamed again", async () => {
    t.addPages(2);
    const receiver = await t.attached();
    receiver.send(Lsn.of(BASE + 8), t.wal.bytes().subarray(8));
    const refused = await receiver.untilRefused();
    expect(refused).toMatchObject({ retry: true });
    expect(refused.reason).toBe("WAL came at 0/2000030, not at 0/2000028");
    const again = await t.attached();
    again.sendFrom(t.wal);
    await again.untilDurable(t.wal.end);
    expect(await t.world.fill(1)).toBe(2);
  });

  test("two receivers at once: the last one counts, and only one is answered", async () => {
    t.addPages(2);
    const whole = t.wal.end;
    const bytes = t.wal.bytes();
    const old = await t.attached();
    old.send(BASE, bytes.subarray(0, bytes.length - 100));
    const [first, second] = [new TestReceiver(t.world), new TestReceiver(t.world)];
    void first.attach().catch(() => undefined);
    await second.attachAt(t.wal.records[0]!.endLsn);
    expect(first.refused).toMatchObject({ retry: false });
    second.sendFrom(t.wal, t.wal.records[0]!.endLsn);
    await second.untilDurable(whole);
    expect(t.world.crashes).toEqual([]);
  });

  test("a receiver that was stopped before its turn came does not count", async () => {
    const receiver = new TestReceiver(t.world);
    receiver.ref.stop();
    expect(await receiver.attach()).toEqual({
      ok: false,
      error: expect.stringMatching(/replaced/),
    });
  });
});

describe("a record that cannot be followed", () => {
  test("breaks the timeline there: what is before stays readable, also after restarts; WAL is kept", async () => {
    t.addPages(2);
    const whole = t.wal.end;
    t.wal.add(unsupported);
    t.addPages(1, 90);
    const receiver = await t.attached();
    receiver.sendFrom(t.wal);
    expect(await receiver.untilRefused()).toMatchObject({ retry: false });
    await until("broken", () => t.world.main.facts.phase.kind === "broken");
    const expectBroken = async (): Promise<void> => {
      expect(t.world.main.facts.phase).toMatchObject({
        reason: expect.stringMatching(/WAL behind .* cannot be followed: .*fork 1 other than/),
      });
      expect(t.world.main.facts.positions.visible).toBe(whole);
      // Of the record's changes nothing shows.
      expect([await t.world.fill(0), await t.world.fill(1)]).toEqual([1, 2]);
      // Nothing half-done is left in memory: all there is can be sealed.
      expect(await t.seal()).toMatchObject({ ok: true });
      expect(t.world.main.entry.sealedLsn).toBe(whole);
      const both = await t.world.batch([1], { lsn: Lsn.of(whole + 8) });
      expect(errorOf(both.answers)).toMatch(/the timeline is broken: WAL behind/);
      expect(await new TestReceiver(t.world).attach()).toMatchObject({ ok: false });
    };
    await expectBroken();
    expect(t.world.crashes).toHaveLength(1);
    await t.reopen();
    await expectBroken();
    expect(t.world.crashes).toEqual([]);
    const segment = fs.readFileSync(
      `${walPath(timelinePath(t.dataDir, TENANT, MAIN))}/000000010000000000000002`,
    );
    const kept = segment.subarray(40, 40 + t.wal.end - BASE);
    expect(kept.equals(t.wal.bytes()), "what was received is not removed").toBe(true);
  });

  test("a branch below it, and a backup, still work", async () => {
    t.addPages(2);
    const whole = t.wal.end;
    t.wal.add(unsupported);
    const receiver = await t.attached();
    receiver.sendFrom(t.wal);
    await until("broken", () => t.world.main.facts.phase.kind === "broken");
    const id = await t.branchAt(whole);
    expect(await t.world.fill(1, { id })).toBe(2);
    const source = await t.world.ask<Result<BackupSource, ReadError>>((reply) => ({
      ...{ kind: "backup-source", lsn: undefined, reply },
    }));
    expect(source).toMatchObject({ ok: true, value: { lsn: whole } });
    await t.reopen();
    await t.world.loaded(id);
    expect(await t.world.fill(1, { id })).toBe(2);
  });
});

describe("readers that wait", () => {
  test("are answered when their LSN has come, one by one; others are not held up", async () => {
    t.addPages(1);
    await t.takeIn();
    const first = t.wal.end;
    t.addPages(1, 20);
    const second = t.wal.end;
    t.addPages(1, 40);
    const third = t.wal.end;
    const late = [second, third].map((lsn) => t.world.fill(0, { lsn }));
    expect(await t.world.fill(0)).toBe(1);
    const receiver = await t.attached(first);
    receiver.send(first, t.wal.bytes().subarray(first - BASE, second - BASE));
    expect(await late[0]).toBe(20);
    receiver.sendFrom(t.wal, second);
    expect(await late[1]).toBe(40);
  });

  test("until the deadline: only what really waited is refused", async () => {
    let nowMs = 1_000;
    await t.reopen({ clock: { steadyMs: () => nowMs } });
    await t.world.loaded();
    t.addPages(1);
    await t.takeIn();
    const slab = new Uint8Array(2 * 8192);
    const later = Lsn.of(t.wal.end + 4_096);
    const request = {
      kind: "get-page",
      rel: { spc: 1663, db: 5, rel: 16_384, fork: 0 },
      block: 0,
    } as const;
    const answers = t.world.ask<Awaited<ReturnType<TimelineWorld["read"]>>>((reply) => ({
      kind: "read",
      batch: {
        requests: [
          { ...request, lsn: later, notModifiedSince: later },
          { ...request, lsn: t.wal.end, notModifiedSince: t.wal.end },
        ],
        slab,
        pageOffsets: Int32Array.of(0, 8192),
      },
      reply,
    }));
    expect(await t.world.fill(0)).toBe(1); // by now it is parked
    nowMs += 61_000;
    t.world.main.ref.tell({ kind: "tick" });
    const both = await answers;
    expect(errorOf(both, 0)).toMatch(
      /LSN timeout: waited 61000 ms for .*is its WAL source connected/,
    );
    expect(both[1]).toEqual({ kind: "page" });
    expect(slab.at(-1)).toBe(1);
  });

  test("at the end of a page both its end and the start of the next record are that moment", async () => {
    t.addPages(1);
    const room = 8192 - (t.wal.end % 8192);
    // A record that ends exactly at the page's end.
    t.wal.add({ rmid: RM.LOGICALMSG, info: 0, main: new Uint8Array(room - 24 - 5).fill(1) });
    expect(t.wal.end % 8192).toBe(0);
    await t.takeIn();
    expect(await t.world.fill(0, { lsn: Lsn.normalize(t.wal.end) })).toBe(1);
    const branch = await t.branchAt(t.wal.end);
    expect(t.world.tenant.timelines.get(branch)!.entry.ancestor?.lsn).toBe(
      Lsn.normalize(t.wal.end),
    );
    expect(await t.world.fill(0, { id: branch, lsn: Lsn.normalize(t.wal.end) })).toBe(1);
  });

  test("requests that make no sense are answered, and harm nobody", async () => {
    t.addPages(1);
    await t.takeIn();
    const ask = async (lsn: Lsn, since: Lsn): Promise<string> =>
      errorOf(await t.world.read([0], { lsn, since }));
    expect(await ask(Lsn.of(0), Lsn.of(0))).toMatch(/invalid LSN\(0\)/);
    expect(await ask(Lsn.of(8), Lsn.of(8))).toMatch(/garbage collected/);
    expect(await ask(t.wal.end, LSN_MAX)).toMatch(/not_modified_since/);
    expect(await ask(LSN_MAX, LSN_MAX)).toMatch(/must be a real LSN/);
    expect(await t.world.fill(0)).toBe(1);
  });
});

describe("memory", () => {
  test("over the budget WAL waits while a layer is sealed, then goes on: nothing is lost, nobody starves", async () => {
    await t.world.close();
    const budget = new OpenBudget(3 * 1024 * 1024);
    t.world = new TimelineWorld(t.dataDir, { budget });
    await t.world.loaded();
    for (let i = 0; i < 4_000; i++) t.wal.add(pageImage(i, i));
    const receiver = await t.attached();
    let most = 0;
    const bytes = t.wal.bytes();
    for (let at = 0; at < bytes.length; at += 65_536) {
      receiver.send(Lsn.of(BASE + at), bytes.subarray(at, at + 65_536));
      if (at % (64 * 65_536) !== 0) continue;
      await until("it keeps up", () => {
        most = Math.max(most, budget.bytes);
        return t.world.main.facts.positions.received >= BASE + at;
      });
    }
    await receiver.untilDurable(t.wal.end);
    expect(most).toBeLessThan(8 * 1024 * 1024);
    expect(t.world.tenant.catalog.layers(MAIN).length).toBeGreaterThan(5);
    for (const block of [0, 1_234, 3_999]) expect(await t.world.fill(block)).toBe(block & 255);
  });

  test("seal-now answers for all that was visible, also while another seal is under way", async () => {
    for (let i = 0; i < 2_000; i++) t.wal.add(pageImage(i, i));
    const receiver = await t.takeIn();
    const first = t.seal();
    const half = t.wal.end;
    await until("sealing", () => t.world.main.store?.isSealing === true);
    t.addPages(10, 200);
    receiver.sendFrom(t.wal, half);
    await receiver.untilDurable(t.wal.end);
    const second = t.seal();
    expect(await Promise.all([first, second])).toEqual([
      { ok: true, value: undefined },
      { ok: true, value: undefined },
    ]);
    expect(t.world.main.entry.sealedLsn).toBe(t.wal.end);
    expect(t.world.main.store?.openIsEmpty).toBe(true);
  });
});

describe("leases", () => {
  test("are durable, renewed, bounded, and refused for what is not kept", async () => {
    const lease = async (lsn: Lsn): Promise<number | undefined> => {
      const until = await t.world.ask<Result<number, AdminError>>(
        (reply) => ({ kind: "lease", lsn, reply }) satisfies TimelineMsg,
      );
      return until.ok ? until.value : undefined;
    };
    const until = await lease(BASE);
    expect(until).toBeGreaterThan(Date.now() + 5 * 60_000);
    expect(await lease(BASE)).toBeGreaterThanOrEqual(until!);
    expect(await lease(Lsn.of(8))).toBeUndefined();
    await t.reopen();
    expect(t.world.tenant.catalog.leases(MAIN)).toMatchObject([{ lsn: BASE }]);
    t.world.tenant.catalog.change((change) => {
      for (let i = 1; i < LEASES_MAX; i++) {
        const lsn = Lsn.of(BASE + 8 * i);
        change.putLease({ timeline: MAIN, lsn, owner: "-", expiresAtMs: until! + 60_000 });
      }
    });
    expect(await lease(Lsn.of(BASE + 1_000_000)), "one more than may be").toBeUndefined();
    expect(await lease(BASE), "renewing is no new one").toBeDefined();
  });
});
