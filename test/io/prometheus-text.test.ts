import { expect, test } from "vitest";
import { parsePrometheus } from "../support/prometheus.ts";

const GOOD =
  '# HELP a_total what\n# TYPE a_total counter\na_total{x="1",y="q\\"\\n"} 3\na_total 0\n';

test("the checker of metrics takes what is right", () => {
  expect(parsePrometheus(GOOD).get("a_total")?.samples).toEqual([
    { name: "a_total", labels: { x: "1", y: 'q\\"\\n' }, value: 3 },
    { name: "a_total", labels: {}, value: 0 },
  ]);
});

test.each([
  ["twice the same series", `${GOOD}a_total 1\n`],
  ["twice the same family", GOOD + GOOD],
  ["a counter below zero", GOOD.replace("} 3", "} -3")],
  ["no type", GOOD.replace("counter", "number")],
  ["a sample of nobody", `${GOOD}b 1\n`],
  ["no value", GOOD.replace("} 3", "} three")],
  ["a label without quotes", GOOD.replace('"1"', "1")],
  ["no end of the last line", GOOD.trimEnd()],
])("and refuses %s", (_what, text) => {
  expect(() => parsePrometheus(text)).toThrow();
});
