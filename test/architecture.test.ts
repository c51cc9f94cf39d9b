// The rules of STYLE.md that a machine can check, over the project's own sources. A failure lists
// the offending lines. The two ratchets below only ever shrink; each entry says why it is there.

import { readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import {
  FILE_LINES_MAX,
  FUNCTION_LINES_MAX,
  TEST_FILE_LINES_MAX,
  forbiddenSyntax,
  importCycles,
  impureGlobals,
  longFunctions,
  machinePaths,
  missingHeader,
  wrongImports,
} from "./support/architecture-rules.ts";
import { ROOT, filesUnder, parseFile, parseText } from "./support/source-tree.ts";

/** Files above the limit: path to lines allowed. */
const LONG_FILES: Readonly<Record<string, { readonly lines: number; readonly why: string }>> = {};

/** Functions above the limit: "path#name" to lines allowed. */
const LONG_FUNCTIONS: Readonly<Record<string, { readonly lines: number; readonly why: string }>> =
  {};

const product = [...filesUnder("src", [".ts", ".tsx"]), "supervision.ts"].map(parseFile);
const programs = [...filesUnder("scripts", [".ts"]), ...filesUnder("bench", [".ts"])].map(
  parseFile,
);
const tests = filesUnder("test", [".ts"]).map(parseFile);
const all = [...product, ...programs, ...tests];
const pure = product.filter((source) => /^src\/(core|protocol|store)\//.test(source.path));

/** Fails with one offence a line. */
function expectNone(offences: readonly string[]): void {
  expect(offences.join("\n")).toBe("");
}

test("the sources are found", () => {
  expect(pure.length).toBeGreaterThan(30);
  expect(tests.some((source) => source.path === "test/architecture.test.ts")).toBe(true);
});

test("each folder imports only what it may", () => {
  expectNone(all.flatMap(wrongImports));
});

test("no module imports itself through others", () => {
  expectNone(importCycles(product));
});

test("core, protocol and store get time, chance and the outside as arguments", () => {
  expectNone(pure.flatMap(impureGlobals));
});

test("no any, no default exports, no barrels", () => {
  expectNone(all.flatMap(forbiddenSyntax));
});

test("each file says at its top what it is for", () => {
  expectNone([...product, ...programs].flatMap(missingHeader));
});

test(`files have at most ${FILE_LINES_MAX} lines`, () => {
  const offences = all.flatMap((source) => {
    const lines = source.lines.length - 1;
    const usual = source.path.startsWith("test/") ? TEST_FILE_LINES_MAX : FILE_LINES_MAX;
    const max = LONG_FILES[source.path]?.lines ?? usual;
    return lines > max ? [`${source.path}:${max}: ${lines} lines, at most ${max}`] : [];
  });
  expectNone(offences);
});

test(`functions have at most ${FUNCTION_LINES_MAX} lines`, () => {
  const long = [...product, ...programs].flatMap((source) =>
    longFunctions(source, FUNCTION_LINES_MAX),
  );
  const offences = long
    .filter(({ what, lines }) => lines > (LONG_FUNCTIONS[what]?.lines ?? 0))
    .map(({ what, line, lines }) => `${what.replace("#", `:${line}: `)}: ${lines} lines`);
  expectNone(offences);
});

test("the ratchets name only what still needs them", () => {
  const longFiles = all.filter((source) => source.lines.length - 1 > FILE_LINES_MAX);
  const long = [...product, ...programs].flatMap((source) =>
    longFunctions(source, FUNCTION_LINES_MAX),
  );
  expect(longFiles.map((source) => source.path)).toEqual(
    expect.arrayContaining(Object.keys(LONG_FILES)),
  );
  expect(long.map(({ what }) => what)).toEqual(expect.arrayContaining(Object.keys(LONG_FUNCTIONS)));
});

test("no paths of one machine", () => {
  const endings = [".ts", ".md", ".c", ".h", ".sh", ".mjs", ".json"];
  expectNone(
    filesUnder(".", endings).flatMap((path) =>
      machinePaths(path, readFileSync(join(ROOT, path), "utf8")),
    ),
  );
});

describe("the rules find what they are for", () => {
  const offences = (path: string, text: string) => {
    const source = parseText(path, text);
    return [...wrongImports(source), ...impureGlobals(source), ...forbiddenSyntax(source)];
  };

  test.each([
    ["src/core/x.ts", 'import { a } from "../store/catalog.ts";', "may not import src/store"],
    ["src/core/x.ts", 'import { a } from "node:fs";', 'may not import "node:fs"'],
    ["src/core/x.ts", 'import { a } from "./y";', "must end in .ts"],
    ["src/actors/x.ts", 'import * as nact from "nact";', "only src/actors/runtime.ts"],
    ["src/store/x.ts", 'import { open } from "lmdb";', "may import lmdb"],
    ["src/http/x.ts", 'import { ask } from "../actors/runtime.ts";', "only types from"],
    ["src/cli/x.ts", 'const m = await import("../actors/timeline.ts");', "may not import"],
    ["src/core/x.ts", "const t = Date.now();", ":1: Date.now"],
    ["src/core/x.ts", "const t = new Date();", "new Date()"],
    ["src/core/x.ts", "const { HOME } = process.env;", "process"],
    ["src/core/x.ts", "\n\nsetTimeout(f, 1);", ":3: setTimeout"],
    ["src/core/x.ts", "export default 1;", "default"],
    ["src/core/x.ts", "export default function f() {}", "default"],
    ["src/core/x.ts", 'export * from "./y.ts";', "export *"],
    ["src/core/x.ts", "let a: any;", "any"],
  ])("%s: %s", (path, text, expected) => {
    expect(offences(path, text).join("\n")).toContain(expected);
  });

  test.each([
    ["src/http/x.ts", 'import type { TreeNode } from "../actors/runtime.ts";'],
    ["src/core/x.ts", "const t = new Date(5); interface P { process: number } f({ process: 1 });"],
    ["src/store/x.ts", 'import { readFileSync } from "node:fs";'],
  ])("but not %s: %s", (path, text) => {
    expect(offences(path, text)).toEqual([]);
  });

  test("cycles and long functions", () => {
    const a = parseText("src/core/a.ts", 'import { b } from "./b.ts";');
    const b = parseText("src/core/b.ts", 'import { a } from "./a.ts";');
    const typed = parseText("src/core/b.ts", 'import type { a } from "./a.ts";');
    expect(importCycles([a, b])).toEqual(["src/core/a.ts -> src/core/b.ts -> src/core/a.ts"]);
    expect(importCycles([a, typed])).toEqual([]);
    const long = parseText("src/core/c.ts", `const f = () => {${"\n".repeat(10)}};`);
    expect(longFunctions(long, 10)).toEqual([{ what: "src/core/c.ts#f", line: 1, lines: 11 }]);
    expect(longFunctions(long, 11)).toEqual([]);
  });
});
