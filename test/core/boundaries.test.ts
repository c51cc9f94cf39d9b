import fc from "fast-check";
import { describe, expect, test } from "vitest";

import {
  BoundaryWindow,
  boundaryAtOrBelow,
  decodeWindow,
  windowOf,
} from "../../src/core/boundaries.ts";
import { Lsn } from "../../src/core/lsn.ts";

const BASE = 0x5_0000_0000;

/** Fills windows as ingest does; gives what would be stored. */
function store(starts: readonly number[]): Map<number, Uint8Array> {
  const stored = new Map<number, Uint8Array>();
  const window = new BoundaryWindow(Lsn.of(starts[0] ?? BASE), undefined);
  for (const start of starts) {
    if (!window.contains(start)) window.moveTo(start);
    window.add(start);
    stored.set(window.start, window.value().slice());
  }
  return stored;
}

// Record lengths in units of 8: mostly short, some longer than several windows.
const lengths = fc.array(
  fc.oneof(
    { weight: 8, arbitrary: fc.integer({ min: 3, max: 40 }) },
    { weight: 2, arbitrary: fc.integer({ min: 100, max: 3_000 }) },
    { weight: 1, arbitrary: fc.integer({ min: 8_000, max: 40_000 }) },
  ),
  { minLength: 1, maxLength: 200 },
);
/** Starts as WAL has them: never within a page header. */
function startsOf(units: readonly number[]): readonly number[] {
  let at: number = Lsn.normalize(Lsn.of(BASE + 512));
  return units.map((unit) => {
    const start = at;
    at = Lsn.normalize(Lsn.of(at + unit * 8));
    return start;
  });
}

describe("windows", () => {
  test("give back what was added, across any restarts", () => {
    fc.assert(
      fc.property(lengths, fc.array(fc.nat({ max: 199 })), (units, restarts) => {
        const starts = startsOf(units);
        const stored = new Map<number, Uint8Array>();
        let window = new BoundaryWindow(Lsn.of(starts[0]!), undefined);
        starts.forEach((start, i) => {
          if (restarts.includes(i)) {
            const at = i > 0 ? starts[i - 1]! : start;
            window = new BoundaryWindow(Lsn.of(at), stored.get(windowOf(at)));
            expect(window.dirty).toBe(false);
          }
          if (!window.contains(start)) window.moveTo(start);
          window.add(start);
          window.add(start);
          expect(window.dirty).toBe(true);
          stored.set(window.start, window.value().slice());
        });
        const found = [...stored].flatMap(([w, value]) => decodeWindow(Lsn.of(w), value));
        expect(found).toEqual(starts);
      }),
    );
  });

  test("the shortest records all fit, at a byte each", () => {
    const window = new BoundaryWindow(Lsn.of(BASE), undefined);
    for (let at = BASE; at < BASE + 65_536; at += 24) window.add(at);
    expect(window.value()).toHaveLength(Math.ceil(65_536 / 24));
  });

  test("bytes that end within a number are malformed", () => {
    expect(() => decodeWindow(Lsn.of(BASE), Uint8Array.of(1, 0x80))).toThrow(/does not end/);
  });
});

describe("boundaryAtOrBelow", () => {
  test("is the last start at or below, and the one before it, for any LSN", () => {
    fc.assert(
      fc.property(lengths, fc.array(fc.nat(), { maxLength: 20 }), (units, asked) => {
        const starts = startsOf([...units, 3]);
        const tip = starts.at(-1)!;
        const stored = store(starts.slice(0, -1));
        for (const n of asked) {
          const lsn = Lsn.of(BASE + (n % (tip - BASE + 100)));
          const target = Lsn.normalize(lsn);
          const i = starts.findLastIndex((s) => s <= target);
          const found = boundaryAtOrBelow(
            lsn,
            { last: Lsn.of(tip), prev: Lsn.of(starts.at(-2) ?? 0) },
            (w) => stored.get(w),
          );
          expect(found).toEqual(i < 0 ? undefined : { start: starts[i], prev: starts[i - 1] ?? 0 });
        }
      }),
      { numRuns: 200 },
    );
  });

  test("a page boundary means past its header", () => {
    const stored = store([BASE + 8_000, BASE + 8_192 + 24]);
    const read = (w: number): Uint8Array | undefined => stored.get(w);
    expect(boundaryAtOrBelow(Lsn.of(BASE + 8_192), undefined, read)).toEqual({
      start: BASE + 8_192 + 24,
      prev: BASE + 8_000,
    });
    expect(boundaryAtOrBelow(Lsn.of(BASE + 8_191), undefined, read)?.start).toBe(BASE + 8_216);
    expect(boundaryAtOrBelow(Lsn.of(BASE + 8_184), undefined, read)?.start).toBe(BASE + 8_000);
  });

  test("looking back ends where no record can reach from", () => {
    let reads = 0;
    const found = boundaryAtOrBelow(Lsn.of(2 ** 50), undefined, () => {
      reads++;
      return undefined;
    });
    expect(found).toBeUndefined();
    expect(reads).toBeLessThan(20_000);
  });
});
