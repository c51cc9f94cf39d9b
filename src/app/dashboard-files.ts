// Reads what scripts/build-dashboard.ts built, once at the start: a few files, some 100 KB in all.

import { createHash } from "node:crypto";
import { readFileSync, readdirSync } from "node:fs";
import path from "node:path";
import type { StaticFile, StaticFiles } from "../http/dashboard.ts";

const TYPES: Readonly<Record<string, string>> = {
  ".html": "text/html; charset=utf-8",
  ".css": "text/css; charset=utf-8",
  ".js": "text/javascript; charset=utf-8",
  ".svg": "image/svg+xml",
};

/** Vite names what it builds so; what it copies keeps its name. */
const HASHED = /^assets\/.+-[\w-]{8}\.\w+$/;

/** All files below `dir` of kinds that a browser asks for; none if it was not built. */
export function readDashboard(dir: string): StaticFiles {
  const files = new Map<string, StaticFile>();
  for (const name of namesIn(dir)) {
    const type = TYPES[path.extname(name)];
    if (type === undefined) continue;
    const body = readFileSync(path.join(dir, name));
    const etag = `"${createHash("sha256").update(body).digest("base64url").slice(0, 22)}"`;
    files.set(name, { body, type, etag, immutable: HASHED.test(name) });
  }
  return files;
}

function namesIn(dir: string): readonly string[] {
  try {
    return readdirSync(dir, { recursive: true, encoding: "utf8" }).filter(
      (name) => path.extname(name) !== "",
    );
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return [];
    throw error;
  }
}
