// Some of the rounds of `npm run verify:full-disk`, which fails every write and every sync of a scenario.

import { execFile } from "node:child_process";
import path from "node:path";
import { promisify } from "node:util";
import { expect, test } from "vitest";

test("a disk that is full from some write on, or fails a sync: refused or stopped, never half believed", async () => {
  const program = path.join(import.meta.dirname, "..", "verify", "full-disk.ts");
  const args = ["--import", "tsx", program, "--every", "37"];
  const { stdout } = await promisify(execFile)(process.execPath, args, { timeout: 240_000 });
  const report = JSON.parse(stdout.trimEnd().split("\n").at(-1)!) as Record<string, unknown>;
  expect(report).toMatchObject({ wrong: [] });
});
