// The rules of STYLE.md that a machine can check. Each rule takes sources and gives the offending
// lines as "path:line: what"; no offence is an empty list.

import ts from "typescript";
import { type Source, importsOf, lineOf, walk } from "./source-tree.ts";

export const FILE_LINES_MAX = 400;
/** Tests are read one case at a time. */
export const TEST_FILE_LINES_MAX = 600;
export const FUNCTION_LINES_MAX = 70;

interface Allowed {
  /** Folders or files below the root, by prefix. */
  readonly from: readonly string[];
  /** Folders or files of which types may be imported, and nothing that exists at run time. */
  readonly typesFrom?: readonly string[];
  /** Packages and Node modules; "node:" allows all of Node. */
  readonly packages: readonly string[];
}

/** Who may import whom. The longest prefix of a file's path decides. */
export const IMPORTS: Readonly<Record<string, Allowed>> = {
  "src/core/": { from: ["src/core/"], packages: [] },
  "src/protocol/": {
    from: ["src/core/", "src/protocol/"],
    packages: ["typebox", "@node-rs/crc32", "fzstd", "lz4-napi"],
  },
  "src/store/": {
    from: ["src/core/", "src/protocol/", "src/store/"],
    packages: ["lmdb", "lru-cache", "zod", "node:fs", "node:fs/promises", "node:path"],
  },
  "src/io/": {
    from: ["src/core/", "src/protocol/", "src/io/"],
    packages: [
      ...["node:", "@opentelemetry/api", "jose", "pg", "pino", "pino-pretty", "tar-stream"],
      ...["@aws-sdk/client-s3", "@mongodb-js/zstd", "cockatiel"],
    ],
  },
  "src/actors/": {
    from: ["src/core/", "src/protocol/", "src/store/", "src/io/", "src/actors/"],
    packages: ["nact", "lru-cache", "node:path"],
  },
  "src/http/": {
    from: ["src/core/", "src/protocol/api", "src/http/"],
    typesFrom: ["src/actors/"],
    packages: [
      ...["fastify", "@fastify/swagger", "@fastify/type-provider-typebox", "typebox"],
      ...["node:crypto", "node:http", "node:https"],
    ],
  },
  // Runs in browsers: of the rest it knows the API's types, the client, and what is pure.
  "src/dashboard/": {
    from: ["src/core/", "src/http/client.ts", "src/dashboard/"],
    typesFrom: ["src/protocol/api"],
    packages: ["preact", "uplot"],
  },
  "src/cli/": {
    from: ["src/core/", "src/protocol/api", "src/http/client.ts", "src/store/", "src/cli/"],
    packages: ["commander", "cli-progress", "cli-table3", "node:path", "node:timers/promises"],
  },
  // `serve` is the program itself, loaded when it is asked for.
  "src/cli/serve.ts": { from: ["src/core/", "src/cli/", "src/main.ts"], packages: ["commander"] },
  "src/cli/restore-command.ts": {
    from: ["src/core/", "src/cli/", "src/main.ts"],
    packages: ["commander"],
  },
  "src/cli/full-backup.ts": {
    from: ["src/core/", "src/cli/", "src/io/unpack-tar.ts"],
    packages: ["commander"],
  },
  "src/cli/config.ts": {
    from: ["src/core/", "src/cli/", "src/main.ts", "src/config.ts"],
    packages: ["commander"],
  },
  "src/cli/doctor.ts": {
    from: ["src/core/", "src/cli/", "src/app/doctor.ts"],
    packages: ["commander"],
  },
  // Puts the program together; only main.ts knows it.
  "src/app/": {
    from: [
      ...["src/core/", "src/protocol/", "src/store/", "src/io/", "src/actors/", "src/http/"],
      ...["src/app/", "src/config.ts", "supervision.ts"],
    ],
    packages: ["node:", "prom-client", "zod"],
  },
  "src/config.ts": { from: ["src/core/"], packages: ["zod", "smol-toml"] },
  "supervision.ts": {
    from: ["src/core/", "src/actors/"],
    typesFrom: ["src/store/", "src/io/", "src/protocol/"],
    packages: [],
  },
  "test/core/": {
    from: ["src/core/", "src/protocol/", "test/"],
    packages: ["vitest", "fast-check"],
  },
};

