// The pool's decisions against a naive world: workers that answer, die of poisoned requests and
// are killed by bystanders, in any order.

import fc from "fast-check";
import { describe, expect, test } from "vitest";

import { Lsn } from "../../src/core/lsn.ts";
import { RedoPool, type RedoPoolEffect } from "../../src/core/redo-pool.ts";
import { RedoRecords, type RedoRequest, type RedoResult } from "../../src/core/redo-request.ts";

/** A request that can be told from others: by the block it names. */
const request = (block: number, recordBytes = 50): RedoRequest => ({
  base: undefined,
  out: new Uint8Array(0),
  steps: [
    {
      rel: { spc: 1, db: 2, rel: 3, fork: 0 },
      block,
      records: RedoRecords.of([{ lsn: Lsn.of(8), bytes: new Uint8Array(recordBytes) }]),
    },
  ],
  at: Lsn.of(8),
});
const blockOf = (r: RedoRequest): number => r.steps[0]!.block;
const pageOf = (block: number): RedoResult => ({ ok: true, page: Uint8Array.of(block) });

/** Who asked, and what came back. */
interface Asked {
  readonly blocks: readonly number[];
  results: readonly RedoResult[] | undefined;
}

interface Running {
  readonly slice: number;
  readonly blocks: readonly number[];
}

/** Performs the pool's effects: workers answer in order, a poisoned block ends the process. */
class World {
  readonly pool: RedoPool<Asked>;
  readonly workers: Running[][];
  readonly asked: Asked[] = [];
  readonly windowBytes: number;
  deaths = 0;

  constructor(workers: number, windowBytes: number, queueMax = 10_000) {
    this.pool = new RedoPool({ workers, windowBytes, queueMax });
    this.workers = Array.from({ length: workers }, () => []);
    this.windowBytes = windowBytes;
  }

  submit(blocks: readonly number[]): Asked {
    const asked: Asked = { blocks, results: undefined };
    this.asked.push(asked);
    this.perform(
      this.pool.submit(
        blocks.map((b) => request(b)),
        asked,
      ),
    );
    return asked;
  }

  perform(effects: readonly RedoPoolEffect<Asked>[]): void {
    for (const effect of effects) {
      if (effect.do === "run") {
        const queue = this.workers[effect.worker]!;
        queue.push({ slice: effect.slice, blocks: effect.requests.map(blockOf) });
        const inFlight = queue.flatMap((running) => running.blocks).length;
        if (inFlight > 1) expect(inFlight * (8192 + 50)).toBeLessThanOrEqual(this.windowBytes);
      } else {
        expect(effect.reply.results, "answered once").toBeUndefined();
        expect(effect.results.length).toBe(effect.reply.blocks.length);
        effect.reply.results = effect.results;
      }
    }
  }

  /** The worker's process works on its oldest slice, or dies of it. False if it has nothing to do. */
  work(worker: number, poison: ReadonlySet<number>, flushed: boolean): boolean {
    const running = this.workers[worker]!.shift();
    if (running === undefined) return false;
    const bad = running.blocks.findIndex((block) => poison.has(block));
    if (bad < 0) {
      this.perform(this.pool.answered(worker, running.slice, running.blocks.map(pageOf)));
    } else {
      this.workers[worker]!.unshift(running);
      this.die(worker, "poisoned", flushed ? bad : 0);
    }
    return true;
  }

  /** The process ends after answering `answered` of its oldest slice. */
  die(worker: number, reason: string, answered: number): void {
    this.deaths++;
    const oldest = this.workers[worker]![0];
    this.workers[worker]!.length = 0;
    const results = oldest?.blocks.slice(0, answered).map(pageOf) ?? [];
    this.perform(this.pool.processDied(worker, reason, results));
  }

  settle(poison: ReadonlySet<number>, flushed: boolean): void {
    for (let turns = 0; this.workers.some((_, w) => this.work(w, poison, flushed)); turns++) {
      expect(turns).toBeLessThan(10_000);
    }
  }
}

const NOTHING: ReadonlySet<number> = new Set();

describe("work", () => {
  test("goes to the least loaded worker, in order, within the window", () => {
    const world = new World(2, 3 * 8242);
    world.submit([1, 2]);
    world.submit([3]);
    world.submit([4, 5, 6, 7]);
    expect(world.workers.map((w) => w.flatMap((r) => r.blocks))).toEqual([
      [1, 2, 6],
      [3, 4, 5],
    ]);
    world.settle(NOTHING, true);
    expect(world.asked.every((a) => a.results?.every((r) => r.ok))).toBe(true);
  });

  test("larger than the window is sent when the worker has nothing else", () => {
    const world = new World(1, 100);
    world.submit([1, 2]);
    expect(world.workers[0]!.map((r) => r.blocks)).toEqual([[1]]);
    world.work(0, NOTHING, true);
    expect(world.workers[0]!.map((r) => r.blocks)).toEqual([[2]]);
  });

  test("beyond the queue's limit is refused whole", () => {
    const world = new World(1, 8242, 3);
    world.submit([1]);
    world.submit([2, 3, 4]);
    const refused = world.submit([5]);
    expect(refused.results).toEqual([
      { ok: false, reason: "more than 3 pages wait for WAL redo; retry" },
    ]);
    world.settle(NOTHING, true);
    expect(world.asked[1]!.results?.map((r) => r.ok)).toEqual([true, true, true]);
  });

  test("of nothing is answered with nothing", () => {
    expect(new World(1, 8242).submit([]).results).toEqual([]);
  });
});

