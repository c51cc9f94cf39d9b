import { describe, expect, test } from "vitest";
import { LSN_MAX, Lsn } from "../../src/core/lsn.ts";
import { planRead } from "../../src/core/request-lsn.ts";

const at = (n: number): Lsn => Lsn.of(n);
const timeline = { last: at(1000), cutoff: at(100), readableFrom: at(100) };
const plan = (lsn: Lsn, since: Lsn): ReturnType<typeof planRead> =>
  planRead({ lsn, notModifiedSince: since }, timeline);

describe("the LSN of a request", () => {
  test("latest reads at the last record without waiting", () => {
    expect(plan(LSN_MAX, at(500))).toEqual({ kind: "read", at: 1000 });
  });
  test("an LSN in the past is read there; one in the future at the last record", () => {
    expect(plan(at(700), at(500))).toEqual({ kind: "read", at: 700 });
    expect(plan(at(7000), at(500))).toEqual({ kind: "read", at: 1000 });
  });
  test("only not_modified_since is waited for", () => {
    expect(plan(at(7000), at(1001))).toEqual({ kind: "wait", until: 1001 });
    expect(plan(LSN_MAX, at(1000))).toEqual({ kind: "read", at: 1000 });
  });
  test("at a page's end its end and the place behind the next header are one moment", () => {
    const end = { ...timeline, last: at(3 * 8192) };
    const behind = Lsn.normalize(end.last);
    expect(behind).toBeGreaterThan(end.last);
    expect(planRead({ lsn: behind, notModifiedSince: behind }, end)).toEqual({
      kind: "read",
      at: end.last,
    });
    const next = at(behind + 8);
    expect(planRead({ lsn: next, notModifiedSince: next }, end)).toEqual({
      kind: "wait",
      until: next,
    });
  });
  test("zero, reversed and collected LSNs are refused with their reason", () => {
    expect(plan(at(0), at(0))).toMatchObject({ kind: "refused", error: { kind: "bad-request" } });
    expect(plan(at(400), at(500))).toMatchObject({ error: { kind: "bad-request" } });
    expect(plan(at(99), at(50))).toMatchObject({ error: { kind: "lsn-collected", cutoff: 100 } });
    expect(plan(LSN_MAX, LSN_MAX)).toMatchObject({ error: { kind: "bad-request" } });
  });
  test("a base backup that is not complete yet is waited for", () => {
    const fuzzy = { last: at(1000), cutoff: at(100), readableFrom: at(2000) };
    expect(planRead({ lsn: LSN_MAX, notModifiedSince: at(1) }, fuzzy)).toEqual({
      kind: "wait",
      until: 2000,
    });
    const done = { ...fuzzy, last: at(3000) };
    expect(planRead({ lsn: at(1500), notModifiedSince: at(1) }, done)).toMatchObject({
      error: { kind: "not-readable-yet" },
    });
  });
});
