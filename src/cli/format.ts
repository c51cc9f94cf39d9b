// Numbers and tables for people.

import Table from "cli-table3";
import { MalformedInput } from "../core/assert.ts";
import { formatBytes, formatMs } from "../core/human.ts";
import type { SourceInfo, TimelineState } from "../protocol/api.ts";

export { formatBytes, formatMs };

const SIZE_UNITS: Readonly<Record<string, number>> = {
  "": 1,
  k: 1024,
  m: 1024 ** 2,
  g: 1024 ** 3,
};

/** "10M" -> 10485760. Units k, M, G (powers of 1024). */
export function parseBytes(text: string): number {
  const match = /^(\d+)([kmg]?)(?:i?b)?$/i.exec(text);
  if (match === null) throw new MalformedInput(`not a size: "${text}" (expected e.g. 10M)`);
  return Number(match[1]) * SIZE_UNITS[match[2]!.toLowerCase()]!;
}

const DURATION_UNITS_MS: Readonly<Record<string, number>> = {
  ms: 1,
  s: 1_000,
  m: 60_000,
  h: 3_600_000,
  d: 86_400_000,
};

/** "90s" -> 90000. Units ms, s, m, h, d. `option` names it in the refusal. */
export function parseDuration(option: string, text: string): number {
  const match = /^(\d{1,9})(ms|s|m|h|d)$/.exec(text);
  if (match === null) {
    throw new MalformedInput(`${option}: not a duration: "${text}" (expected e.g. 30m, 2h, 7d)`);
  }
  return Number(match[1]) * DURATION_UNITS_MS[match[2]!]!;
}

/** Columns without lines, as `docker ps` has them; no colours, so that pipes stay clean. */
export function table(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const none = Object.fromEntries(
    [
      "top,top-mid,top-left,top-right,bottom,bottom-mid,bottom-left,bottom-right",
      "left,left-mid,mid,mid-mid,right,right-mid",
    ]
      .join(",")
      .split(",")
      .map((name) => [name, ""]),
  );
  const out = new Table({
    head: [...head],
    chars: { ...none, middle: "  " },
    style: { head: [], border: [], "padding-left": 0, "padding-right": 0 },
  });
  for (const row of rows) out.push([...row]);
  return trimLines(out.toString());
}

const trimLines = (text: string): string =>
  text
    .split("\n")
    .map((line) => line.trimEnd())
    .join("\n");

export const stateText = (state: TimelineState): string =>
  typeof state === "string" ? state : `Broken: ${state.Broken.reason}`;

/** "follow, streaming, 12 KiB behind" */
export function sourceText(source: SourceInfo): string {
  if (source.kind === "none") return "none";
  const lag =
    source.lag_bytes === undefined || source.lag_bytes === 0
      ? ""
      : `, ${formatBytes(source.lag_bytes)} behind`;
  const reason = source.reason === undefined ? "" : `: ${source.reason}`;
  return `${source.kind}, ${source.connection}${lag}${reason}`;
}
