// What the dashboard works out by itself: addresses, rates between samples, the slider's range.

import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { History, SAMPLES_MAX } from "../../src/dashboard/history.ts";
import { localSeconds, localText, momentRange } from "../../src/dashboard/moment-range.ts";
import { nest } from "../../src/dashboard/nest.ts";
import { type Route, hrefOf, parseRoute } from "../../src/dashboard/route.ts";
import type { TimelineInfo } from "../../src/protocol/api.ts";
import { timelineInfo } from "../http/memory-management.ts";

describe("addresses", () => {
  const text = fc.string({ minLength: 1, maxLength: 40 });
  const routes: fc.Arbitrary<Route> = fc.oneof(
    fc.record({ page: fc.constant("timeline" as const), tenant: text, timeline: text }),
    fc.record({ page: fc.constant("branches" as const), tenant: text }),
    fc.record({
      page: fc.constant("computes" as const),
      tenant: fc.option(text, { nil: undefined }),
    }),
    fc.record({ page: fc.constantFrom("supervision" as const, "jobs" as const) }),
  );

  test("are read as they were written", () => {
    fc.assert(
      fc.property(routes, (route) => {
        expect(parseRoute(hrefOf(route))).toEqual(route);
      }),
    );
  });

  test.each(["", "#", "#/", "#/nonsense", "#/tenant/", "#%", "#/tenant/%zz/timeline/"])(
    "%j leads to a page of branches",
    (hash) => expect(parseRoute(hash).page).toBe("branches"),
  );
});

describe("history", () => {
  const id = "1".repeat(32);
  const sample = (received: string, reads: TimelineInfo["reads"], lag?: number): TimelineInfo => {
    const info = timelineInfo(id, "main");
    const positions = { ...info.positions, received };
    const source = { ...info.source, ...(lag !== undefined && { lag_bytes: lag }) };
    return { ...info, positions, source, ...(reads !== undefined && { reads }) };
  };

  test("rates are differences over the time between samples", () => {
    const history = new History();
    history.add([sample("0/1000", undefined)], 0);
    history.add([sample("0/3000", { pages: 100, batches: 10, seconds: 0.02 }, 7)], 2_000);
    history.add([sample("0/3000", { pages: 100, batches: 10, seconds: 0.02 }, 0)], 3_000);
    expect(history.of(id)).toEqual({
      at: [0, 2, 3],
      wal: [undefined, 0x1000, 0],
      reads: [undefined, 50, 0],
      latencyMs: [undefined, 2, undefined],
      lag: [undefined, 7, 0],
    });
  });

  test("counters of a server that was started again are no rate", () => {
    const history = new History();
    history.add([sample("0/1000", { pages: 100, batches: 10, seconds: 1 })], 0);
    history.add([sample("0/1000", { pages: 5, batches: 1, seconds: 0.1 })], 1_000);
    expect(history.of(id).reads).toEqual([undefined, undefined]);
  });

  test("is bounded", () => {
    const history = new History();
    for (let i = 0; i < SAMPLES_MAX + 50; i++)
      history.add([sample("0/1000", undefined)], i * 1_000);
    expect(history.of(id).at.length).toBe(SAMPLES_MAX);
    expect(history.of(id).at.at(-1)).toBe(SAMPLES_MAX + 49);
    expect(history.of("2".repeat(32)).at).toEqual([]);
  });
});

describe("the slider", () => {
  test("runs from what is readable to now, and is never empty", () => {
    expect(momentRange(5_200, undefined, 60_900)).toEqual({ minS: 6, maxS: 60 });
    expect(momentRange(5_200, 9_000, 60_900)).toEqual({ minS: 9, maxS: 60 });
    expect(momentRange(60_000, 1_000, 60_100)).toEqual({ minS: 60, maxS: 61 });
  });

  test("moments are written as browsers want local times", () => {
    fc.assert(
      fc.property(fc.integer({ min: 0, max: 4_000_000_000 }), (seconds) => {
        const text = localText(seconds);
        expect(text).toMatch(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d$/);
        // In the hour that a clock goes back, a local time names two moments.
        expect(Math.abs(localSeconds(text)! - seconds) % 3_600).toBe(0);
      }),
    );
    expect(localSeconds("")).toBeUndefined();
  });
});

test("actors stand under their parents, and none is lost", () => {
  const node = (path: string) => ({
    path,
    state: "running" as const,
    restarts: 0,
    since: "2026-01-31T10:20:30Z",
  });
  const [root, orphan] = nest([
    node("tenants/a/x"),
    node("tenants"),
    node("tenants/a"),
    node("b/c"),
  ]);
  expect(root).toMatchObject({
    info: { path: "tenants" },
    children: [{ info: { path: "tenants/a" }, children: [{ info: { path: "tenants/a/x" } }] }],
  });
  expect(orphan).toMatchObject({ info: { path: "b/c" }, children: [] });
});
