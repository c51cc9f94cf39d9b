import fs from "node:fs";
import fc from "fast-check";
import { expect, test } from "vitest";
import { KIND } from "../../src/core/key.ts";
import { LSN_INVALID, LSN_MAX, type Lsn } from "../../src/core/lsn.ts";
import { VERSION } from "../../src/core/version.ts";
import type { SealPoint } from "../../src/store/seal-job.ts";
import type { TimelineStore } from "../../src/store/timeline-store.ts";
import { GROUPS, type Put, apply, expected, history, keysOf, seen } from "./histories.ts";
import { inScratch } from "./scratch.ts";
import { StoreFixture, seal, timelineId } from "./store-fixture.ts";

type Step =
  | { readonly kind: "take"; readonly on: number; readonly puts: readonly Put[] }
  | { readonly kind: "freeze" | "seal"; readonly on: number }
  | { readonly kind: "crash-sealing"; readonly on: number; readonly point: SealPoint }
  | { readonly kind: "reopen" }
  | { readonly kind: "branch"; readonly on: number; readonly part: number };

const POINTS: readonly SealPoint[] = ["begun", "written", "synced", "renamed", "entered"];
const on = fc.nat(3);

const step: fc.Arbitrary<Step> = fc.oneof(
  {
    weight: 5,
    arbitrary: fc.record({ kind: fc.constant("take" as const), on, puts: history(0, 25) }),
  },
  {
    weight: 3,
    arbitrary: fc.record({ kind: fc.constantFrom("freeze" as const, "seal" as const), on }),
  },
  {
    weight: 2,
    arbitrary: fc.record({
      kind: fc.constant("crash-sealing" as const),
      on,
      point: fc.constantFrom(...POINTS),
    }),
  },
  { weight: 1, arbitrary: fc.constant({ kind: "reopen" as const }) },
  {
    weight: 1,
    arbitrary: fc.record({
      kind: fc.constant("branch" as const),
      on,
      part: fc.double({ min: 0, max: 1, noNaN: true }),
    }),
  },
);

/** The naive truth: each timeline's own WAL as a list, and where it branched off. */
interface Model {
  readonly own: Put[];
  readonly ancestor: { readonly n: number; readonly lsn: number } | undefined;
  last: number;
}

function truth(models: readonly Model[], n: number): Put[] {
  const { own, ancestor } = models[n]!;
  if (ancestor === undefined) return own;
  return [...truth(models, ancestor.n).filter(({ lsn }) => lsn <= ancestor.lsn), ...own];
}

class World {
  readonly models: Model[] = [{ own: [], ancestor: undefined, last: 8 }];
  readonly fixture: StoreFixture;

  constructor(directory: string) {
    this.fixture = new StoreFixture(directory);
    this.fixture.create(0);
  }

  async run(step: Step): Promise<void> {
    if (step.kind === "reopen") return this.reopen();
    const n = step.on % this.models.length;
    const model = this.models[n]!;
    const store = this.fixture.store(n);
    switch (step.kind) {
      case "take": {
        const puts = step.puts.map((put) => ({ ...put, lsn: (put.lsn + model.last) as Lsn }));
        apply(store.sink, puts);
        model.own.push(...puts);
        model.last = puts.at(-1)?.lsn ?? model.last;
        return;
      }
      case "freeze":
        return store.freeze(model.last as Lsn, LSN_INVALID);
      case "seal":
        return seal(store);
      case "crash-sealing":
        this.fixture.sealFault = (point) => {
          if (point === step.point) throw new Error("crash");
        };
        await expect
          .soft(seal(store).catch(String))
          .resolves.toSatisfy((outcome) => outcome === undefined || outcome === "Error: crash");
        this.fixture.sealFault = () => {};
        return this.reopen();
      case "branch": {
        const lsn = Math.floor(model.last * step.part);
        if (lsn < (model.ancestor?.lsn ?? 0)) return;
        this.models.push({ own: [], ancestor: { n, lsn }, last: lsn });
        this.fixture.create(this.models.length - 1, { n, lsn: lsn as Lsn });
      }
    }
  }

