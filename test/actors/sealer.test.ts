// Sealing by a second thread: the files are those that turns would write, layers are read meanwhile, and
// what goes wrong there is told here by its name.

import fc from "fast-check";
import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import {
  type CrashReport,
  type ActorSystem,
  type Reply,
  startSystem,
} from "../../src/actors/runtime.ts";
import { type Sealer, type SealerDeps, spawnSealer } from "../../src/actors/sealer.ts";
import type { JobTold } from "../../src/actors/thread-jobs.ts";
import { openSealThread } from "../../src/app/threads.ts";
import { ARENA_CHUNK_BYTES, SEAL_RETRY_MS } from "../../src/core/limits.ts";
import { GroupTable } from "../../src/core/key.ts";
import { LSN_INVALID, LSN_MAX, type Lsn } from "../../src/core/lsn.ts";
import type { Result } from "../../src/core/result.ts";
import { VERSION } from "../../src/core/version.ts";
import { systemClock } from "../../src/io/clock.ts";
import type { FrozenParts } from "../../src/store/frozen-layer.ts";
import { LayerSealing, type SealOrder, type SealedFacts } from "../../src/store/layer-sealing.ts";
import { MemoryLayer } from "../../src/store/memory-layer.ts";
import { OpenFiles } from "../../src/store/sealed-file.ts";
import { StoreFailed, StoreFull, failureOf, plainFailure } from "../../src/store/store-errors.ts";
import { GROUPS, type Put, apply, expected, history, keysOf, seen } from "../store/histories.ts";
import { until } from "../support/replication.ts";
import { timelineTest } from "../support/timeline-test.ts";
import { MAIN, pageImage } from "../support/timeline-world.ts";

const TIMELINE = "d".repeat(32);
const RESTART = { crashesMax: 3, windowMs: 60_000, backOffMs: 5, backOffMsMax: 5 };
type Told = JobTold<SealedFacts, never>;
/** Starting a thread from sources takes a second, on a busy machine many. */
const SLOW_MS = 60_000;

let directory: string;
beforeEach(() => {
  directory = fs.mkdtempSync(path.join(os.tmpdir(), "sealer-test-"));
});
afterEach(() => fs.rmSync(directory, { recursive: true, force: true }));

describe("the thread that seals", () => {
  let system: ActorSystem;
  let sealer: Sealer;
  let crashes: CrashReport[];
  beforeEach(() => {
    crashes = [];
    system = startSystem("sealing", (report) => crashes.push(report));
    sealer = spawnSealer(system.root, { restart: RESTART, open: openSealThread });
  });
  afterEach(async () => {
    await new Promise<undefined>((answer) => sealer.ref.tell({ kind: "stop", reply: { answer } }));
    system.stop();
  });

  const orderOf = (layer: FrozenParts, name: string): SealOrder => ({
    path: `${directory}/${name}`,
    timeline: TIMELINE,
    layer,
  });

  test("writes what turns here would write, while the layer is read", async () => {
    const [puts] = fc.sample(history(0, 3_000), { numRuns: 1, seed: 15 });
    const last = puts!.at(-1)!.lsn;
    // Too long for a block: it lies in memory of its own.
    const bytes = new Uint8Array(2 * ARENA_CHUNK_BYTES).map((_, i) => i % 251);
    const long = { ...{ group: GROUPS[0]!, block: 0, type: VERSION.RECORD, flags: 0, hole: 0 } };
    const all: readonly Put[] = [...puts!, { ...long, bytes, lsn: (last + 8) as Lsn }];
    const layer = frozen(all);
    const written = sealer.run(orderOf(layer.parts(), "a.layer"));
    expectVersions(layer, all);
    const elsewhere = await written;
    const here = await sealHere(layer, `${directory}/b.layer`);
    expect(elsewhere.header).toEqual(here.header);
    expect(elsewhere.chainRecords).toBe(here.chainRecords);
    const files = new OpenFiles();
    expectVersions(files.layer(`${directory}/a.layer`, { ...elsewhere, ...elsewhere.header }), all);
    files.closeAll();
  });

  test("a failed write is told by its name, and the next layer is written", async () => {
    const layer = frozen([]);
    const parts = layer.parts();
    const failed = sealer.run(orderOf(parts, "missing/a.layer"));
    const next = sealer.run(orderOf(parts, "b.layer"));
    await expect(failed).rejects.toThrow(StoreFailed);
    await expect(failed).rejects.toThrow(/missing\/a\.layer/);
    expect((await next).header.versions).toBe(1);
    expect(crashes).toEqual([]);
  });

  test("a layer that waits can be withdrawn", async () => {
    const parts = frozen([]).parts();
    const first = sealer.run(orderOf(parts, "a.layer"));
    const order = orderOf(parts, "b.layer");
    const second = sealer.run(order);
    sealer.withdraw(order);
    await expect(second).rejects.toThrow(/withdrawn/);
    await first;
    expect(fs.readdirSync(directory).filter((name) => !name.endsWith("-lock"))).toEqual([
      "a.layer",
    ]);
  });

  test("when it dies, all who asked hear of it, it is named, and there is another", async () => {
    const parts = frozen([]).parts();
    const poison = { path: `${directory}/a.layer`, timeline: TIMELINE } as unknown as SealOrder;
    const asked = [sealer.run(poison), sealer.run(orderOf(parts, "b.layer"))];
    for (const { status } of await Promise.allSettled(asked)) expect(status).toBe("rejected");
    expect(crashes).toMatchObject([{ decision: "restart", error: { name: "ThreadDied" } }]);
    expect((await sealer.run(orderOf(parts, "b.layer"))).header.versions).toBe(1);
  });
});

