// What a benchmark says, the goals, and how results are shown.

import Table from "cli-table3";

export interface Result {
  readonly name: string;
  readonly value: number;
  readonly unit: string;
  /** With a goal: how `value` must compare to it. */
  readonly op?: ">=" | "<=";
  readonly goal?: number;
  readonly ok?: boolean;
}

/** A figure without a goal. */
export const figure = (name: string, value: number, unit: string): Result => ({
  name,
  value: rounded(value),
  unit,
});

/** A figure that has one. */
export function goal(
  name: string,
  value: number,
  unit: string,
  op: ">=" | "<=",
  wanted: number,
): Result {
  const ok = op === ">=" ? value >= wanted : value <= wanted;
  return { name, value: rounded(value), unit, op, goal: wanted, ok };
}

/** Three significant digits, or whole numbers. */
function rounded(value: number): number {
  return Math.abs(value) >= 100 ? Math.round(value) : Number(value.toPrecision(3));
}

export function table(results: readonly Result[]): string {
  const out = new Table({
    head: ["", "value", "unit", "goal", ""],
    colAligns: ["left", "right", "left", "left", "left"],
    style: { head: [], border: [] },
  });
  for (const { name, value, unit, op, goal: wanted, ok } of results) {
    const said = ok === undefined ? "" : ok ? "ok" : "MISSED";
    out.push([
      name,
      value.toLocaleString("en"),
      unit,
      op === undefined ? "" : `${op} ${wanted}`,
      said,
    ]);
  }
  return out.toString();
}