  /** What was not sealed comes again, from the WAL. */
  private async reopen(): Promise<void> {
    await this.fixture.reopen();
    this.models.forEach(({ own }, n) => {
      const { sealedLsn } = this.fixture.catalog.timeline(timelineId(n))!;
      apply(
        this.fixture.store(n).sink,
        own.filter(({ lsn }) => lsn > sealedLsn),
      );
    });
  }

  verify(picks: readonly number[]): void {
    this.models.forEach((_, n) => {
      const puts = truth(this.models, n);
      const store = this.fixture.store(n);
      const lsns = [LSN_MAX, 0, ...puts.flatMap(({ lsn }) => [lsn - 1, lsn])];
      for (const { group, block } of keysOf(this.models.flatMap(({ own }) => own))) {
        for (let i = 0; i < picks.length; i += 2) {
          const at = lsns[picks[i]! % lsns.length]!;
          const floor = lsns[picks[i + 1]! % lsns.length]!;
          const found: unknown[] = [];
          store.visit(group, block, at as Lsn, floor as Lsn, (version) => {
            found.push(seen(version));
            return true;
          });
          expect(found).toEqual(expected(puts, group, block, at, floor));
        }
      }
      verifyList(store, puts);
    });
  }
}

/** `meta` answers the newest state: of the histories here only those keys that have values. */
function verifyList(store: TimelineStore, puts: readonly Put[]): void {
  const metadata = puts.filter(({ group }) => group.kind === KIND.TWO_PHASE);
  const newest = new Map(metadata.map((put) => [`${put.group.c}/${put.block}`, put]));
  const usable = [...newest.values()].every(
    ({ type }) => type === VERSION.VALUE || type === VERSION.TOMBSTONE,
  );
  if (!usable) return;
  const found: string[] = [];
  store.meta.list(KIND.TWO_PHASE, undefined, undefined, (id, block, value) => {
    found.push(`${store.groups.group(id).c}/${block}=${Buffer.from(value).toString("hex")}`);
  });
  const wanted = [...newest]
    .filter(([, { type }]) => type === VERSION.VALUE)
    .map(([name, { bytes }]) => `${name}=${Buffer.from(bytes).toString("hex")}`);
  expect(found.sort()).toEqual(wanted.sort());
}

test("whatever is frozen, sealed, branched or cut short by a crash, reads see the whole history", () =>
  fc.assert(
    fc.asyncProperty(
      fc.array(step, { minLength: 4, maxLength: 25, size: "max" }),
      fc.array(fc.nat(), { minLength: 8, maxLength: 8 }),
      (steps, picks) =>
        inScratch(async (directory) => {
          const world = new World(directory);
          for (const each of steps) {
            await world.run(each);
            world.verify(picks);
          }
          await world.fixture.close();
        }),
    ),
    { numRuns: 15 },
  ));

const GROUP = GROUPS[0]!;

function putPage(store: TimelineStore, block: number, lsn: number): void {
  store.sink.putZeroPage(store.sink.groups.id(KIND.PAGE, 1663, 5, 16384, 0), block, lsn);
}

for (const point of POINTS) {
  test(`a crash when the seal is ${point} leaves either the WAL position or the layer, and no other file`, () =>
    inScratch(async (directory) => {
      const fixture = new StoreFixture(directory);
      const store = fixture.create(0);
      putPage(store, 1, 100);
      store.freeze(104 as Lsn, 96 as Lsn);
      fixture.sealFault = (now) => {
        if (now === point) throw new Error("crash");
      };
      await expect(seal(store)).rejects.toThrow("crash");
      await fixture.reopen();
      const after = fixture.store(0);
      const entry = fixture.catalog.timeline(timelineId(0))!;
      const isSealed = !after.visit(GROUP, 1, LSN_MAX, LSN_INVALID, () => false);
      expect(isSealed).toBe(point === "entered");
      expect(entry.sealedLsn).toBe(isSealed ? 104 : 0);
      expect(entry.sealedPrev).toBe(isSealed ? 96 : 0);
      const files = fs.readdirSync(`${fixture.timelineDirectory(0)}/layers`);
      const named = fixture.catalog.layers(timelineId(0)).map(({ file }) => file);
      expect(files.filter((name) => !name.endsWith("-lock"))).toEqual(named);
      await fixture.close();
    }));
}