/** Packages that appear in these files and nowhere else in src. */
export const SOLE_IMPORTERS: Readonly<Record<string, readonly string[]>> = {
  nact: ["src/actors/runtime.ts"],
  lmdb: ["src/store/catalog.ts", "src/store/layer-writer.ts", "src/store/sealed-file.ts"],
  fastify: [
    ...["src/http/server.ts", "src/http/errors.ts", "src/http/authorize.ts"],
    "src/http/dashboard.ts",
  ],
  jose: ["src/io/own-tokens.ts", "src/io/tokens.ts"],
  "@aws-sdk/client-s3": ["src/io/objects/s3.ts"],
  cockatiel: ["src/io/objects/retried.ts"],
  "@opentelemetry/api": ["src/io/traces.ts"],
  "@mongodb-js/zstd": ["src/io/objects/layer-object.ts"],
};

export function wrongImports(source: Source): readonly string[] {
  const key = longestPrefix(Object.keys(IMPORTS), source.path);
  const found: string[] = [];
  for (const one of importsOf(source)) {
    const say = (what: string) => found.push(`${source.path}:${one.line}: ${what}`);
    if (one.target !== undefined && !/\.tsx?$/.test(one.target)) {
      say(`"${one.specifier}" must end in .ts`);
    }
    const owners = SOLE_IMPORTERS[one.specifier];
    if (owners !== undefined && source.path.startsWith("src/") && !owners.includes(source.path)) {
      say(`only ${owners.join(", ")} may import ${one.specifier}`);
    }
    if (key === undefined) continue;
    const allowed = IMPORTS[key]!;
    if (one.target === undefined) {
      if (!mayUsePackage(allowed.packages, one.specifier)) {
        say(`${key} may not import "${one.specifier}"`);
      }
      continue;
    }
    const target = one.target;
    const starts = (prefix: string): boolean => target.startsWith(prefix);
    if (allowed.from.some(starts)) continue;
    if (!allowed.typesFrom?.some(starts)) say(`${key} may not import ${target}`);
    else if (one.value) say(`${key} may import only types from ${target}`);
  }
  return found;
}

function mayUsePackage(packages: readonly string[], specifier: string): boolean {
  return packages.some((name) =>
    name.endsWith(":")
      ? specifier.startsWith(name)
      : specifier === name || specifier.startsWith(`${name}/`),
  );
}

function longestPrefix(prefixes: readonly string[], path: string): string | undefined {
  return prefixes
    .filter((prefix) => path.startsWith(prefix))
    .sort((a, b) => b.length - a.length)[0];
}

/** Time, chance and the outside come in as arguments (rule 13). */
const IMPURE_CALLS = new Set(["Date.now", "Math.random"]);
const IMPURE_NAMES = new Set([
  "setTimeout",
  "setInterval",
  "setImmediate",
  "queueMicrotask",
  "process",
  "performance",
  "fetch",
  "console",
]);

export function impureGlobals(source: Source): readonly string[] {
  const found: string[] = [];
  walk(source.tree, (node) => {
    const name = impureName(node);
    if (name !== undefined) {
      found.push(`${source.path}:${lineOf(source, node)}: ${name} (pass it in as an argument)`);
    }
  });
  return found;
}

function impureName(node: ts.Node): string | undefined {
  if (ts.isPropertyAccessExpression(node)) {
    const text = `${node.expression.getText()}.${node.name.text}`;
    return IMPURE_CALLS.has(text) ? text : undefined;
  }
  if (ts.isNewExpression(node) && node.expression.getText() === "Date") {
    return (node.arguments?.length ?? 0) === 0 ? "new Date()" : undefined;
  }
  if (ts.isIdentifier(node) && IMPURE_NAMES.has(node.text) && isFreeUse(node)) return node.text;
  return undefined;
}