test("failures keep their kind from thread to thread", () => {
  const full = new StoreFull("/x/a.layer", new Error("ENOSPC"));
  const failed = new StoreFailed("/x/b.layer", "syncing", new Error("EIO"));
  for (const error of [full, failed, new Error("a bug")]) {
    const again = failureOf(structuredClone(plainFailure(error)));
    expect(again.constructor).toBe(error.constructor);
    expect(again.message).toContain(error.message);
  }
});

describe("a timeline whose layers another thread seals", () => {
  const t = timelineTest();
  const seal = (): Promise<Result<undefined, string>> =>
    t.world.ask((reply) => ({ kind: "seal-now", reply }), MAIN, SLOW_MS);

  test("is read and takes WAL in meanwhile, and has all of it afterwards", async () => {
    const held = holding();
    await t.reopen({ sealer: held.open });
    for (let i = 0; i < 300; i++) t.wal.add(pageImage(i, i));
    const receiver = await t.takeIn();
    const sealed = seal();
    await until("it is written", () => held.told.length > 0, SLOW_MS);
    expect(t.world.main.store?.isSealing).toBe(true);
    expect(await t.world.fill(299)).toBe(299 & 255);
    const half = t.wal.end;
    t.addPages(10, 100);
    receiver.sendFrom(t.wal, half);
    await receiver.untilDurable(t.wal.end);
    expect(await t.world.fill(0, { lsn: half })).toBe(0);
    expect(await t.world.fill(0)).toBe(100);
    held.release();
    expect(await sealed).toEqual({ ok: true, value: undefined });
    expect(t.world.main.entry.sealedLsn).toBe(half);
    await t.reopen();
    expect(await t.world.fill(0)).toBe(100);
    expect(await t.world.fill(299)).toBe(299 & 255);
  });

  test("stays as it is when the thread dies, and is sealed by the next one", async () => {
    let deaths = 0;
    let laterMs = 0;
    const dying: SealerDeps["open"] = (handlers) => {
      const thread = openSealThread(handlers);
      if (deaths++ > 0) return thread;
      return { ...thread, tell: () => handlers.onDied(new Error("told to die")) };
    };
    const clock = { steadyMs: () => systemClock.steadyMs() + laterMs };
    await t.reopen({ sealer: dying, clock });
    t.addPages(20);
    await t.takeIn();
    expect(await seal()).toMatchObject({ ok: false });
    expect(t.world.main.facts.stalled).toMatch(/cannot be sealed/);
    expect(t.world.crashes).toMatchObject([{ path: "world/sealer" }]);
    expect(await t.world.fill(19)).toBe(20);
    laterMs = SEAL_RETRY_MS;
    t.world.tenants.tell({ kind: "tick" });
    await until("sealed", () => t.world.main.entry.sealedLsn === t.wal.end, SLOW_MS);
    expect(t.world.main.facts.stalled).toBeUndefined();
    expect(await t.world.fill(19)).toBe(20);
  });
});

/** A layer that takes no more, of `puts`; of one version if there are none. */
function frozen(puts: readonly Put[]): MemoryLayer {
  const layer = new MemoryLayer(new GroupTable());
  apply(layer, puts);
  if (puts.length === 0) layer.putZeroPage(layer.groups.id(0, 1663, 5, 16_384, 0), 7, 8);
  layer.freeze();
  return layer;
}

function expectVersions(layer: Pick<MemoryLayer, "visit">, puts: readonly Put[]): void {
  for (const { group, block } of keysOf(puts)) {
    const found: unknown[] = [];
    layer.visit(group, block, LSN_MAX, LSN_INVALID, (version) => found.push(seen(version)) > 0);
    expect(found).toEqual(expected(puts, group, block, LSN_MAX, LSN_INVALID));
  }
}

function sealHere(layer: MemoryLayer, file: string): ReturnType<LayerSealing["finish"]> {
  const fault = (): void => undefined;
  const options = { layer, path: file, timeline: TIMELINE, files: new OpenFiles(), fault };
  const sealing = new LayerSealing(options);
  while (sealing.step());
  return sealing.finish();
}

/** A real thread whose answers are held back until they are released. */
function holding(): {
  readonly open: SealerDeps["open"];
  readonly told: readonly Told[];
  readonly release: () => void;
} {
  const told: Told[] = [];
  let hold = true;
  let hear: Reply<Told> | undefined;
  return {
    told,
    open: (handlers) => {
      hear = { answer: handlers.onTold };
      const onTold = (one: Told): void => {
        if (hold) told.push(one);
        else handlers.onTold(one);
      };
      return openSealThread({ ...handlers, onTold });
    },
    release: () => {
      hold = false;
      for (const one of told) hear?.answer(one);
    },
  };
}
