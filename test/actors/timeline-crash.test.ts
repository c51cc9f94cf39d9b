// A timeline that crashes, is given up or stopped at bad moments: the next life has all that the last
// one had, and they never meet at the files; whoever waits is told.

import fs from "node:fs";
import { describe, expect, test } from "vitest";
import { Lsn } from "../../src/core/lsn.ts";
import { layersPath, timelinePath, walPath } from "../../src/store/data-dir.ts";
import { until } from "../support/replication.ts";
import { errorOf, timelineTest } from "../support/timeline-test.ts";
import { MAIN, TENANT, TimelineWorld, pageImage } from "../support/timeline-world.ts";

const t = timelineTest();

describe("after a crash", () => {
  test("the same answers, and WAL goes on where it was", async () => {
    t.addPages(3);
    const receiver = await t.takeIn();
    const before = t.wal.end;
    await t.world.crashAndReload();
    expect(await t.world.fill(2)).toBe(3);
    t.addPages(1, 80);
    const again = await t.attached(before);
    receiver.sendFrom(t.wal, before); // of a receiver of the life before
    again.sendFrom(t.wal, before);
    await again.untilDurable(t.wal.end);
    expect(await t.world.fill(0)).toBe(80);
  });

  test("while a layer is being sealed: sealed whole by the next life, once", async () => {
    for (let i = 0; i < 3_000; i++) t.wal.add(pageImage(i, i));
    await t.takeIn();
    const sealing = t.seal();
    await until("sealing", () => t.world.main.store?.isSealing === true);
    await t.world.crashAndReload();
    expect(await sealing).toMatchObject({ ok: false });
    expect(t.world.main.facts.positions.visible).toBe(t.wal.end);
    expect(await t.seal()).toMatchObject({ ok: true });
    expect(t.world.tenant.catalog.layers(MAIN)).toHaveLength(2); // the base, and this one
    expect(await t.world.fill(2_999)).toBe(2_999 & 255);
    expect(t.world.crashes).toHaveLength(1);
  });

  test("again and again, faster than it loads: never two lives at the files", async () => {
    await t.world.close();
    const restart = { crashesMax: 50, windowMs: 60_000, backOffMs: 0, backOffMsMax: 0 };
    t.world = new TimelineWorld(t.dataDir, { restart });
    await t.world.loaded();
    for (let i = 0; i < 500; i++) t.wal.add(pageImage(i, i));
    await t.takeIn();
    for (let i = 0; i < 20; i++) {
      t.world.crash();
      if (i % 3 === 0) void t.seal();
      await new Promise((resolve) => setTimeout(resolve, (i * 7) % 12));
    }
    await until("all crashes", () => t.world.crashes.length === 20);
    expect(await t.world.fill(499)).toBe(499 & 255);
    expect(await t.seal()).toMatchObject({ ok: true });
    await t.reopen();
    expect(await t.world.fill(250)).toBe(250);
  });

  test("the next life does not touch the files before the last one has let go of them", async () => {
    t.addPages(1);
    const receiver = await t.attached();
    const held: (() => void)[] = [];
    const { fdatasync } = fs;
    Object.assign(fs, {
      fdatasync: (fd: number, done: (error: Error | null) => void) =>
        held.push(() => fdatasync(fd, done)),
    });
    try {
      receiver.sendFrom(t.wal);
      await until("an fsync is under way", () => held.length > 0);
      t.world.crash();
      await until("the crash", () => t.world.crashes.length > 0);
      await new Promise((resolve) => setTimeout(resolve, 100));
      expect(t.world.main.facts.phase).toEqual({ kind: "loading" });
      expect(t.world.main.store).toBeUndefined();
    } finally {
      Object.assign(fs, { fdatasync });
      for (const sync of held) sync();
    }
    expect(await t.world.fill(0)).toBe(1);
    expect(t.world.main.facts.positions.durable).toBe(t.wal.end);
  });

  test("nor before the last one has ended the seal that was nearly done", async () => {
    t.addPages(3);
    await t.takeIn();
    const held: (() => void)[] = [];
    const { rename } = fs.promises;
    Object.assign(fs.promises, {
      rename: async (from: string, to: string) => {
        if (to.endsWith(".layer")) await new Promise<void>((resolve) => held.push(resolve));
        return rename(from, to);
      },
    });
    try {
      void t.seal();
      await until("a layer is about to get its name", () => held.length > 0);
      t.world.crash();
      await until("the crash", () => t.world.crashes.length > 0);
      await new Promise((resolve) => setTimeout(resolve, 100));
      expect(t.world.main.facts.phase).toEqual({ kind: "loading" });
    } finally {
      Object.assign(fs.promises, { rename });
      for (const go of held) go();
    }
    await t.world.loaded();
    expect(t.world.main.entry.sealedLsn).toBe(t.wal.end);
    expect(await t.world.fill(2)).toBe(3);
    expect(await t.seal()).toMatchObject({ ok: true });
    expect(t.world.tenant.catalog.layers(MAIN)).toHaveLength(2); // the base, and this one
  });

  test("what lives before were waiting for is not done by the next, let alone thrice", async () => {
    t.addPages(1);
    await t.takeIn();
    const id = await t.branchAt(t.wal.end);
    const { directory } = t.world.shared;
    const { store } = t.world.main;
    directory.publish(TENANT, MAIN, { store: undefined });
    for (let i = 0; i < 3; i++) {
      t.world.crash(id);
      await until("a crash", () => t.world.crashes.length === i + 1);
      await until("it waits for its ancestor", () => {
        const handle = t.world.tenant.timelines.get(id)!;
        return handle.facts.phase.kind === "loading";
      });
      await new Promise((resolve) => setTimeout(resolve, 40));
    }
    const layers = layersPath(timelinePath(t.dataDir, TENANT, id));
    const { readdirSync } = fs;
    let opened = 0;
    Object.assign(fs, {
      readdirSync: (path: string, ...rest: []) => {
        if (path === layers) opened++;
        return readdirSync(path, ...rest);
      },
    });
    try {
      directory.publish(TENANT, MAIN, { store });
      expect(await t.world.fill(0, { id })).toBe(1);
      await new Promise((resolve) => setTimeout(resolve, 60));
    } finally {
      Object.assign(fs, { readdirSync });
    }
    expect(opened, "its layers were opened once").toBe(1);
  });

  test("those who wait are told, and the request that crashed it is answered", async () => {
    t.addPages(1);
    await t.takeIn();
    const parked = t.world.read([0], { lsn: Lsn.of(t.wal.end + 8) });
    const sealNow = t.world.crashes.length;
    t.world.crash();
    expect(errorOf(await parked)).toBe("shutdown");
    await until("the crash", () => t.world.crashes.length > sealNow);
    // Asked while it is loaded anew: waits, and is answered.
    expect(await t.world.fill(0)).toBe(1);
  });

  test("too often: broken, reads are answered with the reason, neighbours go on, a restart repairs it", async () => {
    t.addPages(1);
    await t.takeIn();
    const branch = await t.branchAt(t.wal.end);
    for (let i = 0; i < 4; i++) {
      t.world.crash();
      await until("a crash", () => t.world.crashes.length === i + 1);
      await t.world.loaded();
    }
    expect(t.world.main.facts.phase).toMatchObject({ kind: "broken" });
    expect(errorOf(await t.world.read([0]))).toMatch(/broken: it crashed too often: told to crash/);
    expect(await t.seal()).toMatchObject({ ok: false });
    expect(await t.world.fill(0, { id: branch })).toBe(1);
    await t.reopen();
    expect(await t.world.fill(0)).toBe(1);
  });

  test("a stop while it loads, while it seals, while it backs off: nothing is left open", async () => {
    for (let i = 0; i < 2_000; i++) t.wal.add(pageImage(i, i));
    await t.takeIn();
    await t.world.close();
    t.world = new TimelineWorld(t.dataDir); // stopped while loading
    await t.world.close();
    t.world = new TimelineWorld(t.dataDir);
    await t.world.loaded();
    void t.seal();
    await until("sealing", () => t.world.main.store?.isSealing === true);
    await t.world.close();
    t.world = new TimelineWorld(t.dataDir);
    await t.world.loaded();
    t.world.crash();
    await t.world.close();
    t.world = new TimelineWorld(t.dataDir);
    await t.world.loaded();
    expect(await t.world.fill(1_999)).toBe(1_999 & 255);
    expect(t.world.fatal).toEqual([]);
    const open = fs.readdirSync("/proc/self/fd").flatMap((fd) => {
      try {
        return [fs.readlinkSync(`/proc/self/fd/${fd}`)];
      } catch {
        return [];
      }
    });
    const segments = open.filter((file) =>
      file.startsWith(walPath(timelinePath(t.dataDir, TENANT, MAIN))),
    );
    expect(segments, "WAL is not received, so no segment is open").toEqual([]);
  });
});
