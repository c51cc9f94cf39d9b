// The project's own sources as syntax trees, for rules that are tests (architecture.test.ts).

import { readFileSync, readdirSync, statSync } from "node:fs";
import { dirname, join, posix } from "node:path";
import { fileURLToPath } from "node:url";
import ts from "typescript";

export const ROOT = dirname(dirname(dirname(fileURLToPath(import.meta.url))));

export interface Source {
  /** From the root, with "/". */
  readonly path: string;
  readonly text: string;
  readonly lines: readonly string[];
  readonly tree: ts.SourceFile;
}

export interface Import {
  readonly line: number;
  /** As written: "../core/lsn.ts", "node:fs". */
  readonly specifier: string;
  /** A relative specifier as a path from the root, else undefined. */
  readonly target: string | undefined;
  /** False for `import type` and `import { type … }` of types alone. */
  readonly value: boolean;
  readonly dynamic: boolean;
}

const SKIPPED = new Set(["node_modules", "dist", "data", "build", ".git"]);

/** All files below `dir` (from the root) that end in one of `endings`. */
export function filesUnder(dir: string, endings: readonly string[]): readonly string[] {
  const full = join(ROOT, dir);
  if (statSync(full, { throwIfNoEntry: false }) === undefined) return [];
  const found: string[] = [];
  for (const entry of readdirSync(full, { withFileTypes: true })) {
    const path = dir === "." ? entry.name : `${dir}/${entry.name}`;
    if (entry.isDirectory() && !SKIPPED.has(entry.name)) found.push(...filesUnder(path, endings));
    else if (entry.isFile() && endings.some((end) => entry.name.endsWith(end))) found.push(path);
  }
  return found.sort();
}

export function parseFile(path: string): Source {
  return parseText(path, readFileSync(join(ROOT, path), "utf8"));
}

export function parseText(path: string, text: string): Source {
  const tree = ts.createSourceFile(path, text, ts.ScriptTarget.ES2023, true);
  return { path, text, lines: text.split("\n"), tree };
}

export function lineOf(source: Source, node: ts.Node): number {
  return source.tree.getLineAndCharacterOfPosition(node.getStart(source.tree)).line + 1;
}

/** Calls `see` for every node, parents first. */
export function walk(node: ts.Node, see: (node: ts.Node) => void): void {
  see(node);
  ts.forEachChild(node, (child) => walk(child, see));
}

/** Static imports, re-exports and `import("…")`. */
export function importsOf(source: Source): readonly Import[] {
  const found: Import[] = [];
  const add = (node: ts.Node, literal: ts.Node | undefined, value: boolean, dynamic: boolean) => {
    if (literal === undefined || !ts.isStringLiteralLike(literal)) return;
    const specifier = literal.text;
    const target = specifier.startsWith(".")
      ? posix.normalize(posix.join(posix.dirname(source.path), specifier))
      : undefined;
    found.push({ line: lineOf(source, node), specifier, target, value, dynamic });
  };
  walk(source.tree, (node) => {
    if (ts.isImportDeclaration(node)) {
      add(node, node.moduleSpecifier, importsValue(node.importClause), false);
    } else if (ts.isExportDeclaration(node)) {
      add(node, node.moduleSpecifier, !node.isTypeOnly, false);
    } else if (ts.isCallExpression(node) && node.expression.kind === ts.SyntaxKind.ImportKeyword) {
      add(node, node.arguments[0], true, true);
    }
  });
  return found;
}

function importsValue(clause: ts.ImportClause | undefined): boolean {
  if (clause === undefined) return true;
  if (clause.phaseModifier === ts.SyntaxKind.TypeKeyword) return false;
  const bindings = clause.namedBindings;
  if (clause.name !== undefined || bindings === undefined || !ts.isNamedImports(bindings)) {
    return true;
  }
  return bindings.elements.some((element) => !element.isTypeOnly);
}
