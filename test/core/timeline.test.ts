import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { OPEN_LAYER_BYTES_MAX, OPEN_LAYER_IDLE_MS_MAX } from "../../src/core/limits.ts";
import { Lsn } from "../../src/core/lsn.ts";
import { DurableMarks, freezeReason, nextPhase } from "../../src/core/timeline.ts";

describe("freezing", () => {
  const facts = {
    bytes: 10,
    ageMs: 1,
    idleMs: 1,
    empty: false,
    sealing: false,
    overBudget: false,
  };
  test("by size, budget and idleness; never empty, never two at once", () => {
    expect(freezeReason(facts)).toBeUndefined();
    expect(freezeReason({ ...facts, bytes: OPEN_LAYER_BYTES_MAX })).toBe("size");
    expect(freezeReason({ ...facts, overBudget: true })).toBe("budget");
    expect(freezeReason({ ...facts, idleMs: OPEN_LAYER_IDLE_MS_MAX })).toBe("idle");
    expect(freezeReason({ ...facts, overBudget: true, sealing: true })).toBeUndefined();
    expect(freezeReason({ ...facts, idleMs: OPEN_LAYER_IDLE_MS_MAX, empty: true })).toBeUndefined();
  });
});

describe("phases", () => {
  test("a broken timeline is not healed by a late load, a stopping one stops", () => {
    const broken = nextPhase({ kind: "active" }, { kind: "failed", reason: "r" });
    expect(nextPhase(broken, { kind: "loaded" })).toEqual({ kind: "broken", reason: "r" });
    expect(nextPhase({ kind: "loading" }, { kind: "loaded" })).toEqual({ kind: "active" });
    const stopping = nextPhase(broken, { kind: "stop" });
    expect(nextPhase(stopping, { kind: "failed", reason: "x" })).toEqual({ kind: "stopping" });
  });
});

test("the durable position is the last whole record below the synced bytes", () => {
  fc.assert(
    fc.property(
      fc.array(fc.tuple(fc.integer({ min: 1, max: 50 }), fc.nat(40)), { maxLength: 40 }),
      fc.array(fc.nat(2500), { maxLength: 10 }),
      (chunks, syncs) => {
        const marks = new DurableMarks(Lsn.of(0));
        const written: { end: number; last: number }[] = [];
        let end = 0;
        for (const [bytes, torn] of chunks) {
          end += bytes;
          const last = Math.max(end - torn, written.at(-1)?.last ?? 0);
          written.push({ end, last });
          marks.wrote(Lsn.of(end), Lsn.of(last));
        }
        let high = 0;
        for (const upTo of syncs) {
          high = Math.max(high, upTo);
          marks.synced(Lsn.of(upTo));
          const expected = Math.max(0, ...written.filter((w) => w.end <= high).map((w) => w.last));
          expect(marks.durable).toBe(expected);
        }
      },
    ),
  );
});

test("WAL that was rewound holds nothing back: what comes in its place counts by itself", () => {
  const marks = new DurableMarks(Lsn.of(0));
  marks.wrote(Lsn.of(100), Lsn.of(80));
  // A long record came in part, up to 500; then streaming began again at 80.
  marks.wrote(Lsn.of(500), Lsn.of(80));
  marks.rewound(Lsn.of(80));
  expect(marks.durable).toBe(80);
  expect(marks.synced(Lsn.of(500)), "a late word of the fsync before").toBe(false);
  marks.wrote(Lsn.of(120), Lsn.of(112));
  expect(marks.synced(Lsn.of(120))).toBe(true);
  expect(marks.durable).toBe(112);
  expect(() => marks.rewound(Lsn.of(100))).toThrow(/not forgotten/);
});
