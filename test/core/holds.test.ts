import { describe, expect, test } from "vitest";
import { holdPins, isLive, notKept } from "../../src/core/holds.ts";
import { Lsn } from "../../src/core/lsn.ts";

const lsn = Lsn.of;

describe("what is held", () => {
  const leases = [
    { lsn: lsn(8), owner: "a", expiresAtMs: 100 },
    { lsn: lsn(16), owner: "b", expiresAtMs: 101 },
  ];
  const snapshots = [{ lsn: lsn(8), name: "monday" }];

  test("a lease until its last millisecond, a snapshot for ever", () => {
    const reasons = (nowMs: number): readonly unknown[] =>
      holdPins({ leases, snapshots }, nowMs).map(({ lsn: at, reason }) => [at, reason.kind]);
    const snapshot = [8, "snapshot"];
    expect(reasons(99)).toEqual([[8, "lease"], [16, "lease"], snapshot]);
    expect(reasons(100)).toEqual([[16, "lease"], snapshot]);
    expect(reasons(1e15)).toEqual([snapshot]);
    expect(isLive({ expiresAtMs: 100 }, 100)).toBe(false);
  });

  test("what is below the cutoff and not pinned cannot be held, and the refusal says the cutoff", () => {
    const [cutoff, pinned] = [lsn(0x100), [lsn(0x20)]];
    expect(notKept(lsn(0x100), cutoff, pinned, "main")).toBeUndefined();
    expect(notKept(lsn(0x20), cutoff, pinned, "main")).toBeUndefined();
    expect(notKept(lsn(0xff), cutoff, pinned, "main")).toBe(
      `0/FF is older than what "main" keeps: its cutoff is 0/100`,
    );
  });
});
