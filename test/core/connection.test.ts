import fc from "fast-check";
import { describe, expect, test } from "vitest";
import {
  AnswerQueue,
  LINK_BOUNDS,
  type FrontendKind,
  type Phase,
  decide,
} from "../../src/core/connection.ts";
import { REQUESTS_IN_FLIGHT_MAX, UNSENT_BYTES_MAX } from "../../src/core/limits.ts";

describe("answers of one link", () => {
  test("leave in the order of requests, each once, however they become known", () => {
    fc.assert(
      fc.property(
        fc.array(fc.nat(5), { minLength: 1, maxLength: 60 }),
        fc.infiniteStream(fc.nat()),
        (sizes, random) => {
          const queue = new AnswerQueue<number>();
          const out: number[] = [];
          const open: { slot: ReturnType<typeof queue.open>; id: number }[] = [];
          let opened = 0;
          const settleOne = (): void => {
            const [{ slot, id }] = open.splice(random.next().value % open.length, 1) as [
              (typeof open)[number],
            ];
            out.push(...queue.settle(slot, id));
            // Answered twice: nothing more comes out.
            expect(queue.settle(slot, -1)).toEqual([]);
            // All that is out is a prefix, and the next one is still open.
            expect(out).toEqual([...out.keys()]);
            expect(open.some((o) => o.id === out.length) || out.length === opened).toBe(true);
          };
          for (const size of sizes) {
            open.push({ slot: queue.open(size, opened), id: opened++ });
            if (random.next().value % 2 === 0) settleOne();
          }
          while (open.length > 0) settleOne();
          expect(out).toHaveLength(sizes.length);
          expect(queue.requestsInFlight).toBe(0);
          expect(queue.oldestMs).toBeUndefined();
        },
      ),
    );
  });

  test("a long queue whose head is late loses nothing when it is let go", () => {
    const queue = new AnswerQueue<number>();
    const slots = Array.from({ length: 5000 }, (_, i) => queue.open(1, i));
    for (let i = 1; i < 5000; i++) expect(queue.settle(slots[i]!, i)).toEqual([]);
    expect(queue.settle(slots[0]!, 0)).toEqual([...slots.keys()]);
    const partly = Array.from({ length: 3000 }, (_, i) => queue.open(1, i));
    for (let i = 0; i < 2000; i++) expect(queue.settle(partly[i]!, i)).toEqual([i]);
    expect(queue.oldestMs).toBe(2000);
    expect(queue.requestsInFlight).toBe(1000);
    expect(queue.settle(partly[2000]!, 2000)).toEqual([2000]);
  });

  test("room ends at the limit of requests and at the limit of unsent bytes", () => {
    const queue = new AnswerQueue<string>();
    const slot = queue.open(REQUESTS_IN_FLIGHT_MAX - 1, 0);
    expect(queue.room(LINK_BOUNDS)).toBe(1);
    queue.open(5, 0);
    expect(queue.room(LINK_BOUNDS)).toBe(0);
    queue.settle(slot, "x");
    expect(queue.room(LINK_BOUNDS)).toBe(REQUESTS_IN_FLIGHT_MAX - 5);
    queue.handed(UNSENT_BYTES_MAX);
    expect(queue.room(LINK_BOUNDS)).toBe(0);
    queue.sent(1);
    expect(queue.room(LINK_BOUNDS)).toBe(REQUESTS_IN_FLIGHT_MAX - 5);
  });

  test("dropped: what was ready is given, what was open is forgotten", () => {
    const queue = new AnswerQueue<number>();
    queue.open(1, 0);
    queue.settle(queue.open(1, 0), 7);
    expect(queue.drop()).toEqual([7]);
    expect(queue.requestsInFlight).toBe(0);
  });
});

describe("what a message means", () => {
  const kinds: FrontendKind[] = (
    "query parse bind describe execute close sync flush copy-data copy-done copy-fail " +
    "terminate unknown"
  ).split(" ") as FrontendKind[];
  const table = (phase: Exclude<Phase, "busy">): string =>
    kinds.map((kind) => decide(phase, kind)).join(" ");

  test.each([
    [
      "commands",
      "do do do do do do do ignore violation violation violation goodbye violation",
    ] as const,
    [
      "skipping",
      "ignore ignore ignore ignore ignore ignore do ignore violation violation violation goodbye violation",
    ] as const,
    [
      "pagestream",
      `${"end-pagestream ".repeat(8)}page-request end-pagestream end-pagestream goodbye end-pagestream`,
    ] as const,
    ["closing", "ignore ".repeat(13).trim()] as const,
  ])("%s", (phase, decisions) => {
    expect(table(phase)).toBe(decisions);
  });
});