/** A use, not the name of a member, parameter or property. */
function isFreeUse(node: ts.Identifier): boolean {
  const { name, propertyName } = node.parent as { name?: ts.Node; propertyName?: ts.Node };
  return name !== node && propertyName !== node;
}

export interface Measured {
  /** "path" or "path#function". */
  readonly what: string;
  readonly line: number;
  readonly lines: number;
}

/** Functions with more than `max` lines, braces included. */
export function longFunctions(source: Source, max: number): readonly Measured[] {
  const found: Measured[] = [];
  walk(source.tree, (node) => {
    if (!ts.isFunctionLike(node) || !("body" in node) || node.body === undefined) return;
    const start = lineOf(source, node);
    const end = source.tree.getLineAndCharacterOfPosition(node.getEnd()).line + 1;
    const lines = end - start + 1;
    if (lines > max) found.push({ what: `${source.path}#${nameOf(node)}`, line: start, lines });
  });
  return found;
}

function nameOf(node: ts.SignatureDeclaration): string {
  if (ts.isConstructorDeclaration(node)) return "constructor";
  if (node.name !== undefined) return node.name.getText();
  const { parent } = node;
  if (ts.isVariableDeclaration(parent) || ts.isPropertyAssignment(parent)) {
    return parent.name.getText();
  }
  return "(anonymous)";
}

export function forbiddenSyntax(source: Source): readonly string[] {
  const found: string[] = [];
  const say = (node: ts.Node, what: string) =>
    found.push(`${source.path}:${lineOf(source, node)}: ${what}`);
  walk(source.tree, (node) => {
    if (node.kind === ts.SyntaxKind.AnyKeyword) say(node, "no `any`; use unknown and look");
    if (ts.isExportAssignment(node)) say(node, "no default exports");
    if (node.kind === ts.SyntaxKind.DefaultKeyword && ts.canHaveModifiers(node.parent)) {
      say(node, "no default exports");
    }
    if (ts.isExportDeclaration(node) && node.exportClause === undefined) {
      say(node, "no `export *`: import from where a thing is");
    }
  });
  if (/(^|\/)index\.ts$/.test(source.path)) found.push(`${source.path}:1: no barrel files`);
  return found;
}

/** Each file opens with a comment: what it is for and what holds. */
export function missingHeader(source: Source): readonly string[] {
  if (/^(#!.*\n)?(\/\/|\/\*)/.test(source.text)) return [];
  return [`${source.path}:1: opens without saying what it is for`];
}

/** Cycles of imports that exist at run time, each as "a -> b -> a". */
export function importCycles(sources: readonly Source[]): readonly string[] {
  const edges = new Map<string, readonly string[]>();
  for (const source of sources) {
    const targets = importsOf(source).filter((one) => one.value && !one.dynamic);
    edges.set(
      source.path,
      targets.flatMap((one) => one.target ?? []),
    );
  }
  const cycles: string[] = [];
  const done = new Set<string>();
  const visit = (path: string, trail: readonly string[]): void => {
    const at = trail.indexOf(path);
    if (at >= 0) {
      cycles.push([...trail.slice(at), path].join(" -> "));
      return;
    }
    if (done.has(path)) return;
    for (const next of edges.get(path) ?? []) visit(next, [...trail, path]);
    done.add(path);
  };
  for (const path of edges.keys()) visit(path, []);
  return cycles;
}

/** Paths that exist only on somebody's machine. Written so that this line is none. */
const MACHINE_PATH = /\/(home|Users)\/\w+\/|\/(work)\/(main|shared)|\/(tmp)\/pgsrc/;

export function machinePaths(path: string, text: string): readonly string[] {
  return text
    .split("\n")
    .flatMap((line, i) => (MACHINE_PATH.test(line) ? [`${path}:${i + 1}: ${line.trim()}`] : []));
}