describe("a process that dies", () => {
  test("costs only the request it died of, after one retry alone", () => {
    const world = new World(1, 1 << 20);
    const asked = world.submit([1, 2, 3, 4, 5]);
    world.work(0, new Set([3]), true);
    // 3 alone first, then the rest in halves, one at a time.
    expect(world.workers[0]!.map((r) => r.blocks)).toEqual([[3]]);
    world.settle(new Set([3]), true);
    expect(world.deaths).toBe(2);
    expect(asked.results).toEqual([
      pageOf(1),
      pageOf(2),
      { ok: false, reason: "poisoned" },
      pageOf(4),
      pageOf(5),
    ]);
  });

  test("for no fault of its requests costs none of them", () => {
    const world = new World(2, 1 << 20);
    const asked = world.submit([1, 2, 3]);
    world.die(0, "killed", 1);
    world.settle(NOTHING, true);
    expect(asked.results).toEqual([1, 2, 3].map(pageOf));
  });

  test("leaves others' work to go on, isolated work first", () => {
    const world = new World(1, 1 << 20);
    const first = world.submit([1, 2]);
    world.die(0, "killed", 0);
    const second = world.submit([9]);
    expect(world.workers[0]!.map((r) => r.blocks)).toEqual([[1]]);
    world.settle(NOTHING, true);
    expect([first, second].every((a) => a.results?.every((r) => r.ok))).toBe(true);
  });
});

describe("a process that does not start", () => {
  test("blames nobody: its work is done by others, or by itself later", () => {
    const world = new World(1, 1 << 20);
    const asked = world.submit([1, 2]);
    for (let i = 0; i < 5; i++) {
      world.workers[0]!.length = 0;
      world.perform(world.pool.startFailed(0));
      expect(world.workers[0]).toEqual([]);
      world.perform(world.pool.restarted(0));
      expect(world.workers[0]!.map((r) => r.blocks)).toEqual([[1, 2]]);
    }
    world.settle(NOTHING, true);
    expect(asked.results?.every((r) => r.ok)).toBe(true);
  });

  test("is given up; with the last one waiting pages fail, until one is back", () => {
    const world = new World(2, 1 << 20);
    const asked = world.submit([1]);
    for (const worker of [0, 1]) {
      world.workers[worker]!.length = 0;
      world.perform(world.pool.startFailed(worker));
      world.perform(world.pool.gaveUp(worker, "no memory"));
    }
    const reason = "no redo process can be started: no memory";
    expect(asked.results).toEqual([{ ok: false, reason }]);
    expect(world.submit([2]).results).toEqual([{ ok: false, reason }]);
    world.perform(world.pool.restarted(1));
    const later = world.submit([3]);
    world.settle(NOTHING, true);
    expect(later.results).toEqual([pageOf(3)]);
  });
});

test("a pool that ends answers everybody", () => {
  const world = new World(1, 8242);
  world.submit([1, 2]);
  world.submit([3]);
  world.perform(world.pool.abandon("stopped"));
  expect(world.asked.flatMap((a) => a.results?.map((r) => r.ok))).toEqual([false, false, false]);
});

test("law: all are answered once; without bystanders' kills exactly the poisoned fail", () => {
  const batch = fc.array(fc.integer({ min: 0, max: 99 }), { maxLength: 12 });
  fc.assert(
    fc.property(
      fc.integer({ min: 1, max: 3 }),
      fc.integer({ min: 1, max: 20 }),
      fc.array(fc.tuple(batch, fc.nat(3)), { maxLength: 8 }),
      fc.uniqueArray(fc.integer({ min: 0, max: 99 }), { maxLength: 8 }),
      fc.boolean(),
      (workers, windowPages, batches, poisoned, flushed) => {
        const world = new World(workers, windowPages * 8242);
        const poison = new Set(poisoned);
        for (const [blocks, turns] of batches) {
          world.submit(blocks);
          for (let i = 0; i < turns; i++) world.work(i % workers, poison, flushed);
        }
        world.settle(poison, flushed);
        expect(world.pool.queued).toBe(0);
        for (const { blocks, results } of world.asked) {
          expect(results?.map((r) => r.ok)).toEqual(blocks.map((b) => !poison.has(b)));
          results?.forEach((r, i) => r.ok && expect(r.page[0]).toBe(blocks[i]));
        }
      },
    ),
    { numRuns: 300 },
  );
});

test("law: kills and failed starts at any time leave nobody without an answer", () => {
  const event = fc.record({
    what: fc.constantFrom("submit", "work", "kill", "no-start", "restart", "give-up" as const),
    worker: fc.nat(1),
    blocks: fc.array(fc.nat(99), { maxLength: 6 }),
  });
  fc.assert(
    fc.property(fc.array(event, { maxLength: 40 }), (events) => {
      const world = new World(2, 4 * 8242);
      const down = [false, false];
      for (const { what, worker, blocks } of events) {
        if (what === "submit") world.submit(blocks);
        else if (what === "restart") {
          if (down[worker]) world.perform(world.pool.restarted(worker));
          down[worker] = false;
        } else if (down[worker]) continue;
        else if (what === "work") world.work(worker, NOTHING, true);
        else if (what === "kill") world.die(worker, "killed", 0);
        else {
          world.workers[worker]!.length = 0;
          world.perform(world.pool.startFailed(worker));
          if (what === "give-up") world.perform(world.pool.gaveUp(worker, "gone"));
          down[worker] = true;
        }
      }
      down.forEach((isDown, w) => isDown && world.perform(world.pool.restarted(w)));
      world.settle(NOTHING, true);
      for (const { blocks, results } of world.asked) expect(results?.length).toBe(blocks.length);
      expect(world.pool.queued).toBe(0);
    }),
    { numRuns: 300 },
  );
});
