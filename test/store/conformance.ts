// The law of layers: whatever implements Layer behaves like a list of versions. Run over every
// implementation by layers.test.ts.

import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { LSN_MAX, type Lsn } from "../../src/core/lsn.ts";
import { KIND } from "../../src/core/key.ts";
import type { Layer } from "../../src/store/object-store.ts";
import { GROUPS, type Put, compareKeys, expected, history, keysOf, seen } from "./histories.ts";

/** Makes a layer that holds a history, hands it to `use`, and cleans up. */
export type WithLayer = (
  puts: readonly Put[],
  use: (layer: Layer) => void | Promise<void>,
) => Promise<void>;

const LENGTH_MAX = 100;

export function layerSuite(name: string, withLayer: WithLayer, runs: number): void {
  const law = (check: (puts: readonly Put[], layer: Layer, picks: readonly number[]) => void) =>
    fc.assert(
      fc.asyncProperty(
        history(1_000, LENGTH_MAX),
        fc.array(fc.nat(), { minLength: 12, maxLength: 12 }),
        (puts, picks) => withLayer(puts, (layer) => check(puts, layer, picks)),
      ),
      { numRuns: runs },
    );

  describe(name, () => {
    test("a read sees the versions at or below its LSN and above the floor, newest first", () =>
      law((puts, layer, picks) => {
        const lsns = [0, 1, LSN_MAX, ...puts.flatMap(({ lsn }) => [lsn - 1, lsn, lsn + 1])];
        const bounds = picks.map((pick) => lsns[pick % lsns.length]!);
        for (const { group, block } of keysOf(puts)) {
          for (let i = 0; i < bounds.length; i += 2) {
            const [at, floor] = [bounds[i]!, bounds[i + 1]!];
            const found: unknown[] = [];
            const whole = layer.visit(group, block, at as Lsn, floor as Lsn, (version) => {
              found.push(seen(version));
              return true;
            });
            expect(found).toEqual(expected(puts, group, block, at, floor));
            expect(whole).toBe(true);
          }
        }
      }));

    test("a visitor that has enough sees no more", () =>
      law((puts, layer) => {
        for (const { group, block } of keysOf(puts)) {
          const all = expected(puts, group, block, LSN_MAX, 0);
          const wanted = Math.ceil(all.length / 2);
          const found: unknown[] = [];
          const whole = layer.visit(group, block, LSN_MAX, 0 as Lsn, (version) => {
            found.push(seen(version));
            return found.length < wanted;
          });
          expect(found).toEqual(all.slice(0, wanted));
          expect(whole).toBe(false);
        }
      }));

    test("keys that were never put have no versions", () =>
      law((puts, layer) => {
        for (const group of GROUPS) {
          for (const block of [0, 1, 3, 0x8000_0000, 0xffff_fffe]) {
            if (puts.some((p) => compareKeys(p, { group, block }) === 0)) continue;
            const none = layer.visit(group, block, LSN_MAX, 0 as Lsn, () => false);
            expect(none).toBe(true);
          }
        }
      }));

    test("a scan gives each key of the kind once", () =>
      law((puts, layer) => {
        const keys = keysOf(puts);
        for (const kind of Object.values(KIND)) {
          for (const [a, b] of [[], [1663], [1663, 5], [0xffff_ffff, 0xffff_ffff]]) {
            const found: Pick<Put, "group" | "block">[] = [];
            layer.scan(kind, a, b, (group, block) => found.push({ group, block }));
            const wanted = keys.filter(
              ({ group: g }) =>
                g.kind === kind && (a === undefined || g.a === a) && (b === undefined || g.b === b),
            );
            expect(found.sort(compareKeys)).toEqual(
              wanted.map(({ group, block }) => ({ group, block })),
            );
          }
        }
      }));

    test("a cursor goes through all keys in key order, with all their versions", () =>
      law((puts, layer) => {
        const cursor = layer.cursor();
        for (const { group, block } of keysOf(puts)) {
          expect(cursor.next()).toBe(true);
          expect({ group: cursor.group, block: cursor.block }).toEqual({ group, block });
          const found: unknown[] = [];
          cursor.visit(LSN_MAX, (version) => found.push(seen(version)) > 0);
          expect(found).toEqual(expected(puts, group, block, LSN_MAX, 0));
        }
        expect(cursor.next()).toBe(false);
        expect(cursor.next()).toBe(false);
      }));

    test("its range and count are those of its versions, and the walker finds nothing", () =>
      law((puts, layer) => {
        expect(layer.versions).toBe(puts.length);
        expect(layer.firstLsn).toBe(puts[0]?.lsn ?? LSN_MAX);
        expect(layer.lastLsn).toBe(puts.at(-1)?.lsn ?? 0);
        const broken: string[] = [];
        // These histories put any type under any key, so I10 does not hold for them.
        layer.check((invariant, where, found) => {
          if (invariant !== "I10") broken.push(`${invariant} ${where} ${found}`);
        });
        expect(broken).toEqual([]);
      }));
  });
}
