// Durations as people and Neon's tools write them: "7days", "1h 30m", "90s". Inside they are ms.

import { MalformedInput } from "./assert.ts";

const UNITS: readonly (readonly [RegExp, number])[] = [
  [/^(ms|msec|millis)$/, 1],
  [/^(s|sec|secs|second|seconds)$/, 1_000],
  [/^(m|min|mins|minute|minutes)$/, 60_000],
  [/^(h|hr|hour|hours)$/, 3_600_000],
  [/^(d|day|days)$/, 86_400_000],
  [/^(w|week|weeks)$/, 604_800_000],
];

/** ms. Throws MalformedInput. */
export function parseDuration(text: string): number {
  const parts = [...text.matchAll(/\s*(\d{1,12})\s*([a-z]+)\s*/gy)];
  const read = parts.reduce((length, [part]) => length + part.length, 0);
  let ms = 0;
  for (const [, digits, name] of parts) {
    const unit = UNITS.find(([names]) => names.test(name!));
    ms += unit === undefined ? NaN : Number(digits) * unit[1];
  }
  if (parts.length > 0 && read === text.length && Number.isSafeInteger(ms)) return ms;
  throw new MalformedInput(`not a duration: "${text}" (expected e.g. 7days, 1h 30m, 90s)`);
}

/** The shortest text that means the same. */
export function formatDuration(ms: number): string {
  const parts: string[] = [];
  let left = ms;
  for (const [size, name] of [
    ...([
      [86_400_000, "d"],
      [3_600_000, "h"],
      [60_000, "m"],
      [1_000, "s"],
      [1, "ms"],
    ] as const),
  ]) {
    const count = Math.floor(left / size);
    if (count > 0) parts.push(`${count}${name}`);
    left -= count * size;
  }
  return parts.length === 0 ? "0s" : parts.join(" ");
}
