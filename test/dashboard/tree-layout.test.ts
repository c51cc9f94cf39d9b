// Where bars lie: no line from a branch to its ancestor crosses another branch's bar, every timeline
// has one row, and everything drawn is within the axis. For random trees.

import fc from "fast-check";
import { expect, test } from "vitest";
import { Lsn } from "../../src/core/lsn.ts";
import { families, ticks } from "../../src/dashboard/tree-layout.ts";
import type { TimelineInfo } from "../../src/protocol/api.ts";

interface Born {
  readonly parent: number;
  readonly at: number;
  readonly length: number;
}

const id = (n: number): string => n.toString(16).padStart(32, "0");

/** A timeline a number: its ancestor is an earlier one (itself: none), `at` a fraction of its WAL. */
function timelinesOf(born: readonly Born[]): readonly TimelineInfo[] {
  const made: TimelineInfo[] = [];
  born.forEach(({ parent, at, length }, i) => {
    const above = made[parent % (i + 1)];
    const from =
      above === undefined
        ? 0x100000
        : Math.floor(
            Lsn.parse(above.initdb_lsn) +
              at * (Lsn.parse(above.positions.visible) - Lsn.parse(above.initdb_lsn)),
          );
    const begin = Lsn.format(from as Lsn);
    const end = Lsn.format((from + length) as Lsn);
    made.push({
      tenant_id: id(0),
      timeline_id: id(i),
      name: `t${i}`,
      state: "Active",
      pg_version: 15,
      system_id: "1",
      created_at: "2026-01-31T10:20:30Z",
      ...(above !== undefined && {
        ancestor_timeline_id: above.timeline_id,
        ancestor_name: above.name,
        ancestor_lsn: begin,
      }),
      positions: { received: end, visible: end, durable: end, uploaded: "0/0" },
      last_record_lsn: end,
      disk_consistent_lsn: end,
      remote_consistent_lsn: "0/0",
      initdb_lsn: begin,
      min_readable_lsn: begin,
      current_physical_size: 0,
      source: { kind: "none", connection: "none" },
      layers: 0,
    });
  });
  return made;
}

const trees = fc
  .array(
    fc.record({
      parent: fc.nat(20),
      at: fc.double({ min: 0, max: 1, noNaN: true }),
      length: fc.nat(1_000_000),
    }),
    { minLength: 1, maxLength: 20 },
  )
  .map(timelinesOf);

test("each timeline has a row, under its ancestor, within the axis", () => {
  fc.assert(
    fc.property(trees, (timelines) => {
      const found = families(timelines);
      const names = found.flatMap(({ rows }) => rows.map((row) => row.timeline.name));
      expect([...names].sort()).toEqual(timelines.map(({ name }) => name).sort());
      for (const { rows, min, max } of found) {
        expect(rows[0]!.parent).toBeUndefined();
        for (const [i, row] of rows.entries()) {
          expect(row.from).toBeGreaterThanOrEqual(min);
          expect(row.source).toBeLessThanOrEqual(max);
          if (i === 0) continue;
          const above = rows[row.parent!]!;
          expect(row.parent).toBeLessThan(i);
          expect(above.timeline.timeline_id).toBe(row.timeline.ancestor_timeline_id);
        }
      }
    }),
  );
});

test("no line from a branch to its ancestor crosses the bar of another", () => {
  fc.assert(
    fc.property(trees, (timelines) => {
      for (const { rows } of families(timelines)) {
        for (const [i, row] of rows.entries()) {
          for (let between = (row.parent ?? i) + 1; between < i; between++) {
            expect(rows[between]!.from).toBeGreaterThanOrEqual(row.from);
          }
        }
      }
    }),
  );
});

test("a branch whose ancestor is not listed stands as a root", () => {
  const [, child] = timelinesOf([
    { parent: 0, at: 0, length: 100 },
    { parent: 0, at: 0.5, length: 10 },
  ]);
  expect(families([child!]).map(({ rows }) => rows.length)).toEqual([1]);
});

test("marks are round, few, and within the axis", () => {
  fc.assert(
    fc.property(fc.nat(2 ** 40), fc.integer({ min: 1, max: 2 ** 40 }), (min, length) => {
      const marks = ticks(min, min + length, 6);
      expect(marks.length).toBeLessThanOrEqual(7);
      for (const mark of marks) {
        expect(mark).toBeGreaterThanOrEqual(min);
        expect(mark).toBeLessThanOrEqual(min + length);
      }
    }),
  );
});
