// The budget of all open layers: what it counts, whom it makes freeze, and the law that it never
// leaves everybody waiting.

import fc from "fast-check";
import { expect, test } from "vitest";
import { OPEN_LAYER_BUDGET_BYTES_MIN } from "../../src/core/limits.ts";
import { OpenBudget } from "../../src/store/open-budget.ts";

const MIN = OPEN_LAYER_BUDGET_BYTES_MIN;

test("counts open and frozen bytes, and forgets who has gone", () => {
  const budget = new OpenBudget(100);
  const [a, b] = [{}, {}];
  budget.report(a, 10, 20);
  budget.report(b, 30, 0);
  expect([budget.bytes, budget.exceeded]).toEqual([60, false]);
  budget.report(a, 40, 40);
  expect([budget.bytes, budget.exceeded]).toEqual([110, true]);
  budget.report(a, 0, 0);
  expect([budget.bytes, budget.exceeded]).toEqual([30, false]);
});

test("those at the average or above must freeze, and only while it is exceeded", () => {
  const budget = new OpenBudget(10 * MIN);
  const [small, large, frozen] = [{}, {}, {}];
  budget.report(small, 2 * MIN, 0);
  budget.report(large, 6 * MIN, 0);
  expect([small, large].map((owner) => budget.mustFreeze(owner))).toEqual([false, false]);
  budget.report(frozen, 0, 5 * MIN);
  expect([small, large, frozen].map((o) => budget.mustFreeze(o))).toEqual([false, true, false]);
});

test("what is too small to be worth a file stays", () => {
  const budget = new OpenBudget(MIN);
  const owner = {};
  budget.report(owner, MIN - 1, 10 * MIN);
  expect([budget.exceeded, budget.mustFreeze(owner)]).toEqual([true, false]);
});

test("the largest must go, and memory stays near the budget, whoever takes in what", () => {
  // Owners follow the rules of a timeline (actors/timeline-wal.ts): each step one of them is offered
  // a batch, all look whether they must freeze, and a seal may end.
  const step = fc.tuple(fc.nat(), fc.integer({ min: 1, max: 4 }), fc.boolean());
  const history = fc.array(step, { maxLength: 200 });
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 8 }), history, (count, steps) => {
      const budget = new OpenBudget(20 * MIN);
      const all = Array.from({ length: count }, () => ({ open: 0, frozen: 0 }));
      const told = (owner: (typeof all)[number]): void =>
        budget.report(owner, owner.open, owner.frozen);
      for (const [who, bytes, sealEnds] of steps) {
        const owner = all[who % count]!;
        if (owner.frozen === 0 || !budget.exceeded) owner.open += bytes * MIN;
        told(owner);
        expect(budget.bytes).toBeLessThanOrEqual((20 + 4 + count * 5) * MIN);
        const largest = all.reduce((x, y) => (y.open > x.open ? y : x));
        expect(budget.mustFreeze(largest)).toBe(budget.exceeded && largest.open >= MIN);
        for (const one of all) {
          if (one.frozen > 0 || !budget.mustFreeze(one)) continue;
          [one.open, one.frozen] = [0, one.open];
          told(one);
        }
        if (sealEnds) owner.frozen = 0;
        told(owner);
      }
    }),
  );
});
