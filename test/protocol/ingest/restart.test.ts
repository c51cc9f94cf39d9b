// The law of restart: an ingest that starts where a layer was frozen does to every later record exactly
// what the one that went on would have done; and freezing changes nothing that a reader sees.

import fc from "fast-check";
import { expect, test } from "vitest";

import { BoundaryWindow, boundaryAtOrBelow, windowOf } from "../../../src/core/boundaries.ts";
import { decodeSecond, lsnAtTime } from "../../../src/core/commit-times.ts";
import { KIND } from "../../../src/core/key.ts";
import { Lsn } from "../../../src/core/lsn.ts";
import { RM, XLOG } from "../../../src/protocol/wal/rmgr.ts";
import type { RecordSpec } from "../../../src/protocol/wal/writer.ts";
import { Harness, PREV, at, main } from "./model.ts";

const rel = fc.integer({ min: 1, max: 3 });
const block = fc.integer({ min: 0, max: 6 });
const xid = fc.integer({ min: 690, max: 70_000 });
/** Times advance by little, now and then by more, sometimes backwards. */
const time = fc.integer({ min: 800_000_000_000, max: 800_009_000_000 });
const spc = 1663;

const record: fc.Arbitrary<RecordSpec> = fc.oneof(
  fc
    .record({
      rel,
      block,
      db: fc.integer({ min: 5, max: 6 }),
      size: fc.integer({ min: 0, max: 9000 }),
    })
    .map((r): RecordSpec => ({
      rmid: RM.BTREE,
      info: 0,
      blocks: [{ spc, db: r.db, rel: r.rel, block: r.block }],
      main: new Uint8Array(r.size),
    })),
  fc.record({ rel, block, flag: fc.integer({ min: 0, max: 1 }), xid }).map((r): RecordSpec => ({
    rmid: RM.HEAP,
    info: 0,
    xid: r.xid,
    blocks: [{ spc, db: 5, rel: r.rel, block: r.block }],
    main: Uint8Array.of(0, 0, r.flag),
  })),
  fc.record({ rel, block }).map((r): RecordSpec => ({
    rmid: RM.HEAP2,
    info: 0x40,
    blocks: [
      { spc, db: 5, rel: r.rel, fork: 2, block: 0 },
      { spc, db: 5, rel: r.rel, block: r.block },
    ],
    main: Uint8Array.of(0, 0, 0, 0, 3),
  })),
  fc.record({ xid, time }).map((r): RecordSpec => ({
    rmid: RM.XACT,
    info: 0,
    xid: r.xid,
    main: main(r.time % 2 ** 32, Math.floor(r.time / 2 ** 32)),
  })),
  fc.record({ xid, rel, time }).map((r): RecordSpec => ({
    rmid: RM.XACT,
    info: 0x80,
    xid: r.xid,
    main: main(r.time % 2 ** 32, Math.floor(r.time / 2 ** 32), 6, 1, r.xid + 1, 1, spc, 5, r.rel),
  })),
  fc.record({ rel, block, flags: fc.integer({ min: 0, max: 7 }) }).map((r): RecordSpec => ({
    rmid: RM.SMGR,
    info: 0x20,
    main: main(r.block, spc, 5, r.rel, r.flags),
  })),
  fc.constantFrom<RecordSpec>(
    { rmid: RM.DBASE, info: 0x00, main: main(6, spc, 5, spc) },
    { rmid: RM.DBASE, info: 0x20, main: main(6, 1, spc) },
    { rmid: RM.RELMAP, info: 0, main: main(5, spc, 512, new Uint8Array(512).fill(9)) },
    { rmid: RM.XLOG, info: XLOG.NEXTOID, main: main(24_576) },
    { rmid: RM.XLOG, info: XLOG.NOOP, main: new Uint8Array(200_000) },
    { rmid: RM.CLOG, info: 0, main: main(1) },
    { rmid: RM.CLOG, info: 0x10, main: main(1, 40_000, 5) },
    { rmid: RM.REPLORIGIN, info: 0, main: main(100, 0, Uint8Array.of(3, 0, 0, 0)) },
  ),
  fc
    .record({ multi: fc.integer({ min: 2_040, max: 2_050 }), n: fc.integer({ min: 1, max: 3 }) })
    .map((r): RecordSpec => {
      const members = Array.from({ length: r.n }, () => [750, 1]).flat();
      return { rmid: RM.MULTIXACT, info: 0x20, main: main(r.multi, r.multi * 3, r.n, ...members) };
    }),
);

type Step = { readonly specs: readonly RecordSpec[]; readonly freeze: boolean };
const history: fc.Arbitrary<readonly Step[]> = fc.array(
  fc.record({ specs: fc.array(record, { minLength: 1, maxLength: 5 }), freeze: fc.boolean() }),
  { maxLength: 12 },
);

function run(steps: readonly Step[], atFreeze: "continue" | "restart" | "nothing"): Harness {
  const h = new Harness();
  for (const { specs, freeze } of steps) {
    h.add(...specs);
    if (freeze && atFreeze !== "nothing") h.freeze(atFreeze);
  }
  return h;
}

test("a restarted ingest goes on like the one before", () => {
  fc.assert(
    fc.property(history, (steps) => {
      const on = run(steps, "continue");
      const anew = run(steps, "restart");
      expect(anew.store.dump()).toEqual(on.store.dump());
      expect(anew.ingest.lastLsn).toBe(on.ingest.lastLsn);
      expect(anew.ingest.prevLsn).toBe(on.ingest.prevLsn);
      expect(anew.ingest.checkpoint()).toEqual(on.ingest.checkpoint());
    }),
    { numRuns: 150 },
  );
});

