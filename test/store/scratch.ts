// A directory of a test's own, removed afterwards.

import fs from "node:fs";
import os from "node:os";
import path from "node:path";

export async function inScratch<T>(use: (directory: string) => T | Promise<T>): Promise<T> {
  const directory = fs.mkdtempSync(path.join(os.tmpdir(), "store-test-"));
  try {
    return await use(directory);
  } finally {
    fs.rmSync(directory, { recursive: true, force: true });
  }
}
