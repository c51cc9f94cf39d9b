import fc from "fast-check";
import { expect, test } from "vitest";
import { LSN_WAITERS_MAX } from "../../src/core/limits.ts";
import { LsnWaiters } from "../../src/core/lsn-waiters.ts";
import { Lsn } from "../../src/core/lsn.ts";

test("each reader is woken once, at the first LSN that reaches it", () => {
  fc.assert(
    fc.property(
      fc.array(fc.nat(1000), { maxLength: 50 }),
      fc.array(fc.nat(1200), { maxLength: 30 }),
      (wanted, steps) => {
        const waiters = new LsnWaiters<number>();
        wanted.forEach((until, who) =>
          waiters.park({ until: Lsn.of(until), parkedMs: 0, deadlineMs: 1, who }),
        );
        const woken = new Set<number>();
        for (const last of [...steps].sort((a, b) => a - b)) {
          for (const w of waiters.ready(Lsn.of(last))) {
            expect(woken.has(w.who)).toBe(false);
            woken.add(w.who);
          }
          const due = wanted.flatMap((until, who) => (until <= last ? [who] : []));
          expect([...woken].sort((a, b) => a - b)).toEqual(due);
        }
      },
    ),
  );
});

test("deadlines take readers out; the number of readers is bounded", () => {
  const waiters = new LsnWaiters<number>();
  const park = (who: number, deadlineMs: number): boolean =>
    waiters.park({ until: Lsn.of(who), parkedMs: 0, deadlineMs, who });
  expect(park(1, 10) && park(2, 20)).toBe(true);
  expect(waiters.nextDeadlineMs()).toBe(10);
  expect(waiters.expired(10).map((w) => w.who)).toEqual([1]);
  expect(waiters.size).toBe(1);
  for (let i = 1; i < LSN_WAITERS_MAX; i++) expect(park(i, 99)).toBe(true);
  expect(park(5, 99)).toBe(false);
});
