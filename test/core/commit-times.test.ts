import fc from "fast-check";
import { describe, expect, test } from "vitest";

import {
  CommitSecond,
  type CommitSample,
  type SecondScan,
  decodeSecond,
  lsnAtTime,
  readableLsnAtTime,
  timeAtLsn,
} from "../../src/core/commit-times.ts";
import { COMMIT_TIME_SAMPLE_US } from "../../src/core/limits.ts";
import { LSN_MAX, Lsn } from "../../src/core/lsn.ts";

/** Takes in commits as ingest does, forgetting everything at the given places; gives a scan. */
function taken(commits: readonly CommitSample[], restarts: readonly number[] = []): SecondScan {
  const stored = new Map<number, Uint8Array>();
  const second = new CommitSecond();
  commits.forEach(({ timeUs, lsn }, i) => {
    if (restarts.includes(i)) second.forget();
    if (!second.takes(timeUs)) second.moveTo(timeUs, (s) => stored.get(s));
    second.add(timeUs, lsn);
    stored.set(second.second, second.value().slice());
  });
  const seconds = [...stored.keys()].sort((x, y) => x - y);
  return (asked, toward) => {
    const found =
      toward === "older" ? seconds.findLast((s) => s <= asked) : seconds.find((s) => s >= asked);
    if (found === undefined) return undefined;
    return { second: found, samples: decodeSecond(found, stored.get(found)!) };
  };
}

/** Commits in WAL order; a few microseconds to a few seconds apart. */
const history = fc
  .array(
    fc.record({
      gapUs: fc.oneof(
        { weight: 5, arbitrary: fc.integer({ min: 0, max: 3_000 }) },
        { weight: 2, arbitrary: fc.integer({ min: 3_000, max: 90_000 }) },
        { weight: 1, arbitrary: fc.integer({ min: 90_000, max: 7_000_000 }) },
      ),
      bytes: fc.integer({ min: 4, max: 400_000 }),
    }),
    { minLength: 1, maxLength: 150 },
  )
  .map((steps) => {
    let timeUs = 800_000_000_123_456;
    let lsn = 0x3_0000_0000;
    return steps.map(({ gapUs, bytes }): CommitSample => {
      timeUs += gapUs;
      lsn += bytes * 8;
      return { timeUs, lsn: Lsn.of(lsn) };
    });
  });

describe("a time to an LSN", () => {
  test("shows every commit up to the time but for the last hundredth of a second, and none after", () => {
    fc.assert(
      fc.property(history, fc.array(fc.nat()), fc.array(fc.nat()), (commits, asked, restarts) => {
        const scan = taken(
          commits,
          restarts.map((r) => r % commits.length),
        );
        const from = commits[0]!.timeUs;
        const to = commits.at(-1)!.timeUs;
        for (const n of asked) {
          const time = from - 50_000 + (n % (to - from + 100_000));
          const answer = lsnAtTime(time, scan);
          if (answer.kind === "nodata") throw new Error("there is data");
          if (answer.kind === "past") {
            expect(time).toBeLessThan(from + COMMIT_TIME_SAMPLE_US);
            continue;
          }
          expect(answer.kind).toBe(time >= to ? "future" : "present");
          const shown = commits.filter((c) => c.lsn <= answer.lsn);
          expect(shown.every((c) => c.timeUs <= time)).toBe(true);
          const missed = commits.filter((c) => c.lsn > answer.lsn && c.timeUs <= time);
          for (const c of missed) expect(time - c.timeUs).toBeLessThan(COMMIT_TIME_SAMPLE_US);
        }
        expect(lsnAtTime(to, scan)).toEqual({ kind: "future", lsn: commits.at(-1)!.lsn });
      }),
    );
  });

  test("of what can be read: never below the cutoff, and past when the moment itself is gone", () => {
    fc.assert(
      fc.property(history, fc.nat(), fc.nat(), (commits, n, m) => {
        const scan = taken(commits);
        const [from, to] = [commits[0]!.timeUs, commits.at(-1)!.timeUs];
        const time = from - 50_000 + (n % (to - from + 100_000));
        const [first, last] = [commits[0]!.lsn, commits.at(-1)!.lsn];
        const cutoff = Lsn.of(first - 1_000 + (m % (last - first + 2_000)));
        const all = lsnAtTime(time, scan);
        const kept = readableLsnAtTime(time, cutoff, scan);
        if (all.kind === "nodata") throw new Error("there is data");
        expect(kept.lsn).toBe(Math.max(all.lsn, cutoff));
        const gone = all.kind === "present" && all.lsn < cutoff;
        expect(kept.kind).toBe(gone ? "past" : all.kind);
      }),
    );
    expect(readableLsnAtTime(5, Lsn.of(40), () => undefined)).toEqual({ kind: "nodata", lsn: 40 });
  });

  test("without commits there is no data", () => {
    expect(lsnAtTime(5, () => undefined)).toEqual({ kind: "nodata" });
    expect(timeAtLsn(LSN_MAX, () => undefined)).toBeUndefined();
  });

  test("a commit a little late counts as its predecessor's time, before and after a restart", () => {
    const commits = [
      { timeUs: 10_000_500, lsn: Lsn.of(800) },
      { timeUs: 9_990_000, lsn: Lsn.of(1_600) },
    ];
    for (const restarts of [[], [1]]) {
      const scan = taken(commits, restarts);
      expect(lsnAtTime(9_995_000, scan).kind).toBe("past");
      expect(lsnAtTime(10_000_500, scan)).toEqual({ kind: "future", lsn: 1_600 });
    }
  });

  test("a clock set back is believed", () => {
    const scan = taken([
      { timeUs: 500_000_000, lsn: Lsn.of(800) },
      { timeUs: 100_000_000, lsn: Lsn.of(1_600) },
    ]);
    expect(lsnAtTime(200_000_000, scan)).toEqual({ kind: "present", lsn: 1_600 });
  });
});

describe("an LSN to a time", () => {
  test("is the time of a commit at most a hundredth of a second from the last one below", () => {
    fc.assert(
      fc.property(history, fc.array(fc.nat()), (commits, asked) => {
        const scan = taken(commits);
        const first = commits[0]!.lsn;
        for (const n of asked) {
          const lsn = Lsn.of(first + (n % (commits.at(-1)!.lsn - first + 1_000)));
          const below = commits.findLast((c) => c.lsn <= lsn)!;
          const found = timeAtLsn(lsn, scan);
          if (found === undefined) {
            expect(below.timeUs - commits[0]!.timeUs).toBeLessThan(COMMIT_TIME_SAMPLE_US);
          } else {
            expect(found).toBeLessThanOrEqual(below.timeUs);
            // The sample before: the gap to it is at most the hundredth that `below` is in.
            const between = commits.filter((c) => c.timeUs > found && c.lsn <= lsn);
            for (const c of between) {
              expect(below.timeUs - c.timeUs).toBeLessThan(COMMIT_TIME_SAMPLE_US);
            }
          }
        }
      }),
    );
  });
});

test("a second holds at most one sample a hundredth, however many commits", () => {
  const second = new CommitSecond();
  const commits = Array.from({ length: 5_000 }, (_, i) => i * 200);
  for (const us of commits) {
    if (!second.takes(7_000_000 + us)) second.moveTo(7_000_000 + us, () => undefined);
    second.add(7_000_000 + us, 8 * (us + 1));
  }
  expect(second.value().length).toBeLessThan(100 * 6);
});
