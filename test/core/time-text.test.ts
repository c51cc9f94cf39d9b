import fc from "fast-check";
import { expect, test } from "vitest";
import { MalformedInput } from "../../src/core/assert.ts";
import { formatTime, parseTime } from "../../src/core/time-text.ts";

/** Years 1970 to 2200 in microseconds. */
const moment = fc.integer({ min: 0, max: 7_258_118_400_000_000 });

test("what is printed is read back, to the microsecond", () => {
  fc.assert(
    fc.property(moment, (unixUs) => {
      expect(parseTime(formatTime(unixUs))).toBe(unixUs);
    }),
  );
});

test("text order is time order", () => {
  fc.assert(
    fc.property(moment, moment, (a, b) => {
      expect(formatTime(a) < formatTime(b)).toBe(a < b);
    }),
  );
});

test("zones as RFC 3339, PostgreSQL and people write them", () => {
  const expected = Date.parse("2026-01-31T10:20:30Z") * 1000 + 120_000;
  for (const text of [
    "2026-01-31T10:20:30.12Z",
    "2026-01-31t10:20:30.120000z",
    "2026-01-31 10:20:30.12+00",
    "2026-01-31 12:20:30.12 +0200",
    "2026-01-31T04:50:30.120000999-05:30",
  ]) {
    expect(parseTime(text), text).toBe(expected);
  }
});

test("what has no zone, or is no time, is refused by name", () => {
  for (const text of [
    "2026-01-31T10:20:30",
    "2026-13-31T10:20:30Z",
    "2026-01-31T25:20:30Z",
    "2026-01-31",
    "now",
    "",
  ]) {
    expect(() => parseTime(text), text).toThrow(MalformedInput);
  }
});
