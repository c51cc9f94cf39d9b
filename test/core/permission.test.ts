import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { MalformedInput } from "../../src/core/assert.ts";
import { parseTenantId, parseTimelineId } from "../../src/core/ids.ts";
import {
  type Claims,
  NOBODY,
  type Need,
  TRUSTED,
  checkPermission,
  parseClaims,
} from "../../src/core/permission.ts";

const [a, b] = ["a", "b"].map((digit) => parseTenantId(digit.repeat(32)));
const [x, y] = ["1", "2"].map((digit) => parseTimelineId(digit.repeat(32)));
const may = (claims: Claims, need: Need): boolean => checkPermission(claims, need).ok;

const needs: fc.Arbitrary<Need> = fc
  .tuple(
    fc.constantFrom("manage", "read", "change"),
    fc.constantFrom(a!, b!),
    fc.constantFrom(x!, y!, undefined),
  )
  .map(([kind, tenant, timeline]) =>
    kind === "manage" ? { kind } : { kind: kind === "read" ? "read" : "change", tenant, timeline },
  );

describe("checkPermission", () => {
  test("a table of scopes", () => {
    const read: Need = { kind: "read", tenant: a!, timeline: x };
    const change: Need = { kind: "change", tenant: a!, timeline: undefined };
    const other: Need = { kind: "read", tenant: b!, timeline: x };
    const manage: Need = { kind: "manage" };
    const row = (claims: Claims) => [read, change, other, manage].map((need) => may(claims, need));
    expect(row(TRUSTED)).toEqual([true, true, true, true]);
    expect(row(NOBODY)).toEqual([false, false, false, false]);
    expect(row({ scope: "pageserverapi" })).toEqual([true, true, true, true]);
    const tenant = { tenant: a!, timeline: undefined };
    expect(row({ scope: "tenant", ...tenant })).toEqual([true, true, false, false]);
    expect(row({ scope: "tenant:read", ...tenant })).toEqual([true, false, false, false]);
    const timeline = { tenant: a!, timeline: y };
    expect(row({ scope: "tenant", ...timeline })).toEqual([false, false, false, false]);
    expect(may({ scope: "tenant", tenant: a!, timeline: x }, read)).toBe(true);
  });

  test("our finer scopes never permit what the standard one does not", () => {
    fc.assert(
      fc.property(
        needs,
        fc.constantFrom("tenant" as const, "tenant:read" as const),
        fc.constantFrom(x, y, undefined),
        (need, scope, timeline) => {
          const fine = may({ scope, tenant: a!, timeline }, need);
          const standard = may({ scope: "tenant", tenant: a!, timeline: undefined }, need);
          expect(fine && !standard).toBe(false);
        },
      ),
    );
  });
});

describe("parseClaims", () => {
  test("what Neon's tokens say", () => {
    expect(parseClaims({ scope: "pageserverapi" })).toEqual({ scope: "pageserverapi" });
    expect(parseClaims({ scope: "tenant", tenant_id: "A".repeat(32), endpoint_id: "" })).toEqual({
      scope: "tenant",
      tenant: a,
      timeline: undefined,
    });
  });

  test.each([
    [{}, "permits nothing"],
    [{ scope: "trusted" }, "permits nothing"],
    [{ scope: "nobody" }, "permits nothing"],
    [{ scope: "safekeeperdata" }, "permits nothing"],
    [{ scope: ["tenant"], tenant_id: "a".repeat(32) }, "permits nothing"],
    [{ scope: "tenant" }, "no tenant_id"],
    [{ scope: "tenant:read", tenant_id: 7 }, "no tenant_id"],
    [{ scope: "tenant", tenant_id: "abc" }, "not a tenant id"],
    [{ scope: "tenant", tenant_id: "a".repeat(32), timeline_id: null }, "no timeline_id"],
    [{ scope: "pageserverapi", timeline_id: "1".repeat(32) }, "needs a tenant's scope"],
  ])("refused: %j", (payload, why) => {
    expect(() => parseClaims(payload)).toThrow(MalformedInput);
    expect(() => parseClaims(payload)).toThrow(why);
  });
});
