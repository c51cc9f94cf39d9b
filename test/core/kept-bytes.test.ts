import fc from "fast-check";
import { expect, test } from "vitest";
import { Keeper } from "../../src/core/gc.ts";
import { KeptBytes } from "../../src/core/kept-bytes.ts";
import { Lsn } from "../../src/core/lsn.ts";
import { VERSION, VERSION_FLAG, type VersionType } from "../../src/core/version.ts";

interface Made {
  readonly lsn: Lsn;
  readonly type: VersionType;
  readonly flags: number;
  readonly bytes: number;
}

const version = fc.record({
  lsn: fc.integer({ min: 1, max: 60 }).map((n) => Lsn.of(n)),
  type: fc.constantFrom(VERSION.IMAGE, VERSION.RECORD, VERSION.RECORD, VERSION.OP),
  flags: fc.constantFrom(0, 0, 0, VERSION_FLAG.WILL_INIT),
  bytes: fc.integer({ min: 1, max: 100 }),
});
const history = fc
  .array(version, { maxLength: 30 })
  .map((all): readonly Made[] => [...all].sort((x, y) => y.lsn - x.lsn));
const lsns = fc.uniqueArray(fc.integer({ min: 1, max: 60 }), { maxLength: 5 });

/** What a merge keeps, by the code that merges go by. */
function keeperBytes(
  versions: readonly Made[],
  cutoff: Lsn,
  needed: boolean,
  pins: readonly Lsn[],
): number {
  const keeper = new Keeper();
  keeper.begin(cutoff, needed, pins);
  let kept = 0;
  for (const { lsn, type, flags, bytes } of versions) {
    if (keeper.keeps(lsn, type, flags)) kept += bytes;
  }
  return kept;
}

test("what counts for somebody is what a merge keeps, and what a pin alone keeps goes without it", () => {
  let alone = 0;
  fc.assert(
    fc.property(
      history,
      fc.integer({ min: 0, max: 60 }),
      fc.boolean(),
      lsns,
      (versions, at, needed, all) => {
        const cutoff = Lsn.of(at);
        const pins = all.filter((lsn) => lsn < cutoff).sort((x, y) => y - x) as Lsn[];
        const sums = new KeptBytes(pins);
        sums.begin(cutoff, needed, pins);
        for (const { lsn, type, flags, bytes } of versions) sums.add(lsn, type, flags, bytes);
        const { kept } = sums;
        const total = versions.reduce((sum, { bytes }) => sum + bytes, 0);
        expect(sums.totalBytes).toBe(total);
        const withAll = keeperBytes(versions, cutoff, needed, pins);
        expect(total - kept.supersededBytes).toBe(withAll);
        expect(kept.windowBytes).toBe(keeperBytes(versions, cutoff, needed, []));
        for (const pin of pins) {
          const others = pins.filter((lsn) => lsn !== pin);
          const { aloneBytes } = kept.pins.get(pin)!;
          expect(aloneBytes).toBe(withAll - keeperBytes(versions, cutoff, needed, others));
          if (aloneBytes > 0) alone++;
        }
      },
    ),
    { numRuns: 500 },
  );
  expect(alone, "pins that keep something").toBeGreaterThan(50);
});

test("an LSN that nobody holds, the source of a copied database, counts for the window", () => {
  const sums = new KeptBytes([]);
  sums.begin(Lsn.of(50), false, [Lsn.of(20)]);
  sums.add(Lsn.of(10), VERSION.IMAGE, 0, 100);
  expect(sums.kept).toMatchObject({ windowBytes: 100, supersededBytes: 0 });
});
