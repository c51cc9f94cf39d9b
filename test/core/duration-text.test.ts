import { expect, test } from "vitest";
import { formatDuration, parseDuration } from "../../src/core/duration-text.ts";

test.each([
  ["7days", 604_800_000],
  ["7 days", 604_800_000],
  ["1h 30m", 5_400_000],
  ["1h30m", 5_400_000],
  ["90s", 90_000],
  ["250ms", 250],
  ["2weeks 1sec", 1_209_601_000],
  ["0s", 0],
])("%s is %i ms", (text, ms) => {
  expect(parseDuration(text)).toBe(ms);
  expect(parseDuration(formatDuration(ms))).toBe(ms);
});

test.each(["", "7", "days", "7 dogs", "-1s", "1.5h", "1h!", "999999999999w 1s"])(
  "%j is refused",
  (text) => {
    expect(() => parseDuration(text)).toThrow("not a duration");
  },
);
