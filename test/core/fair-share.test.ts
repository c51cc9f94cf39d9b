import { describe, expect, test } from "vitest";
import { LINK_BOUNDS, SHARED_LINK_BOUNDS } from "../../src/core/connection.ts";
import { FairShare } from "../../src/core/fair-share.ts";
import {
  TENANT_ACTIVE_MS,
  TENANT_BATCH_REQUESTS,
  TENANT_QUEUE_REQUESTS,
  TENANT_REQUESTS_MAX,
  TENANT_SHARE_REQUESTS,
  TENANT_WORK_MS,
} from "../../src/core/limits.ts";
import { Random } from "../verify/random.ts";

function world() {
  const clock = { ms: 0 };
  const fair = new FairShare(() => clock.ms);
  const working: { tenant: string; end: () => void }[] = [];
  const ask = (tenant: string, requests = 16): (() => void) => {
    const end = fair.add(tenant, requests, () => working.push({ tenant, end: () => end() }));
    return end;
  };
  const of = (tenant: string) => working.filter((work) => work.tenant === tenant).length;
  return { clock, fair, working, ask, of };
}

const SHARE = Math.ceil(TENANT_SHARE_REQUESTS / 16);

describe("shares", () => {
  test("one tenant alone is never held back", () => {
    const { ask, of, fair } = world();
    for (let n = 0; n < 100; n++) ask("a");
    expect([of("a"), fair.waiting, fair.batchMax]).toEqual([100, 0, Infinity]);
    expect(fair.linkBounds).toBe(LINK_BOUNDS);
  });

  test("two share: each has so much at work; what ends lets the next begin", () => {
    const { ask, of, working, fair } = world();
    ask("b")();
    for (let n = 0; n < 20; n++) ask("a");
    expect(of("a")).toBe(SHARE);
    ask("b");
    expect(of("b")).toBe(2);
    working.find(({ tenant }) => tenant === "a")!.end();
    expect([of("a"), fair.waiting]).toEqual([SHARE + 1, 20 - SHARE - 1]);
  });

  test("while several ask, work is small and links are held short, until the others rest", () => {
    const { ask, clock, fair } = world();
    ask("b")();
    ask("a")();
    expect([fair.batchMax, fair.linkBounds]).toEqual([TENANT_BATCH_REQUESTS, SHARED_LINK_BOUNDS]);
    clock.ms += TENANT_ACTIVE_MS - 1;
    ask("a")();
    fair.tick();
    expect(fair.linkBounds).toBe(SHARED_LINK_BOUNDS);
    clock.ms += 1;
    fair.tick();
    expect([fair.batchMax, fair.linkBounds]).toEqual([Infinity, LINK_BOUNDS]);
  });

  test("one request larger than a share begins alone; who rests no longer counts", () => {
    const { ask, of, clock, fair } = world();
    ask("b")();
    ask("a", 10 * TENANT_SHARE_REQUESTS);
    ask("a");
    expect(of("a")).toBe(1);
    clock.ms += TENANT_ACTIVE_MS;
    fair.tick();
    ask("a");
    expect(of("a")).toBe(3);
  });

  test("what waits for WAL holds nobody back", () => {
    const { ask, of, clock, fair } = world();
    ask("b")();
    for (let n = 0; n < SHARE + 1; n++) ask("a");
    expect(of("a")).toBe(SHARE);
    clock.ms += TENANT_WORK_MS;
    fair.tick();
    expect(of("a")).toBe(SHARE + 1);
  });

  test("a bound on all of a tenant's requests, and who waits for room hears of it once", () => {
    const { ask, fair } = world();
    const end = ask("a", TENANT_REQUESTS_MAX);
    expect(fair.room("a")).toBe(0);
    expect(fair.room("b")).toBe(TENANT_REQUESTS_MAX);
    let woken = 0;
    fair.whenRoom("a", () => woken++);
    end();
    end();
    ask("a")();
    expect([woken, fair.room("a")]).toEqual([1, TENANT_REQUESTS_MAX]);
  });

  test("while several ask, what may wait its turn is bounded, and links take turns at the room", () => {
    const { ask, fair, working } = world();
    ask("b")();
    const heard: string[] = [];
    const link = (name: string): void =>
      fair.whenRoom("a", () => {
        heard.push(name);
        ask("a", fair.room("a"));
        link(name);
      });
    ask("a", TENANT_SHARE_REQUESTS);
    ask("a", TENANT_QUEUE_REQUESTS);
    expect([fair.room("a"), fair.room("b")]).toEqual([0, TENANT_QUEUE_REQUESTS]);
    link("one");
    link("two");
    for (let n = 0; n < 4; n++) working.filter(({ tenant }) => tenant === "a")[n]!.end();
    expect(heard).toEqual(["one", "two", "one", "two"]);
  });
});

test("whatever comes and ends in whatever order: nothing is lost, begun twice or over the share", () => {
  for (let seed = 1; seed <= 200; seed++) {
    const random = new Random(seed);
    const { clock, fair, working, ask } = world();
    const ends: (() => void)[] = [];
    let asked = 0;
    for (let step = 0; step < 200; step++) {
      if (random.chance(0.6)) {
        ends.push(ask(random.pick(["a", "b", "c"]), random.between(1, 40)));
        asked++;
      } else if (ends.length > 0) {
        ends.splice(random.between(0, ends.length), 1)[0]!();
      }
      if (random.chance(0.1)) fair.tick();
      clock.ms += random.between(0, 20);
    }
    for (const end of ends) end();
    fair.tick();
    expect(fair.waiting, `seed ${seed}`).toBe(0);
    expect(working.length, `seed ${seed}`).toBeLessThanOrEqual(asked);
    clock.ms += TENANT_ACTIVE_MS;
    fair.tick();
    for (const tenant of ["a", "b", "c"]) expect(fair.room(tenant)).toBe(TENANT_REQUESTS_MAX);
  }
});
