import { describe, expect, test } from "vitest";
import { type ReadError, readErrorText } from "../../src/core/errors.ts";
import { Lsn } from "../../src/core/lsn.ts";

const rel = { spc: 1663, db: 5, rel: 16_384, fork: 0 };
const at = Lsn.parse("1/2A");
const below = Lsn.parse("1/0");

/** One of each kind: a kind without a sentence does not compile here. */
const ALL: { readonly [K in ReadError["kind"]]: Extract<ReadError, { kind: K }> } = {
  "bad-request": { kind: "bad-request", message: "no" },
  "relation-missing": { kind: "relation-missing", rel, at },
  "layer-absent": { kind: "layer-absent", path: "a.layer", reason: "no route" },
  "lsn-collected": { kind: "lsn-collected", asked: below, cutoff: at },
  "lsn-timeout": { kind: "lsn-timeout", asked: at, last: below, waitedMs: 60_000 },
  "not-readable-yet": { kind: "not-readable-yet", asked: below, readableFrom: at },
  "too-many-waiters": { kind: "too-many-waiters", limit: 7 },
  "redo-failed": { kind: "redo-failed", page: "1663/5/16384.0 block 3", at, reason: "died" },
  corrupt: { kind: "corrupt", what: "x.layer", reason: "its checksum is wrong" },
  "timeline-broken": { kind: "timeline-broken", reason: "it crashed" },
  "timeline-loading": { kind: "timeline-loading", waitsFor: undefined },
  replaced: { kind: "replaced", generation: 1, current: 2 },
  "other-cluster": { kind: "other-cluster", systemId: "1", ours: "2" },
  "shutting-down": { kind: "shutting-down" },
};

describe("what a compute is told", () => {
  test.each(Object.values(ALL))("$kind is one line that does not say undefined", (error) => {
    const text = readErrorText(error);
    expect(text.length).toBeGreaterThan(4);
    expect(text).not.toMatch(/undefined|\[object|\n/);
  });

  test("names the thing, and what to do", () => {
    expect(readErrorText(ALL["relation-missing"])).toContain(
      "1663/5/16384.0 does not exist at 1/2A",
    );
    expect(readErrorText(ALL["lsn-timeout"])).toMatch(
      /1\/2A.*at 1\/0; is its WAL source connected/,
    );
    expect(readErrorText(ALL.corrupt)).toBe(
      "Read error: x.layer is corrupt: its checksum is wrong; restore it from backup",
    );
    const waits = { kind: "timeline-loading", waitsFor: "its ancestor is broken" } as const;
    expect(readErrorText(waits)).toMatch(/loaded and waits: its ancestor is broken; retry/);
    expect(readErrorText(ALL["timeline-loading"])).toMatch(/being loaded; retry/);
  });
});
