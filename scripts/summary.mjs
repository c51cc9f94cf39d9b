// Prints "<passed> <failed>" of a vitest run from its JSON report. A run that failed without a
// failed test (a file that does not load, an error between tests, no report at all) counts as one.

import { readFileSync } from "node:fs";

const [reportPath, exitCode] = process.argv.slice(2);
let passed = 0;
let failed = 0;
try {
  const report = JSON.parse(readFileSync(reportPath, "utf8"));
  passed = report.numPassedTests;
  failed = report.numFailedTests;
  for (const file of report.testResults) {
    if (file.status === "failed" && file.assertionResults.every((t) => t.status !== "failed")) {
      failed++;
    }
  }
} catch (error) {
  process.stderr.write(`no report of the tests: ${error.message}\n`);
  failed = 1;
}
if (exitCode !== "0" && failed === 0) failed = 1;
process.stdout.write(`${passed} ${failed}\n`);