test("a seal that failed for want of space is done again, and reads never noticed", () =>
  inScratch(async (directory) => {
    const fixture = new StoreFixture(directory);
    const store = fixture.create(0);
    putPage(store, 1, 100);
    store.freeze(104 as Lsn, LSN_INVALID);
    fixture.sealFault = (point) => {
      if (point === "renamed") throw new Error("full");
    };
    await expect(seal(store)).rejects.toThrow("full");
    expect(store.visit(GROUP, 1, LSN_MAX, LSN_INVALID, () => false)).toBe(false);
    expect(store.isSealing).toBe(true);
    fixture.sealFault = () => {};
    await seal(store);
    expect(store.isSealing).toBe(false);
    expect(store.visit(GROUP, 1, LSN_MAX, LSN_INVALID, () => false)).toBe(false);
    expect(fixture.catalog.layers(timelineId(0))).toHaveLength(1);
    await fixture.close();
  }));

test("a freeze of nothing still moves the sealed position, without a file", () =>
  inScratch(async (directory) => {
    const fixture = new StoreFixture(directory);
    const store = fixture.create(0);
    store.freeze(500 as Lsn, 400 as Lsn);
    await seal(store);
    const { sealedLsn, sealedPrev } = fixture.catalog.timeline(timelineId(0))!;
    expect([sealedLsn, sealedPrev]).toEqual([500, 400]);
    expect(fixture.catalog.layers(timelineId(0))).toEqual([]);
    await fixture.close();
  }));

test("the budget knows what all timelines' open and frozen layers hold", () =>
  inScratch(async (directory) => {
    const fixture = new StoreFixture(directory);
    const [small, large] = [fixture.create(0), fixture.create(1)];
    for (let i = 0; i < 10; i++) putPage(small, i, 100);
    for (let i = 0; i < 10_000; i++) putPage(large, i, 100);
    small.account();
    large.account();
    const { budget } = fixture;
    expect(budget.bytes).toBe(small.openBytes + large.openBytes);
    large.freeze(100 as Lsn, LSN_INVALID);
    expect(budget.bytes).toBeGreaterThan(10_000 * 32);
    await seal(large);
    expect(budget.bytes).toBeLessThan(100_000);
    large.close();
    small.close();
    expect(budget.bytes).toBe(0);
    await fixture.close();
  }));

test("one key with more versions than a turn of sealing writes is sealed whole", () =>
  inScratch(async (directory) => {
    const fixture = new StoreFixture(directory);
    const store = fixture.create(0);
    const id = store.sink.groups.id(KIND.PAGE, 1663, 5, 16384, 0);
    const count = 3_600;
    for (let i = 0; i < count; i++) {
      store.sink.putOp(id, 7, 1_000 + Math.floor(i / 3) * 8, new Uint8Array(6_000).fill(i & 255));
    }
    const truth: unknown[] = [];
    const collect = (to: unknown[]): boolean =>
      store.visit(GROUP, 7, LSN_MAX, LSN_INVALID, (version) => {
        const { lsn, bytes, start, length } = version;
        return to.push([lsn, bytes[start], bytes[start + length - 1], length]) > 0;
      });
    collect(truth);
    expect(truth).toHaveLength(count);
    store.freeze(1_000_000 as Lsn, LSN_INVALID);
    const job = store.beginSeal(0)!;
    let turns = 1;
    while (job.step()) turns++;
    await job.finish();
    expect(turns).toBeGreaterThan(1);
    const sealed: unknown[] = [];
    collect(sealed);
    expect(sealed).toEqual(truth);
    await fixture.close();
  }));