test("how much relations have grown is kept: the sum of all sizes, less what it was", () => {
  const blocks = (h: Harness): number => {
    let sum = 0;
    h.store.list(KIND.REL_SIZE, undefined, undefined, (_group, _block, value) => {
      sum += new DataView(value.buffer, value.byteOffset).getUint32(0, true);
    });
    return sum;
  };
  const before = blocks(new Harness());
  let grown = 0;
  fc.assert(
    fc.property(history, (steps) => {
      const h = run(steps, "continue");
      expect(h.ingest.growth).toBe(blocks(h) - before);
      if (h.ingest.growth > 0) grown++;
    }),
    { numRuns: 150 },
  );
  expect(grown).toBeGreaterThan(20);
});

test("freezing adds no state: what was pending is what is stored at the end", () => {
  fc.assert(
    fc.property(history, (steps) => {
      const frozen = run(steps, "restart");
      const whole = run(steps, "nothing");
      frozen.ingest.beforeFreeze();
      whole.ingest.beforeFreeze();
      const newest = (h: Harness): Record<string, string | undefined> =>
        Object.fromEntries(
          Object.entries(h.store.dump()).map(([key, list]) => {
            const isPending =
              key.startsWith(`${KIND.BOUNDARY}/`) || key.startsWith(`${KIND.COMMIT_TIME}/`);
            // The LSN at which a window or second was stored last may differ, its contents may not.
            return [key, isPending ? list.at(-1)!.replace(/^\S+ /, "") : list.join()];
          }),
        );
      expect(newest(frozen)).toEqual(newest(whole));
    }),
    { numRuns: 100 },
  );
});

test("every record start is found again, with its predecessor", () => {
  fc.assert(
    fc.property(history, fc.infiniteStream(fc.nat()), (steps, dice) => {
      const h = run(steps, "restart");
      const { ingest, store, wal } = h;
      const starts = [PREV, ...wal.records.map((r) => r.startLsn)];
      const tip = { last: ingest.lastLsn, prev: ingest.prevLsn };
      const readWindow = (window: Lsn): Uint8Array | undefined => {
        const stored = store.read({ ...at.boundaries, c: Lsn.high(window) }, Lsn.low(window));
        return ingest.pendingWindow(window) ?? (stored.kind === "value" ? stored.value : undefined);
      };
      for (let i = 0; i < 20; i++) {
        const from = wal.start;
        const lsn = Lsn.of(from + (dice.next().value! % (wal.end - from + 1)));
        const target = Lsn.normalize(lsn);
        // By hand: the last position at or below the target where a record starts or will start.
        const positions = [...starts, Lsn.normalize(wal.end)];
        const n = positions.findLastIndex((start) => start <= target);
        const found = boundaryAtOrBelow(lsn, tip, readWindow);
        const prev = n > 0 ? positions[n - 1]! : 0;
        expect(found).toEqual({ start: positions[n]!, prev });
      }
    }),
    { numRuns: 60 },
  );
});

test("a branch knows the record before its first one", () => {
  const h = new Harness();
  expect(windowOf(PREV)).toBe(windowOf(h.wal.start));
  const window = new BoundaryWindow(PREV, h.ingest.pendingWindow(windowOf(PREV)));
  expect(window.contains(PREV)).toBe(true);
  const first = h.add({ rmid: RM.XLOG, info: XLOG.NOOP, main: new Uint8Array(50) });
  const readWindow = (w: Lsn): Uint8Array | undefined => h.ingest.pendingWindow(w);
  const tip = { last: h.ingest.lastLsn, prev: h.ingest.prevLsn };
  expect(boundaryAtOrBelow(h.wal.start, tip, readWindow)).toEqual({
    start: h.wal.start,
    prev: PREV,
  });
  expect(boundaryAtOrBelow(first, tip, readWindow)).toEqual({ start: first, prev: h.wal.start });
});

test("freezing where nothing was taken in puts nothing", () => {
  const h = new Harness();
  const before = h.store.dump();
  h.ingest.beforeFreeze();
  expect(h.store.dump()).toEqual(before);
  h.add({ rmid: RM.XLOG, info: XLOG.NOOP, main: new Uint8Array(50) });
  h.ingest.beforeFreeze();
  const after = h.store.dump();
  expect(after).not.toEqual(before);
  h.ingest.beforeFreeze();
  expect(h.store.dump()).toEqual(after);
});

test("commit times of an ingested history answer by time", () => {
  const h = new Harness();
  const ends = [5_000_000, 5_020_000, 7_000_000].map((t, i) =>
    h.add({ rmid: RM.XACT, info: 0, xid: 701 + i, main: main(t, 0) }),
  );
  h.ingest.beforeFreeze();
  const seconds = [5, 7].map((second) => {
    const stored = h.store.read(at.commitTimes, second);
    if (stored.kind !== "value") throw new Error(stored.kind);
    return { second, samples: decodeSecond(second, stored.value) };
  });
  const scan = (second: number, toward: "older" | "newer") =>
    toward === "older"
      ? seconds.findLast((s) => s.second <= second)
      : seconds.find((s) => s.second >= second);
  expect(lsnAtTime(4_000_000, scan).kind).toBe("past");
  expect(lsnAtTime(5_010_000, scan)).toEqual({ kind: "present", lsn: ends[0] });
  expect(lsnAtTime(6_000_000, scan)).toEqual({ kind: "present", lsn: ends[1] });
  expect(lsnAtTime(8_000_000, scan)).toEqual({ kind: "future", lsn: ends[2] });
});
