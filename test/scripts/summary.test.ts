import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, test } from "vitest";

const dir = mkdtempSync(join(tmpdir(), "summary-"));
afterAll(() => rmSync(dir, { recursive: true }));

/** What the last line of a test run is made from. */
function summary(report: object | string | undefined, exitCode: number): string {
  const path = join(dir, "report.json");
  rmSync(path, { force: true });
  if (report !== undefined) {
    writeFileSync(path, typeof report === "string" ? report : JSON.stringify(report));
  }
  const args = ["scripts/summary.mjs", path, String(exitCode)];
  return execFileSync(process.execPath, args, { encoding: "utf8", stdio: "pipe" }).trim();
}

const report = (passed: number, failed: number, ...files: object[]) => ({
  numPassedTests: passed,
  numFailedTests: failed,
  testResults: files,
});
const file = (status: string, ...tests: string[]) => ({
  status,
  assertionResults: tests.map((one) => ({ status: one })),
});

test("tests are counted", () => {
  expect(summary(report(3, 0, file("passed", "passed")), 0)).toBe("3 0");
  expect(summary(report(3, 2, file("failed", "passed", "failed")), 1)).toBe("3 2");
});

test("a failure that is no test still counts: a file that does not load, an error beside the tests, no report", () => {
  expect(summary(report(3, 0, file("passed", "passed"), file("failed")), 1)).toBe("3 1");
  expect(summary(report(3, 0, file("passed", "passed")), 1)).toBe("3 1");
  expect(summary(undefined, 1)).toBe("0 1");
  expect(summary('{"half', 137)).toBe("0 1");
  expect(summary(undefined, 0)).toBe("0 1");
});
